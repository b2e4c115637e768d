"""One run of the study, in a process of its own.

Called as `python -m studies.worker FOLDER SIZE STEPS READER ARM SEED PARENT`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from studies.arms import REFERENCES, SUPERVISED
from studies.measure import Measurements, embed, read_out_all
from studies.runs import Run, Study, provenance
from tubeletx_train.common.checkpoint import CheckpointFolder, step_of
from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.errors import CommandError
from tubeletx_train.common.non_finite import NonFiniteError
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.evaluation.ceiling import supervised_ceiling
from tubeletx_train.evaluation.pretrained import load_pretraining, trained_net, untrained_net
from tubeletx_train.evaluation.probe import CEILING_CLIPS, draw_plain_clips
from tubeletx_train.pretrain.task import pretrain


def perform(study: Study, run: Run) -> int:
    """Train, measure, and write the run's result. Returns the exit code; other than 0 the run is not complete."""
    folder = study.prepare(run)
    config = parse_config(PretrainConfig, ["--config", str(folder / "recipe.yaml")], prog="studies")
    clips = Measurements.load(study.measurements)
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    device = resolve_device(config.run.device)
    result: dict[str, Any] = {"config": to_tree(config), "along": [], **provenance(device)}
    if run.arm in REFERENCES:
        net = untrained_net(config, clips.fit.clips, device)
        if run.arm == SUPERVISED:
            plain = draw_plain_clips(config.data, min(CEILING_CLIPS, len(clips.fit.clips)), config.run.seed)
            ceiling = supervised_ceiling(
                net.encoder,
                plain,
                clips.judge,
                steps=config.optim.steps or 0,
                batch_size=config.optim.batch_size,
                lr=config.optim.lr,
                seed=config.run.seed,
                precision=config.optim.precision,
            )
            result |= {"ceiling": ceiling.accuracy, "precision": ceiling.precision}
    else:
        try:
            training = pretrain(config)
        except NonFiniteError as error:
            study.write_result(run, result | {"diverged": str(error)})
            return 0
        if training.exit_code:
            return training.exit_code
        result["precision"] = training.precision
        for path in reversed(CheckpointFolder(training.output / "checkpoints", 1).paths()):
            step = step_of(path)
            last = path == training.checkpoint
            if not last and step % config.run.checkpoint_every:
                continue  # left by a stop, at a step that other runs have no measurement of
            saved, weights = load_pretraining(path)
            net = trained_net(saved, weights, device)
            if not last:
                probe = read_out_all(embed(net, clips, whole=False))["probe"]
                result["along"].append({"step": step} | {name: probe[name] for name in ("linear", "knn")})
    measured = read_out_all(embed(net, clips))
    if run.arm not in REFERENCES:
        result["along"].append({"step": config.optim.steps} | {k: measured["probe"][k] for k in ("linear", "knn")})
    study.write_result(run, result | measured)
    for path in CheckpointFolder(folder / "pretraining" / "checkpoints").paths()[1:]:
        path.unlink()
    return 0


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
    """Perform the run that the arguments name."""
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s", stream=sys.stderr)
    root, size, steps, reader, arm, seed, parent = arguments
    leave_with_parent(int(parent))
    try:
        return perform(Study(Path(root), size, int(steps) or None, reader or None), Run(arm, int(seed)))
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
