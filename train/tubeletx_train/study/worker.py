"""One run of the study, in a process of its own: `python -m tubeletx_train.study.worker RUN_FOLDER PARENT`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

import tubeletx
from tubeletx_train.common.checkpoint import CheckpointFolder
from tubeletx_train.common.errors import CommandError
from tubeletx_train.common.machine import processor_name
from tubeletx_train.common.non_finite import NonFiniteError
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.evaluation.ceiling import supervised_ceiling
from tubeletx_train.evaluation.pretrained import load_pretraining, trained_net, untrained_net
from tubeletx_train.evaluation.probe import CEILING_CLIPS, draw_plain_clips
from tubeletx_train.pretrain.build import resolve_device
from tubeletx_train.pretrain.task import pretrain
from tubeletx_train.study.arms import REFERENCES, SUPERVISED
from tubeletx_train.study.measure import Measurements
from tubeletx_train.study.runs import RunFolder


def run(folder: RunFolder) -> int:
    """Train, measure, and write the run's result. Returns the exit code; other than 0 the run is not complete."""
    spec = folder.spec()
    config = parse_config(PretrainConfig, ["--config", str(folder.recipe)], prog="tubeletx-train study")
    measurements = Measurements.load(Path(spec["measurements"]))
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    device = resolve_device(config.run.device)
    result: dict[str, Any] = {
        **spec,
        "config": to_tree(config),
        **code_version(),
        "torch": str(torch.__version__),
        "processor": processor_name(device),
    }
    if spec["arm"] in REFERENCES:
        net = untrained_net(config, measurements.fit.clips, device)
        if spec["arm"] == SUPERVISED:
            count = min(CEILING_CLIPS, len(measurements.fit.clips))
            clips = draw_plain_clips(config.data, count, config.run.seed)
            ceiling = supervised_ceiling(
                net.encoder,
                clips,
                measurements.judge,
                steps=config.optim.steps or 0,
                batch_size=config.optim.batch_size,
                lr=config.optim.lr,
                seed=config.run.seed,
                precision=config.optim.precision,
            )
            result |= {"ceiling": ceiling.accuracy, "precision": ceiling.precision}
        result["probe"] = measurements.probe(net)
        result["along"] = []
    else:
        try:
            training = pretrain(config)
        except NonFiniteError as error:
            folder.write_result(result | {"diverged": str(error)})
            return 0
        if training.exit_code:
            return training.exit_code
        result |= {"precision": training.precision, "along": []}
        for path in reversed(CheckpointFolder(training.output / "checkpoints", 1).paths()):
            step = int(path.stem.rpartition("-")[2])
            if path != training.checkpoint and step % config.run.checkpoint_every:
                continue  # left by a stop, at a step that other runs have no measurement of
            saved, weights = load_pretraining(path)
            net = trained_net(saved, weights, device)
            result["probe"] = measurements.probe(net)
            result["along"].append({"step": step} | {name: result["probe"][name] for name in ("linear", "knn")})
    folder.write_result(result | measurements.others(net))
    for path in CheckpointFolder(folder.path / "pretraining" / "checkpoints").paths()[1:]:
        path.unlink()
    return 0


def code_version() -> dict[str, str | None]:
    """Version, and the commit where the package is used from a checkout ("+" marks changes that are not committed)."""
    root = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            command = ["git", "-C", str(root), *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    commit = git("rev-parse", "HEAD")
    if commit is not None and git("status", "--porcelain", "--untracked-files=no", "--", str(root.parent)):
        commit += "+"
    return {"tubeletx": tubeletx.__version__, "commit": commit}


def leave_with_parent(parent: int, seconds: float = 2.0) -> None:
    """Stop as SIGTERM does, with a checkpoint, once the process that started this one is gone, however that ended.

    Args:
        parent: That process.
        seconds: Between two looks.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="leave-with-parent", daemon=True).start()


def main(arguments: list[str]) -> int:
    """Run what a folder (the first argument) describes, for a process (the second)."""
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s", stream=sys.stderr)
    leave_with_parent(int(arguments[1]))
    try:
        return run(RunFolder(Path(arguments[0])))
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
