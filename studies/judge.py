"""Judges the networks that runs kept afterwards: by labelled sets, and by clips of other lengths."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from studies.measure import LABELLED_CLIPS, Labelled, draw_motions, labelled_features, read_out_labelled
from studies.runs import Run, Study
from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.data import DataConfig
from tubeletx_train.evaluation.motion_probe import motion_probe
from tubeletx_train.evaluation.pretrained import load_pretraining, trained_net
from tubeletx_train.evaluation.probe import with_frames


def judge_networks(
    study: Study,
    runs: Sequence[Run],
    labelled: dict[str, str],
    *,
    group_pattern: str | None,
    num_frames: Sequence[int],
    device: str,
) -> None:
    """Judge each network and write that into the run's result, in place of what was there of the same kind.

    Args:
        study: Whose runs.
        runs: Those that are wanted; incomplete ones are left out.
        labelled: Sets by name, see `Labelled.read`.
        group_pattern: Likewise.
        num_frames: Lengths of clips to judge by: the motion probe, in which a motion takes the whole of its clip, and
            the sets, at strides with which a clip lasts as long as one of the run. None judges by the sets alone, in
            clips as those of the run.
        device: That the networks run on.

    Raises:
        UsageError: See `Study.networks`; or there is nothing to judge by.
    """
    if not labelled and not num_frames:
        raise UsageError("--labelled, --num_frames: got neither, needs something to judge by")
    complete = study.networks(runs)
    data = config_from_tree(PretrainConfig, complete[0][1]["config"], "studies").data
    # The study's own list: results that were collected tell where it lay on the machine that ran them.
    data = dataclasses.replace(data, videos=str(study.manifest))
    motions = {frames: draw_motions(with_frames(data, frames, None)) for frames in num_frames}
    sets = {
        (frames, name): Labelled.read(
            path, lasting_as_long(data, frames), clips=LABELLED_CLIPS, group_pattern=group_pattern
        )
        for name, path in labelled.items()
        for frames in num_frames or [data.num_frames]
    }
    place = resolve_device(device)
    for run, result in tqdm(complete, desc="judging", unit="run", disable=None):
        encoder = trained_net(*load_pretraining(study.encoder(run)), place).eval().encoder
        found: dict[int, dict[str, Any]] = {frames: {} for frames, _ in sets}
        for (frames, name), videos in sets.items():
            found[frames] |= read_out_labelled(name, labelled_features(encoder, videos), videos)
        for frames, (fit, judge) in motions.items():
            by_frames = result.setdefault("by_frames", {}).setdefault(str(frames), {})
            by_frames["probe"] = dataclasses.asdict(motion_probe(encoder, fit, judge))
            by_frames["labelled"] = by_frames.get("labelled", {}) | found.get(frames, {})
        if not motions:
            result["labelled"] = result.get("labelled", {}) | found[data.num_frames]
        study.write_result(run, result)


def lasting_as_long(data: DataConfig, num_frames: int) -> DataConfig:
    """Clips of so many frames, at a stride with which they last about as long as those of `data`."""
    stride = data.middle_stride * data.num_frames // num_frames
    return with_frames(data, num_frames, max(stride, 1))
