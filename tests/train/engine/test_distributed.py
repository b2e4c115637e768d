import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import two_ranks
from tubeletx_train.common.checkpoint import CheckpointFolder
from tubeletx_train.common.distributed import Ranks
from tubeletx_train.common.errors import UsageError
from tubeletx_train.pretrain.task import pretrain

ROOT = Path(__file__).parents[3]
TIMINGS = {"clips_per_second", "data_wait", "peak_memory_gb"}


@pytest.fixture(scope="module")
def both(videos, tmp_path_factory):
    """The folder in which two processes have run every check; all share one start, which takes most of the time."""
    output = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(ROOT / "tests" / "two_ranks.py"), str(videos), str(output)]
    paths = os.pathsep.join([*sys.path, str(ROOT / "tests")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return output


def state_of(folder):
    found = CheckpointFolder(folder / "checkpoints").load_latest()
    assert found is not None
    return found[1]


def log_lines(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in lines]


@pytest.mark.parametrize("check", [check.__name__ for check in two_ranks.CHECKS])
def test_among_two_processes(both, check):
    findings = json.loads((both / "findings.json").read_text())[check]
    assert findings == ["passed", "passed"], "\n".join(findings)


def test_two_processes_learn_what_one_learns_from_the_whole_batch(both, videos, tmp_path):
    pretrain(two_ranks.pretrain_config(videos, tmp_path))
    together, alone = both / "pretraining_with_synchronised_batch_norm", tmp_path
    for line, expected in zip(log_lines(together), log_lines(alone), strict=True):
        for name in ("loss", "top1", "top5", "batch_top1", "own_top1", "alignment", "grad_norm", "lr", "epoch"):
            assert line[name] == pytest.approx(expected[name], rel=2e-3, abs=1e-5), name
    model, expected = state_of(together)["model"], state_of(alone)["model"]
    torch.testing.assert_close(model, expected, rtol=2e-3, atol=2e-4)
    assert model["contrast.pointer"] == 3 * 4


def test_two_processes_average_their_gradients(both, tmp_path):
    two_ranks.train_toy(two_ranks.toy_config(tmp_path, dropout=0.0))
    together, alone = state_of(both / "toy_without_dropout"), state_of(tmp_path)
    torch.testing.assert_close(together["model"], alone["model"], rtol=1e-5, atol=1e-6)


def test_a_signal_to_one_process_stops_both_and_the_resumed_run_equals_one_never_stopped(both):
    straight, resumed = both / "toy_never_stopped", both / "toy_stopped_and_resumed"
    state, expected = state_of(resumed), state_of(straight)
    assert len(state["rng"]) == 2
    assert not torch.equal(state["rng"][0]["cpu"], state["rng"][1]["cpu"])  # each drops other units out
    for key in ("model", "optimizer", "schedule", "rng", "log", "step"):
        torch.testing.assert_close(state[key], expected[key], rtol=0, atol=0, msg=key)
    assert log_lines(resumed) == log_lines(straight)


def test_a_process_alone_needs_nobody():
    ranks = Ranks()
    assert ranks.mean({"a": 1.5}) == {"a": 1.5}
    assert ranks.gather("x") == ["x"]
    assert ranks.broadcast("x") == "x"
    assert not ranks.any(False)
    with ranks.main_first():
        assert ranks.share(7, "seven") == 7
    with pytest.raises(UsageError, match="seven 7 cannot be shared out among 2 processes"):
        Ranks(0, 2).share(7, "seven")
