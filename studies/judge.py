"""Judges the networks that runs kept afterwards: by labelled sets, and by motions in longer clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tqdm import tqdm

from studies.measure import LABELLED_CLIPS, Labelled, draw_motions, labelled_features, read_out_labelled
from studies.runs import Run, Study
from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.evaluation.motion_probe import motion_probe
from tubeletx_train.evaluation.pretrained import load_pretraining, trained_net


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
        num_frames: Lengths of clips to judge by the motion probe with. A motion takes the whole of its clip, so that in
            one of twice the frames it is half as fast; with the result in "probes", by the number of frames.
        device: That the networks run on.

    Raises:
        UsageError: See `Study.networks`; or there is nothing to judge by.
    """
    if not labelled and not num_frames:
        raise UsageError("--labelled, --num_frames: got neither, needs something to judge by")
    complete = study.networks(runs)
    data = config_from_tree(PretrainConfig, complete[0][1]["config"], "studies").data
    sets = {
        name: Labelled.read(path, data, clips=LABELLED_CLIPS, group_pattern=group_pattern)
        for name, path in labelled.items()
    }
    # The study's own list: results that were collected tell where it lay on the machine that ran them.
    data = dataclasses.replace(data, videos=str(study.manifest))
    motions = {frames: draw_motions(dataclasses.replace(data, num_frames=frames)) for frames in num_frames}
    place = resolve_device(device)
    for run, result in tqdm(complete, desc="judging", unit="run", disable=None):
        encoder = trained_net(*load_pretraining(study.encoder(run)), place).eval().encoder
        for name, videos in sets.items():
            result["labelled"] = result.get("labelled", {}) | read_out_labelled(
                name, labelled_features(encoder, videos), videos
            )
        for frames, (fit, judge) in motions.items():
            probe = {str(frames): dataclasses.asdict(motion_probe(encoder, fit, judge))}
            result["probes"] = result.get("probes", {}) | probe
        study.write_result(run, result)
