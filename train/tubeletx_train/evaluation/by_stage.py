"""Labelled clips read out of every stage of an encoder: classes, pairs of classes, and clips played backwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tubeletx_train.evaluation.motion_probe import ProbeTask
from tubeletx_train.evaluation.readout import Readout, read_out

# Puts clips through a network: features by stage.
Embed = Callable[[Tensor], dict[str, Tensor]]
Pairs = Sequence[tuple[str, str]]


def read_stages(
    fit: Mapping[str, Tensor],
    judge: Mapping[str, Tensor],
    labels: tuple[Tensor, Tensor],
    names: Sequence[str],
    pairs: Pairs = (),
) -> list[Readout]:
    """What is read out of each stage.

    Args:
        fit: Features (N, D) by stage, to fit on.
        judge: Likewise, of other clips.
        labels: Of the clips of both.
        names: Classes.
        pairs: Classes to tell apart by twos.
    """
    return [read_out((fit[stage], labels[0]), (judge[stage], labels[1]), names, pairs) for stage in fit]


def axis_means(found: Sequence[Readout], axes: Mapping[str, Pairs]) -> dict[str, list[float]]:
    """By axis and stage the mean accuracy over its pairs."""
    means = {}
    for axis, pairs in axes.items():
        names = [" / ".join(pair) for pair in pairs]
        means[axis] = [sum(readout.pairs[name] for name in names) / len(names) for readout in found]
    return means


def taken_for_opposite(
    fit: Mapping[str, Tensor],
    fit_labels: Tensor,
    judge: ProbeTask,
    names: Sequence[str],
    opposites: Pairs,
    embed: Embed,
) -> list[float]:
    """Clips played backwards: the share that is taken for the opposite, by what was fitted on clips that were not.

    Args:
        fit: Features by stage, to fit on.
        fit_labels: Of their clips.
        judge: Clips, of which those with an opposite count.
        names: Classes.
        opposites: Classes that, played backwards, are each other.
        embed: The encoder.

    Returns:
        By stage, the mean over the pairs; chance is 1/2.
    """
    opposite = torch.full((len(names),), -1)
    for pair in opposites:
        first, second = (names.index(name) for name in pair)
        opposite[first], opposite[second] = second, first
    labels = opposite[judge.labels]
    rows = labels >= 0
    backwards = embed(judge.clips[rows].flip(2))
    found = read_stages(fit, backwards, (fit_labels, labels[rows]), names, opposites)
    return [sum(readout.pairs.values()) / len(readout.pairs) for readout in found]
