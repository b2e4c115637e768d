"""Motion probe: do frozen features tell how a patch moves over a still frame?

Every clip shows one real frame, held still, and one patch of another video that moves in one of the ways of
`motions`. Neither frame nor patch says which, so an accuracy above chance is read from motion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tubeletx_train.data import PairBatch
from tubeletx_train.data.augment import freeze
from tubeletx_train.evaluation.embed import embed
from tubeletx_train.evaluation.motions import MOTION_NAMES, MOTION_PAIRS, MOTIONS, Motion, motion_tubelets
from tubeletx_train.evaluation.readout import Readout, read_out


@dataclass(frozen=True)
class ProbeTask:
    """Labelled clips.

    Attributes:
        clips: (N, 3, T, H, W) uint8.
        labels: (N,) int64, indices into MOTION_NAMES.
    """

    clips: Tensor
    labels: Tensor


def draw_probe_task(batches: Iterable[PairBatch], count: int, *, seed: int = 0) -> ProbeTask:
    """Labelled clips from batches of pairs: clip 1 gives the still frame, clip 2 the patch.

    Args:
        batches: At least `count` pairs, on the CPU; an iterator is left where the task was complete.
        count: Clips N wanted; the motions come as nearly equally often as N allows.
        seed: Seed of labels and motions.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(count) % len(MOTION_NAMES))[torch.randperm(count, generator=generator)]
    clips: list[Tensor] = []
    done = 0
    for batch in batches:
        rows = labels[done : done + len(batch.clip_1)]
        clips.append(paste_motions(batch.clip_1[: len(rows)], batch.clip_2[: len(rows)], rows, generator))
        done += len(rows)
        if done == count:
            break
    if done < count:
        raise ValueError(f"batches: got {done} pairs, needs count={count}")
    return ProbeTask(torch.cat(clips), labels)


def paste_motions(
    background: Tensor,
    source: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    motions: Mapping[str, Motion] = MOTIONS,
) -> Tensor:
    """Clips of a patch that moves as its label says over a still frame.

    Args:
        background: (B, 3, T, H, W) uint8; its first frame is held.
        source: Likewise; its first frame gives the patch.
        labels: (B,) int64, places in `motions`.
        generator: Draws everything else.
        motions: The ways to move.

    Returns:
        (B, 3, T, H, W) uint8.
    """
    num_frames, height, width = background.shape[2:]
    tubelets = motion_tubelets(
        labels, num_frames=num_frames, height=height, width=width, generator=generator, motions=motions
    )
    (clips,) = tubelets.paste([freeze(background)], tubelets.crop(source), inplace=True)
    return clips


def motion_probe(encoder: nn.Module, train: ProbeTask, test: ProbeTask, batch_size: int = 64) -> Readout:
    """Fit classifiers on standardised frozen features of one task and judge them by another.

    Args:
        encoder: (B, 3, T, H, W) normalised floats to (B, D).
        train: Clips to fit on.
        test: Clips of other videos.
        batch_size: Clips embedded at a time.
    """
    fit, judge = ((embed(encoder, task.clips, batch_size), task.labels) for task in (train, test))
    return read_out(fit, judge, MOTION_NAMES, MOTION_PAIRS)
