"""A motion report card: what the frozen features of any video encoder tell about motion, stage by stage."""

from __future__ import annotations

import dataclasses
import logging
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tubeletx.config import TubeletConfig
from tubeletx.ops import draw_leaves
from tubeletx.sampler import TubeletSampler
from tubeletx.tubelets import Tubelets
from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.files import writable_folder, write_json, write_text
from tubeletx_train.common.limits import require_at_least, require_seed
from tubeletx_train.common.machine import made_on
from tubeletx_train.config.data import DataConfig
from tubeletx_train.data import prepare_videos
from tubeletx_train.data.augment import freeze
from tubeletx_train.data.loader import held_out_batches
from tubeletx_train.evaluation.by_stage import axis_means, read_stages, taken_for_opposite
from tubeletx_train.evaluation.ceiling import supervised_ceiling
from tubeletx_train.evaluation.motion_probe import ProbeTask, paste_motions
from tubeletx_train.evaluation.motions import MOTION_NAMES, MOTION_PAIRS, MOTIONS, SPEEDS, Motion
from tubeletx_train.evaluation.readout import Readout
from tubeletx_train.evaluation.rendered_card import ActionGrades, Actions, actions_ceiling, grade_actions, read_actions
from tubeletx_train.evaluation.stages import OurEncoder, StagedEncoder, load_stages
from tubeletx_train.figures.report_card import Answers, Card, card_page, card_picture

_log = logging.getLogger(__name__)

# What is asked, and by which pairs of motions that differ in nothing else.
AXES: dict[str, tuple[tuple[str, str], ...]] = {
    "direction": (("right", "left"), ("down", "up")),
    "acceleration": (("accelerating", "decelerating"),),
    # Not "left then up" against "up then left": they pass different corners, which frames in any order show.
    "order": (("out and back", "back and out"),),
    "turn": (
        ("one turn clockwise", "one turn anticlockwise"),
        ("two turns clockwise", "two turns anticlockwise"),
        ("spin clockwise", "spin anticlockwise"),
    ),
    "number of turns": (
        ("one turn clockwise", "two turns clockwise"),
        ("one turn anticlockwise", "two turns anticlockwise"),
    ),
    "scale": (("growing", "shrinking"),),
}
# Motions that, played backwards, are each other.
_MIRRORED = (
    ("right", "left"),
    ("down", "up"),
    ("one turn clockwise", "one turn anticlockwise"),
    ("two turns clockwise", "two turns anticlockwise"),
    ("spin clockwise", "spin anticlockwise"),
    ("growing", "shrinking"),
)
_COUNTS = {"small": (240, 240, 50), "full": (1600, 1200, 200)}  # clips to fit on, to judge by, triples of paths
# Videos of a class of a rendered set: to fit on, to judge by; None is all.
_VIDEOS: dict[str, tuple[int, int] | None] = {"small": (5, 4), "full": None}
_SMALL_FRAMES, _SMALL_SIDE = 8, 64


@dataclass(frozen=True)
class ReportConfig:
    """Settings of a report card.

    Attributes:
        checkpoint: The encoder: a checkpoint of ours, an export, another method's file or the folder of a run; the
            folder of a model of transformers; or "module:function" that returns a torch module.
        compare: More of these, for the same page.
        names: What the page calls them, in their order; what they were given by otherwise.
        size: "small" takes fewer clips, of 8 frames of 64 pixels where the encoder takes any size; "full" many clips of
            the encoder's own size.
        rendered: The folder of a set that `render` wrote, whose actions are asked for too; null asks for none.
        videos: A manifest or folder of videos that still frames and patches are taken from; null draws them.
        split: Keep only the manifest's rows of this split.
        num_frames: Frames of a clip; null as `size` says.
        side: Height and width of a clip, pixels; null as `size` says.
        controls: Whether to ask again of one frame, of shuffled frames and of clips played backwards, and of actions
            their mean frame.
        untrained: Whether to ask the same network with weights drawn anew.
        ceiling_steps: Also train an encoder of ours with the labels, of the motions and of the actions, for so many
            steps each; 0 leaves it out.
        seed: Seed of the draws.
        device: "auto", "cpu", "cuda" or "cuda:N".
        num_workers: Decoding processes.
        output: Folder for report.html, report.png and report.json.
    """

    checkpoint: str
    compare: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    size: Literal["small", "full"] = "small"
    rendered: str | None = None
    videos: str | None = None
    split: str | None = None
    num_frames: int | None = None
    side: int | None = None
    controls: bool = True
    untrained: bool = True
    ceiling_steps: int = 0
    seed: int = 11
    device: str = "auto"
    num_workers: int = 2
    output: str = "report"

    def __post_init__(self) -> None:
        require_at_least(self, 0, "ceiling_steps", "num_workers")
        require_seed(self)
        require_at_least(self, 2, "num_frames")
        require_at_least(self, 16, "side")
        count = 1 + len(self.compare)
        if self.names and len(self.names) != count:
            raise ValueError(f"names: got {len(self.names)}, needs one for each of {count} encoders")


@dataclass(frozen=True)
class Labelled:
    """Labelled clips to fit on and to judge by, both (N, 3, T, S, S) uint8."""

    fit: ProbeTask
    judge: ProbeTask
    names: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """All clips of a report.

    Attributes:
        motions: The twenty motions.
        speeds: The same places at another speed.
        paths: Four clips for each triple, (4, N, 3, T, S, S): an anchor, its path in another look, and in that look
            another path, and the anchor's backwards.
        plain: Still frames with nothing on them, for an untrained network's statistics and the ceiling.
        actions: Of a rendered set, where there is one.
    """

    motions: Labelled
    speeds: Labelled
    paths: Tensor
    plain: Tensor
    actions: Actions | None = None


@dataclass
class Grades:
    """What was found of one encoder; shares from 0 to 1.

    Attributes:
        name: On the page.
        kind: What it is.
        size: Frames, height and width of the clips.
        stages: Names.
        axes: By axis, the accuracy of a choice of two at every stage; chance is 1/2.
        pairs: Likewise by pair of motions.
        motions: Accuracy over all twenty motions at every stage.
        one_frame: As `axes`, of clips that show one frame all along.
        shuffled: As `axes`, of clips whose frames are shuffled.
        backwards: Share of clips played backwards that are taken for the opposite motion, at every stage.
        untrained: As `axes`, of the network with fresh weights.
        ceiling: Accuracy over the twenty motions after training with the labels.
        actions: What was found of rendered actions.
        seconds: That it took.
        clips: How many clips went through the network.
        peak_memory: Largest resident memory of the process until then, bytes.
    """

    name: str
    kind: str
    size: tuple[int, int, int]
    stages: list[str] = field(default_factory=list)
    axes: dict[str, list[float]] = field(default_factory=dict)
    pairs: dict[str, list[float]] = field(default_factory=dict)
    motions: list[float] = field(default_factory=list)
    one_frame: dict[str, list[float]] | None = None
    shuffled: dict[str, list[float]] | None = None
    backwards: list[float] | None = None
    untrained: dict[str, list[float]] | None = None
    ceiling: float | None = None
    actions: ActionGrades | None = None
    seconds: float = 0.0
    clips: int = 0
    peak_memory: int = 0


def draw_material(config: ReportConfig, num_frames: int, side: int) -> Material:
    """The clips that all encoders of this input size are asked about; a function of the settings alone."""
    fit, judge, triples = _COUNTS[config.size]
    frames = _still_frames(config, side)
    return Material(
        motions=_labelled(frames, fit, judge, num_frames, config.seed, MOTIONS),
        speeds=_labelled(frames, max(fit // 4, 40), max(judge // 4, 40), num_frames, config.seed + 2, SPEEDS),
        paths=_path_triples(next(frames), next(frames), triples, num_frames, config.seed + 4),
        plain=_lasting(next(frames), num_frames),
        actions=None
        if config.rendered is None
        else read_actions(config.rendered, num_frames, side, most=_VIDEOS[config.size], num_workers=config.num_workers),
    )


def _still_frames(config: ReportConfig, side: int) -> Iterator[Tensor]:
    """Still frames (64, 3, 1, S, S) uint8 without end, no scene twice where they are drawn."""
    if config.videos is None:
        first = 0
        while True:
            ids = torch.arange(first, first + 64)
            yield draw_leaves(ids, num_frames=1, height=side, width=side, seed=config.seed, num_leaves=200)
            first += 64
    data = DataConfig(
        videos=config.videos, split=config.split, num_frames=1, crop_size=side, num_workers=config.num_workers
    )
    videos, _ = prepare_videos(data)
    seed = config.seed
    while True:
        for batch in held_out_batches(videos, data, count=1024, seed=seed):
            yield batch.clip_1
            yield batch.clip_2
        seed += 1


def _lasting(frame: Tensor, num_frames: int) -> Tensor:
    """A still frame (B, 3, 1, S, S) as a clip."""
    return freeze(frame.expand(-1, -1, num_frames, -1, -1))


def _labelled(
    frames: Iterator[Tensor], fit: int, judge: int, num_frames: int, seed: int, motions: dict[str, Motion]
) -> Labelled:
    tasks = []
    for offset, count in enumerate((fit, judge)):
        generator = torch.Generator().manual_seed(seed + offset)
        labels = (torch.arange(count) % len(motions))[torch.randperm(count, generator=generator)]
        clips = []
        for rows in torch.split(labels, 64):
            still = _lasting(next(frames)[: len(rows)], num_frames)
            clips.append(paste_motions(still, next(frames)[: len(rows)], rows, generator, motions))
        tasks.append(ProbeTask(torch.cat(clips), labels))
    return Labelled(tasks[0], tasks[1], tuple(motions))


def _path_triples(first: Tensor, second: Tensor, count: int, num_frames: int, seed: int) -> Tensor:
    """See `Material.paths`: both paths of a triple have the same mean place, so that place tells nothing."""
    side = first.shape[-1]
    repeats = -(-count // len(first))
    looks = [frame.repeat(repeats, 1, 1, 1, 1)[:count] for frame in (first, second)]
    config = TubeletConfig.preset("paper", num_tubelets=1, transforms=(), patch_sides=(48, 64))
    sampler = TubeletSampler(config, seed=seed)
    size = {"num_frames": num_frames, "height": side, "width": side}
    ids = torch.arange(count)
    path, other = sampler(ids, **size), sampler(ids + count, **size)
    moved = other.centers + (path.centers.mean(2, keepdim=True) - other.centers.mean(2, keepdim=True))
    other = dataclasses.replace(path, centers=moved)

    def clip(look: Tensor, source: Tensor, tubelets: Tubelets) -> Tensor:
        still = dataclasses.replace(tubelets, patch_frame=torch.zeros_like(tubelets.patch_frame))
        (pasted,) = still.paste([_lasting(look, num_frames)], still.crop(source), inplace=True)
        return pasted

    anchor = clip(looks[0], looks[1].roll(1, 0), path)
    rest = [clip(looks[1], looks[0].roll(2, 0), tubelets) for tubelets in (path, other, path.reversed())]
    return torch.stack([anchor, *rest])


def grade(name: str, encoder: StagedEncoder, material: Material, config: ReportConfig) -> Grades:
    """Everything that is asked of one encoder."""
    started = time.perf_counter()
    grades = Grades(name, encoder.kind, tuple(material.plain.shape[2:]))  # type: ignore[arg-type]
    count = 0

    def embed(network: StagedEncoder, clips: Tensor) -> dict[str, Tensor]:
        nonlocal count
        count += len(clips)
        return network.embed(clips)

    motions, speeds = material.motions, material.speeds
    fit, judge = embed(encoder, motions.fit.clips), embed(encoder, motions.judge.clips)
    grades.stages = list(fit)
    found = _read_motions(fit, judge, motions)
    grades.motions = [readout.linear for readout in found]
    grades.pairs = {pair: [readout.pairs[pair] for readout in found] for pair in found[0].pairs}
    grades.axes = axis_means(found, AXES)
    grades.axes["speed"] = _read_speeds(embed(encoder, speeds.fit.clips), embed(encoder, speeds.judge.clips), speeds)
    paths = [embed(encoder, clips) for clips in material.paths]
    grades.axes |= _read_paths(paths)
    if config.controls:
        grades.one_frame = _controlled(encoder, motions, speeds, _hold_middle, embed)
        grades.shuffled = _controlled(encoder, motions, speeds, _Shuffle(config.seed), embed)
        grades.backwards = taken_for_opposite(
            fit, motions.fit.labels, motions.judge, motions.names, _MIRRORED, partial(embed, encoder)
        )
    if config.untrained and (twin := encoder.untrained(material.plain, config.seed)) is not None:
        values = _read_motions(embed(twin, motions.fit.clips), embed(twin, motions.judge.clips), motions)
        grades.untrained = axis_means(values, AXES)
        fit_speeds, judge_speeds = embed(twin, speeds.fit.clips), embed(twin, speeds.judge.clips)
        grades.untrained["speed"] = _read_speeds(fit_speeds, judge_speeds, speeds)
        grades.untrained |= _read_paths([embed(twin, clips) for clips in material.paths])
    if material.actions is not None:
        twin = encoder.untrained(material.actions.fit.clips[:64], config.seed) if config.untrained else None
        changes: dict[str, Callable[[Tensor], Tensor]] = {
            "one frame": _hold_middle,
            "mean frame": _hold_mean,
            "shuffled frames": _Shuffle(config.seed),
        }
        grades.actions = grade_actions(
            material.actions,
            partial(embed, encoder),
            None if twin is None else partial(embed, twin),
            changes if config.controls else {},
        )
    if config.ceiling_steps:
        _add_ceilings(grades, encoder, material, config)
    grades.seconds = time.perf_counter() - started
    grades.clips = count
    grades.peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return grades


def _read_motions(fit: dict[str, Tensor], judge: dict[str, Tensor], motions: Labelled) -> list[Readout]:
    return read_stages(fit, judge, (motions.fit.labels, motions.judge.labels), motions.names, MOTION_PAIRS)


def _read_speeds(fit: dict[str, Tensor], judge: dict[str, Tensor], speeds: Labelled) -> list[float]:
    found = read_stages(fit, judge, (speeds.fit.labels, speeds.judge.labels), speeds.names)
    return [readout.linear for readout in found]


def _read_paths(paths: list[dict[str, Tensor]]) -> dict[str, list[float]]:
    """How often the anchor is nearer to its own path in another look than to another path in that look."""
    path, backwards = [], []
    for stage in paths[0]:
        together = torch.cat([features[stage] for features in paths])
        mean, spread = together.mean(0), together.std(0).clamp(min=1e-6)
        anchor, same, other, mirrored = ((features[stage] - mean) / spread for features in paths)
        near = cosine_similarity(anchor, same)
        path.append(_share_above(near, cosine_similarity(anchor, other)))
        backwards.append(_share_above(near, cosine_similarity(anchor, mirrored)))
    return {"path": path, "path or its reverse": backwards}


def _share_above(one: Tensor, other: Tensor) -> float:
    """Ties count half."""
    return ((one > other).float() + 0.5 * (one == other).float()).mean().item()


def _hold_middle(clips: Tensor) -> Tensor:
    middle = clips.shape[2] // 2
    return clips[:, :, middle : middle + 1].expand_as(clips)


def _hold_mean(clips: Tensor) -> Tensor:
    # Clip by clip, as floats of all would be a large multiple of the bytes.
    means = torch.stack([clip.float().mean(1, keepdim=True).round().byte() for clip in clips])
    return means.expand_as(clips)


@dataclass
class _Shuffle:
    """Shuffles the frames of each clip, none like the next."""

    seed: int

    def __call__(self, clips: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.rand(len(clips), clips.shape[2], generator=generator).argsort(1)
        return torch.stack([clip[:, rows] for clip, rows in zip(clips, order, strict=True)])


def _controlled(
    encoder: StagedEncoder, motions: Labelled, speeds: Labelled, change: Any, embed: Any
) -> dict[str, list[float]]:
    """The axes once more, fitted and judged on changed clips."""
    fit, judge = (embed(encoder, change(task.clips)) for task in (motions.fit, motions.judge))
    axes = axis_means(_read_motions(fit, judge, motions), AXES)
    fit, judge = (embed(encoder, change(task.clips)) for task in (speeds.fit, speeds.judge))
    return axes | {"speed": _read_speeds(fit, judge, speeds)}


def _add_ceilings(grades: Grades, encoder: StagedEncoder, material: Material, config: ReportConfig) -> None:
    if not isinstance(encoder, OurEncoder):
        _log.warning(
            "ceiling_steps: only an encoder of this package is trained with the labels; %s is not", encoder.kind
        )
        return
    steps, seed = config.ceiling_steps, config.seed
    twin = encoder.untrained(material.plain, seed).net
    judge = material.motions.judge
    grades.ceiling = supervised_ceiling(twin, material.plain, judge, steps=steps, batch_size=32, seed=seed).accuracy
    if material.actions is not None and grades.actions is not None:
        twin = encoder.untrained(material.actions.fit.clips[:64], seed).net
        grades.actions.ceiling = actions_ceiling(twin, material.actions, steps=steps, batch_size=32, seed=seed)


def report_card(config: ReportConfig) -> list[Grades]:
    """Grade encoders, and write the page, the picture and the numbers.

    Raises:
        UsageError: An encoder or the videos cannot be used; one line says why.
    """
    folder = writable_folder(config.output)
    device = resolve_device(config.device)
    sources = (config.checkpoint, *config.compare)
    names = config.names or tuple(_short(source) for source in sources)
    materials: dict[tuple[int, int], Material] = {}
    grades = []
    for name, source in zip(names, sources, strict=True):
        encoder = load_stages(source, device)
        size = _input_size(encoder, config)
        if size not in materials:
            materials = {size: draw_material(config, *size)}  # clips of one size at a time are held
        _log.info("%s: %s, clips of %d frames of %d pixels", name, encoder.kind, *size)
        grades.append(grade(name, encoder, materials[size], config))
    made = made_on(device, "float32")
    content: dict[str, Any] = {
        "encoders": [dataclasses.asdict(one) for one in grades],
        "size": config.size,
        "seed": config.seed,
    }
    content |= {"frames from": config.videos or "drawn leaves", **made}
    write_json(folder / "report.json", content)
    cards = [_card(one) for one in grades]
    picture = card_picture(folder / "report.png", cards)
    counts = _COUNTS[config.size]
    write_text(folder / "report.html", card_page(cards, picture, counts=counts, made=made))
    return grades


def _short(source: str) -> str:
    path = Path(source)
    return path.stem if path.exists() else source


def _input_size(encoder: StagedEncoder, config: ReportConfig) -> tuple[int, int]:
    small = config.size == "small" and encoder.any_size
    frames = config.num_frames or (_SMALL_FRAMES if small else encoder.num_frames)
    side = config.side or (_SMALL_SIDE if small else encoder.side)
    if not encoder.any_size and (frames, side) != (encoder.num_frames, encoder.side):
        raise UsageError(
            f"{encoder.kind} takes {encoder.num_frames} frames of {encoder.side} pixels; leave num_frames and side out"
        )
    return frames, side


def _card(grades: Grades) -> Card:
    frames, height, width = grades.size
    facts = [
        grades.kind,
        f"clips of {frames} x {height} x {width}",
        f"{grades.clips:,} clips in {grades.seconds / 60:.1f} minutes",
        f"{grades.peak_memory / 1e9:.1f} GB at the peak",
    ]
    controls = {
        "untrained": grades.untrained,
        "one frame": grades.one_frame,
        "shuffled frames": grades.shuffled,
    }
    motions = Answers(
        stages=grades.stages,
        axes=grades.axes,
        pairs=grades.pairs,
        classes=grades.motions,
        chance=1 / len(MOTION_NAMES),
        controls={name: values for name, values in controls.items() if values is not None},
        backwards=grades.backwards,
        ceiling=grades.ceiling,
    )
    found = grades.actions
    if found is None:
        return Card(grades.name, facts, motions)
    actions = Answers(
        stages=grades.stages,
        axes=found.axes,
        pairs=found.pairs,
        classes=found.classes,
        chance=found.chance,
        controls=found.controls,
        backwards=found.backwards,
        ceiling=found.ceiling,
        other_motion=found.other_motion,
        confused=found.confused,
        videos=found.videos,
    )
    return Card(grades.name, facts, motions, found.name, actions)


def format_grades(grades: list[Grades]) -> str:
    """A small table: each axis at its best stage, chance 50 %."""
    lines = ["right of two, at the best stage (chance 50 %)"]
    for one in grades:
        lines.append(f"\n{one.name}: {one.kind}; {one.clips:,} clips in {one.seconds / 60:.1f} minutes")
        beside = [("untrained", one.untrained), ("one frame", one.one_frame), ("shuffled", one.shuffled)]
        lines += _axis_lines(one.stages, one.axes, {name: found for name, found in beside if found})
        if one.actions is not None:
            fitted, judged = one.actions.videos
            lines.append(f"  of {one.actions.name}, {fitted} videos to fit on and {judged} to judge by:")
            lines += _axis_lines(one.stages, one.actions.axes, one.actions.controls)
            best = max(one.actions.classes)
            lines.append(f"  of all classes {best:.0%} (chance {one.actions.chance:.0%})")
    return "\n".join(lines)


def _axis_lines(
    stages: list[str], axes: dict[str, list[float]], controls: dict[str, dict[str, list[float]]]
) -> list[str]:
    width = max(map(len, axes))
    lines = []
    for axis, values in axes.items():
        place = values.index(max(values))
        known = [f"{name} {found[axis][place]:.0%}" for name, found in controls.items() if axis in found]
        lines.append(f"  {axis:{width}} {values[place]:5.0%} at {stages[place]:10} {'   '.join(known)}")
    return lines
