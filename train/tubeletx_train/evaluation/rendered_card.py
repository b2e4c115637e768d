"""The report card's second part: rendered actions that only motion tells apart, read from frozen features by stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tubeletx_train.config.data import DataConfig
from tubeletx_train.data import DataError
from tubeletx_train.evaluation.by_stage import Embed, Pairs, axis_means, read_stages, taken_for_opposite
from tubeletx_train.evaluation.ceiling import trained_with_labels
from tubeletx_train.evaluation.labelled import read_labelled
from tubeletx_train.evaluation.motion_probe import ProbeTask
from tubeletx_train.evaluation.readout import Readout
from tubeletx_train.models import VideoEncoder
from tubeletx_train.rendered.render import MANIFEST, settings_of
from tubeletx_train.rendered.sets import rendered_set
from tubeletx_train.rendered.splits import OTHER_MOTION, TEST, TRAIN

# Under this name the accuracy over all classes stands among the controls'.
ALL = "all classes"
# Pairs of classes that are named as taken for one another.
_MOST_CONFUSED = 8


@dataclass(frozen=True)
class Actions:
    """Clips of a rendered set, uint8 (N, 3, T, S, S).

    Attributes:
        name: Of the set.
        fit: To fit on.
        judge: Other cameras, speeds and looks.
        other_motion: Besides, another motion of the same label; None where it was left out.
        names: Classes.
        pairs: Those that differ in one thing, by what that is.
        opposites: Those that are each other played backwards.
    """

    name: str
    fit: ProbeTask
    judge: ProbeTask
    other_motion: ProbeTask | None
    names: tuple[str, ...]
    pairs: Mapping[str, Pairs]
    opposites: Pairs


@dataclass
class ActionGrades:
    """What was found of one encoder; shares from 0 to 1, one for each stage.

    Attributes:
        name: Of the set.
        videos: Fitted on, judged by.
        chance: Over all classes.
        classes: Accuracy over all classes.
        axes: Accuracy of a choice of two, by what the two differ in; chance is 1/2.
        pairs: Likewise by pair of classes.
        other_motion: Accuracy over all classes where another motion has the same label.
        controls: By control, as `axes`, and over all classes under "all classes": "untrained", "one frame" (the middle
            one), "mean frame", "shuffled frames".
        backwards: Share of videos played backwards that are taken for the opposite of two.
        confused: At the best stage, two classes and the share of their videos that are taken for the other.
        ceiling: Accuracy over all classes after training with the labels.
    """

    name: str
    videos: tuple[int, int]
    chance: float
    classes: list[float]
    axes: dict[str, list[float]]
    pairs: dict[str, list[float]]
    other_motion: list[float] | None = None
    controls: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    backwards: list[float] | None = None
    confused: list[tuple[str, str, float]] = field(default_factory=list)
    ceiling: float | None = None


def read_actions(folder: str, num_frames: int, side: int, *, most: tuple[int, int] | None, num_workers: int) -> Actions:
    """Whole videos of a folder that `render` wrote, their frames evenly spaced.

    Args:
        folder: That folder.
        num_frames: Frames of a clip.
        side: Height and width of a clip, pixels.
        most: Videos of a class to fit on and to judge by; None takes all, and those of another motion.
        num_workers: Decoding processes.

    Raises:
        DataError: The folder holds no rendered set, or one that cannot be read or lacks a split.
    """
    settings = settings_of(Path(folder))
    manifest = Path(folder) / MANIFEST
    if not manifest.is_file():
        raise DataError(f"{folder}: has no {MANIFEST} yet; the same `tubeletx-train render {settings.set}` goes on")
    data = DataConfig(
        videos=str(manifest),
        num_frames=settings.num_frames,
        strides=(1,),
        crop_size=side,
        decode_size=None,
        num_workers=num_workers,
    )
    by_split: dict[str | None, int] | None = None if most is None else {TRAIN: most[0], TEST: most[1]}
    videos, bad = read_labelled(str(manifest), data, clips=1, most=by_split)
    if bad:
        raise DataError(f"{folder}: {len(bad)} videos cannot be read (the first: {bad[0]}); render it anew")
    places = ((torch.arange(num_frames) + 0.5) * settings.num_frames / num_frames).long()
    chosen = rendered_set(settings.set)
    unknown = set(videos.names) ^ set(chosen.class_names)
    if unknown:
        raise DataError(f"{folder}: its classes are not those of {settings.set} ({sorted(unknown)[0]})")

    def task(split: str) -> ProbeTask | None:
        rows = torch.tensor([own == split for own in videos.splits])
        return ProbeTask(videos.clips[rows, 0][:, :, places], videos.labels[rows]) if rows.any() else None

    fit, judge = task(TRAIN), task(TEST)
    if fit is None or judge is None or len(set(fit.labels.tolist())) < len(videos.names):
        raise DataError(f"{folder}: needs videos of every class to fit on and to judge by; render 3 a class or more")
    return Actions(settings.set, fit, judge, task(OTHER_MOTION), tuple(videos.names), chosen.pairs, chosen.opposites)


def grade_actions(
    actions: Actions, embed: Embed, untrained: Embed | None, changes: Mapping[str, Callable[[Tensor], Tensor]]
) -> ActionGrades:
    """What is asked of one encoder about actions.

    Args:
        actions: The clips.
        embed: The encoder.
        untrained: The same network with weights drawn anew; None leaves it out.
        changes: By name, what controls make of clips; with none, clips are not played backwards either.
    """
    fit, judge = embed(actions.fit.clips), embed(actions.judge.clips)
    found = _read(fit, judge, actions)
    classes = [readout.linear for readout in found]
    best = classes.index(max(classes))
    grades = ActionGrades(
        name=actions.name,
        videos=(len(actions.fit.labels), len(actions.judge.labels)),
        chance=found[0].chance,
        classes=classes,
        axes=axis_means(found, actions.pairs),
        pairs={pair: [readout.pairs[pair] for readout in found] for pair in found[0].pairs},
        confused=confused(found[best].confusion, actions.names),
    )
    if actions.other_motion is not None:
        harder = embed(actions.other_motion.clips)
        labels = actions.fit.labels, actions.other_motion.labels
        grades.other_motion = [readout.linear for readout in read_stages(fit, harder, labels, actions.names)]
    if untrained is not None:
        grades.controls["untrained"] = _shares(untrained(actions.fit.clips), untrained(actions.judge.clips), actions)
    for name, change in changes.items():
        changed_fit, changed_judge = (embed(change(task.clips)) for task in (actions.fit, actions.judge))
        grades.controls[name] = _shares(changed_fit, changed_judge, actions)
    if changes:
        grades.backwards = taken_for_opposite(
            fit, actions.fit.labels, actions.judge, actions.names, actions.opposites, embed
        )
    return grades


def _read(fit: dict[str, Tensor], judge: dict[str, Tensor], actions: Actions) -> list[Readout]:
    pairs = list(dict.fromkeys(pair for pairs in actions.pairs.values() for pair in pairs))
    return read_stages(fit, judge, (actions.fit.labels, actions.judge.labels), actions.names, pairs)


def _shares(fit: dict[str, Tensor], judge: dict[str, Tensor], actions: Actions) -> dict[str, list[float]]:
    found = _read(fit, judge, actions)
    return axis_means(found, actions.pairs) | {ALL: [readout.linear for readout in found]}


def confused(counts: Sequence[Sequence[int]], names: Sequence[str]) -> list[tuple[str, str, float]]:
    """Classes that are taken for one another, and the share of the videos of both that are; the commonest first.

    Args:
        counts: A row for each class, a column for each prediction.
        names: Classes.
    """
    found = []
    for i, one in enumerate(names):
        for j in range(i):
            videos = sum(counts[i]) + sum(counts[j])
            if wrong := counts[i][j] + counts[j][i]:
                found.append((names[j], one, wrong / videos))
    return sorted(found, key=lambda item: -item[2])[:_MOST_CONFUSED]


def actions_ceiling(encoder: VideoEncoder, actions: Actions, *, steps: int, batch_size: int, seed: int) -> float:
    """Accuracy over all classes once an encoder is trained with the labels, in place.

    Each step sees its clips moved, by up to an eighth of the side and of the frames.
    """
    clips, labels = actions.fit.clips, actions.fit.labels
    most = [max(size // 8, 1) for size in clips.shape[2:]]

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(clips), (batch_size,), generator=generator)
        moves = [int(torch.randint(-size, size + 1, (), generator=generator)) for size in most]
        return clips[rows].roll(moves, (2, 3, 4)), labels[rows]

    return trained_with_labels(encoder, draw, actions.judge, len(actions.names), steps=steps, seed=seed).accuracy
