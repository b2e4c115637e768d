"""Kills a training run with SIGKILL at drawn moments, over and over, and checks that nothing is lost by it.

    python tests/kill_resume.py --kills 100

After each kill the newest checkpoint must be whole and at most one interval of checkpoints behind. At the end, weights,
optimiser, generators and log must equal, bit for bit, those of a run that was never touched.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import random
import tempfile
import threading
import time
from pathlib import Path

import torch
from tqdm import tqdm

from toy_task import ToyBatch, ToyConfig, ToyTask, train_toy
from tubeletx_train.common.checkpoint import CheckpointFolder
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.config.run import RunConfig

_CHECKPOINT_EVERY = 3
_TIMINGS = {"clips_per_second", "data_wait", "peak_memory_gb"}
# Forked, so that a run starts in milliseconds and most kills meet it at work; a single thread survives a fork.
_processes = multiprocessing.get_context("fork")
_step = _processes.RawValue("q", 0)  # without a lock, which a killed process would keep
tqdm.set_lock(threading.RLock())  # likewise: tqdm's own is shared by forked processes


class WatchedTask(ToyTask):
    """Tells the killer how far it is, and takes its time, so that the run outlives its kills."""

    def train_step(self, batch: ToyBatch) -> dict[str, float]:
        time.sleep(0.002)
        values = super().train_step(batch)
        _step.value = self.step + 1
        return values


def kill_and_resume(output: Path, kills: int, seed: int = 0, longest_life: float = 0.2) -> int:
    """Run the whole check in a folder; returns how many kills met the run at work. Raises AssertionError."""
    torch.set_num_threads(1)
    rarely = RunConfig(
        output=str(output / "straight"),
        device="cpu",
        log_every=2,
        checkpoint_every=1000,
        evaluate_every=7,
        tensorboard=False,
    )
    optim = OptimConfig(batch_size=4, steps=60 * kills, lr=0.01)
    straight = train_toy(ToyConfig(rarely, optim))
    rarely = dataclasses.replace(rarely, output=str(output / "killed"))
    config = ToyConfig(dataclasses.replace(rarely, checkpoint_every=_CHECKPOINT_EVERY), optim)
    draws = random.Random(seed)
    folder = CheckpointFolder(output / "killed" / "checkpoints")
    at_work = 0
    for _ in tqdm(range(kills), "kills", unit="kill"):
        before = _step.value
        process = _processes.Process(target=train_toy, args=(config, WatchedTask), daemon=True)
        process.start()
        time.sleep(draws.uniform(0, longest_life))
        alive = process.is_alive()
        process.kill()
        process.join()
        assert alive, f"the run ended after {_step.value} steps, before it was killed: make it longer"
        at_work += _step.value != before
        latest = folder.load_latest()
        lost = _step.value - (0 if latest is None else latest[1]["step"])
        # One step more where the kill came between the step and its checkpoint.
        assert lost <= _CHECKPOINT_EVERY, f"{lost} steps lost, checkpoints every {_CHECKPOINT_EVERY}"
    finished = train_toy(ToyConfig(rarely, optim))
    assert finished.step == straight.step
    state, expected = (CheckpointFolder(run.checkpoint.parent).load_latest() for run in (finished, straight))
    assert state is not None
    assert expected is not None
    for key in ("step", "evaluated", "model", "optimizer", "schedule", "rng", "log"):
        torch.testing.assert_close(state[1][key], expected[1][key], rtol=0, atol=0, msg=key)
    assert _log(finished.output) == _log(straight.output)
    return at_work


def _log(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in _TIMINGS} for line in lines]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        at_work = kill_and_resume(Path(folder), arguments.kills, arguments.seed)
    print(f"killed {arguments.kills} times, {at_work} of them at work: same weights and log as never killed")


if __name__ == "__main__":
    main()
