"""Judges the networks that runs kept by labelled sets, afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from studies.measure import LABELLED_CLIPS, Labelled, labelled_features, read_out_labelled
from studies.runs import Run, Study
from tubeletx_train.common.device import resolve_device
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.evaluation.pretrained import load_pretraining, trained_net


def judge_networks(
    study: Study, runs: Sequence[Run], labelled: dict[str, str], *, group_pattern: str | None, device: str
) -> None:
    """Judge each network by each set and write that into the run's result, in place of what was there of the set.

    Args:
        study: Whose runs.
        runs: Those that are wanted; incomplete ones are left out.
        labelled: Sets by name, see `Labelled.read`.
        group_pattern: Likewise.
        device: That the networks run on.

    Raises:
        UsageError: See `Study.networks`.
    """
    complete = study.networks(runs)
    data = config_from_tree(PretrainConfig, complete[0][1]["config"], "studies").data
    sets = {
        name: Labelled.read(path, data, clips=LABELLED_CLIPS, group_pattern=group_pattern)
        for name, path in labelled.items()
    }
    place = resolve_device(device)
    for run, result in tqdm(complete, desc="judging", unit="run", disable=None):
        encoder = trained_net(*load_pretraining(study.encoder(run)), place).eval().encoder
        for name, videos in sets.items():
            result["labelled"] = result.get("labelled", {}) | read_out_labelled(
                name, labelled_features(encoder, videos), videos
            )
        study.write_result(run, result)
