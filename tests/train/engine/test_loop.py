import contextlib
import dataclasses
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from toy_task import ToyConfig, ToySource, ToyTask, train_toy
from tubeletx_train.common.checkpoint import load_checkpoint
from tubeletx_train.common.errors import CommandError, UsageError
from tubeletx_train.common.logs import RunLog
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.config.run import RunConfig

TIMINGS = {"clips_per_second", "data_wait", "peak_memory_gb"}


def toy_config(output, *, optim=None, **run):
    settings = {"device": "cpu", "log_every": 2, "tensorboard": False} | run
    config = ToyConfig(RunConfig(output=str(output), **settings))
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, **(optim or {})))


def log_lines(output):
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in lines]


def assert_same_run(result, reference):
    state, expected = load_checkpoint(result.checkpoint), load_checkpoint(reference.checkpoint)
    for key in ("step", "evaluated", "model", "optimizer", "schedule", "rng", "log"):
        torch.testing.assert_close(state[key], expected[key], rtol=0, atol=0, msg=key)
    assert log_lines(result.output) == log_lines(reference.output)


class StoppedTask(ToyTask):
    """Gets a signal in the middle of a step."""

    def train_step(self, batch):
        values = super().train_step(batch)
        if self.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return values


def test_a_run_leaves_checkpoint_log_and_settings(tmp_path):
    result = train_toy(toy_config(tmp_path))
    assert (result.step, result.exit_code) == (12, 0)
    names = {".lock", "checkpoints", "config.yaml", "ending.json", "log.jsonl", "starts.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert json.loads((tmp_path / "ending.json").read_text())["finished"]
    lines = log_lines(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert [line["epoch"] for line in lines] == [0, 0, 0, 1, 1, 1]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[0]["lr"] > lines[-1]["lr"] > 0


@pytest.mark.parametrize("every", [{"evaluate_every": 5}, {"evaluate_every_epochs": 1}])
def test_stopped_and_resumed_equals_never_stopped_also_in_its_evaluations(tmp_path, every):
    """Step 5 is done when the signal is seen, and its evaluation is left to the resumed run."""
    straight = train_toy(toy_config(tmp_path / "straight", **every))
    evaluations = [line["step"] for line in log_lines(straight.output) if "evaluation/weight" in line]
    assert evaluations == ([5, 10] if "evaluate_every" in every else [6, 12])
    config = toy_config(tmp_path / "stopped", **every)
    stopped = train_toy(config, StoppedTask)
    assert (stopped.step, stopped.exit_code) == (5, 143)
    assert_same_run(train_toy(config), straight)


@pytest.mark.usefixtures("signals_of_a_terminal")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_schedulers_signals_stop_it_with_a_checkpoint(tmp_path, number):
    class Signalled(ToyTask):
        def train_step(self, batch):
            if self.step == 4:
                os.kill(os.getpid(), number)
            return super().train_step(batch)

    stopped = train_toy(toy_config(tmp_path), Signalled)
    assert (stopped.step, stopped.exit_code) == (5, 128 + number)
    ending = {"finished": False, "step": 5, "total_steps": 12, "exit_code": 128 + number}
    assert json.loads((tmp_path / "ending.json").read_text()) == ending


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    class HungUp(ToyTask):
        def train_step(self, batch):
            os.kill(os.getpid(), signal.SIGHUP)
            return super().train_step(batch)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert train_toy(toy_config(tmp_path), HungUp).step == 12
    finally:
        signal.signal(signal.SIGHUP, before)


def test_slurm_requeues_a_run_that_its_signal_ends(tmp_path, monkeypatch):
    command = tmp_path / "bin" / "scontrol"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "77")

    class Signalled(ToyTask):
        def train_step(self, batch):
            os.kill(os.getpid(), signal.SIGUSR1)
            return super().train_step(batch)

    train_toy(toy_config(tmp_path / "a"), Signalled)
    assert not (tmp_path / "asked").exists()
    train_toy(toy_config(tmp_path / "b", requeue=True), Signalled)
    assert (tmp_path / "asked").read_text().split() == ["requeue", "77"]


_HOLD = """
import sys, time
from pathlib import Path
from tubeletx_train.common.lock import locked_folder
with locked_folder(Path(sys.argv[1]), "trained into"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_one_runs_until_that_process_is_dead(tmp_path):
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(
            UsageError, match=rf"is being trained into by process {owner.pid} on {socket.gethostname()}"
        ):
            train_toy(toy_config(tmp_path))
        owner.kill()
        owner.wait()
        assert train_toy(toy_config(tmp_path)).step == 12


@pytest.mark.parametrize("schedule", [{}, {"schedule": "step", "milestones": [1.0]}, {"schedule_epochs": 9}])
def test_a_finished_run_can_be_made_longer_as_if_it_had_been_so_long(tmp_path, caplog, schedule):
    caplog.set_level(logging.INFO)
    optim = OptimConfig(batch_size=4, lr=0.1, precision="float32", **schedule)
    longer = dataclasses.replace(optim, steps=18)
    config = ToyConfig(toy_config(tmp_path / "run").run, dataclasses.replace(optim, steps=12))
    train_toy(config)
    again = train_toy(dataclasses.replace(config, optim=longer))
    assert again.step == 18
    assert "the run has now 18 steps instead of 12" in caplog.text
    rates = {line["step"]: line["lr"] for line in log_lines(tmp_path / "run")}
    straight = train_toy(ToyConfig(toy_config(tmp_path / "straight").run, longer))
    expected = {line["step"]: line["lr"] for line in log_lines(straight.output)}
    assert {step: rate for step, rate in rates.items() if step > 12} == {k: v for k, v in expected.items() if k > 12}
    if schedule:  # which does not depend on the length
        assert_same_run(again, straight)
    with pytest.raises(UsageError, match=r"steps in all \(was 18, now 12\)"):
        train_toy(config)


class FakeTracker:
    """Stands for either package."""

    def __init__(self):
        self.started, self.logged, self.ended = [], [], 0
        self.run = self

    def init(self, **settings):
        self.started.append(settings)
        return types.SimpleNamespace(log=lambda values, step: self.logged.append((step, values)), finish=self.end_run)

    def set_experiment(self, name):
        self.experiment = name

    def search_runs(self, **_):
        return [types.SimpleNamespace(info=types.SimpleNamespace(run_id="1"))] if self.started else []

    def start_run(self, **settings):
        self.started.append(settings)

    def log_params(self, settings):
        self.settings = settings

    def log_metrics(self, values, step):
        self.logged.append((step, values))

    def end_run(self):
        self.ended += 1


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_gets_what_the_log_gets(tmp_path, monkeypatch, name):
    with pytest.raises(UsageError, match=f"'{name}' needs the package {name}"):
        train_toy(toy_config(tmp_path, tracker=name))
    fake = FakeTracker()
    monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    train_toy(toy_config(tmp_path, tracker=name))
    assert [step for step, _ in fake.logged] == [2, 4, 6, 8, 10, 12]
    assert fake.logged[0][1]["loss"] == log_lines(tmp_path)[0]["loss"]
    assert fake.ended == 1
    config = dataclasses.replace(toy_config(tmp_path, tracker=name), optim=OptimConfig(batch_size=4, steps=14, lr=0.1))
    train_toy(config)
    first, second = fake.started
    assert second == {"run_id": "1"} if name == "mlflow" else second["id"] == first["id"]


def test_evaluations_do_not_change_what_is_learned(tmp_path):
    plain, watched = train_toy(toy_config(tmp_path / "a")), train_toy(toy_config(tmp_path / "b", evaluate_every=1))
    model, other = (load_checkpoint(run.checkpoint)["model"] for run in (plain, watched))
    torch.testing.assert_close(model, other, rtol=0, atol=0)


def test_resume_takes_a_path_and_refuses_to_turn_back(tmp_path):
    straight = train_toy(toy_config(tmp_path / "straight", keep_every_epochs=1))
    first = straight.output / "checkpoints" / "step-00000006.pt"
    again = train_toy(toy_config(tmp_path / "branch", resume=str(first)))
    torch.testing.assert_close(
        load_checkpoint(again.checkpoint)["model"], load_checkpoint(straight.checkpoint)["model"], rtol=0, atol=0
    )
    with pytest.raises(UsageError, match="holds checkpoints of later steps"):
        train_toy(toy_config(tmp_path / "straight", resume=str(first)))
    with pytest.raises(UsageError, match='no such checkpoint, nor "auto" or "never"'):
        train_toy(toy_config(tmp_path / "other", resume="newest"))


def test_keeps_the_newest_and_each_so_many_epochs_for_good(tmp_path):
    config = toy_config(tmp_path, optim={"steps": 33}, checkpoint_every=5, keep_checkpoints=2, keep_every_epochs=2)
    train_toy(config)
    names = sorted(path.stem for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000012", "step-00000024", "step-00000030", "step-00000033"]


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"model": {}}, path)
    with pytest.raises(UsageError, match="no checkpoint of a run: it lacks config, evaluated"):
        train_toy(toy_config(tmp_path / "run", resume=str(path)))


@dataclasses.dataclass(frozen=True)
class ToySection:
    width: int = 3
    names: tuple[str, ...] = ("a", "b")


@dataclasses.dataclass(frozen=True)
class LaterConfig(ToyConfig):
    """As a later version has it: with settings, and a section, that the one before did not know."""

    momentum: float = 0.9
    section: ToySection = dataclasses.field(default_factory=ToySection)


def later(config, **changes):
    return LaterConfig(config.run, config.optim, **changes)


def test_settings_that_a_checkpoint_does_not_know_count_as_their_defaults(tmp_path):
    config = toy_config(tmp_path)
    train_toy(config, StoppedTask)
    path = tmp_path / "checkpoints" / "step-00000005.pt"
    state = load_checkpoint(path)
    del state["defaults"]  # as versions before it was written
    torch.save(state, tmp_path / "old.pt")
    resumed = {"run": dataclasses.replace(config.run, output=str(tmp_path / "run"), resume=str(tmp_path / "old.pt"))}
    with pytest.raises(UsageError, match=r"other settings: momentum \(was no such setting, now None\)\."):
        train_toy(dataclasses.replace(later(config, momentum=None), **resumed))
    with pytest.raises(UsageError, match=r"other settings: section.width \(was no such setting, now 4\)\."):
        train_toy(dataclasses.replace(later(config, section=ToySection(4)), **resumed))
    assert train_toy(dataclasses.replace(later(config), **resumed)).step == 12


def test_settings_that_are_gone_count_only_where_they_were_changed(tmp_path):
    for name, changes in (("default", {}), ("changed", {"momentum": 0.5})):
        train_toy(later(toy_config(tmp_path / name), **changes), StoppedTask)
    assert train_toy(toy_config(tmp_path / "default")).step == 12
    with pytest.raises(UsageError, match=r"other settings: momentum \(was 0.5, now no such setting\)\."):
        train_toy(toy_config(tmp_path / "changed"))


def test_what_a_checkpoint_does_not_tell_of_its_run_is_not_compared(tmp_path):
    class LaterTask(ToyTask):
        def identity(self):
            return super().identity() | {"kind of labels": "names"}

    class OtherTask(ToyTask):
        def identity(self):
            return super().identity() | {"kind of labels": "numbers"}

    class StoppedLaterTask(LaterTask, StoppedTask):
        pass

    for name, stopped in (("old", StoppedTask), ("new", StoppedLaterTask)):
        train_toy(toy_config(tmp_path / name), stopped)
    with pytest.raises(UsageError, match="other settings: the kind of labels"):
        train_toy(toy_config(tmp_path / "new"), OtherTask)
    assert train_toy(toy_config(tmp_path / "old"), LaterTask).step == 12


@contextmanager
def full_disk(room=512):
    """Writing a file past so many bytes fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_is_full_from_the_start_ends_the_run_there(tmp_path):
    with full_disk(), pytest.raises(UsageError, match=r"cannot write to the output folder .*: File too large"):
        train_toy(toy_config(tmp_path))


def test_a_disk_that_fills_up_under_the_log_ends_the_run_with_one_line(tmp_path):
    class FillingSource(ToySource):
        def batches(self, start, stop):
            disk.enter_context(full_disk())
            return super().batches(start, stop)

    class FillingTask(ToyTask):
        make_source = FillingSource

    message = r"cannot write to .*: File too large; started again, the run goes on"
    with contextlib.ExitStack() as disk, pytest.raises(CommandError, match=message):
        train_toy(toy_config(tmp_path, log_every=1, checkpoint_every=100), FillingTask)
    assert train_toy(toy_config(tmp_path, log_every=1, checkpoint_every=100)).step == 12


def test_a_kill_while_the_log_is_cut_back_leaves_it_whole(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    lines = "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(1, 5))
    path.write_text(lines)

    def die(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(MemoryError):
            RunLog(tmp_path, total_steps=4, first_step=2, tensorboard=False)
    assert path.read_text() == lines
    with RunLog(tmp_path, total_steps=4, first_step=2, tensorboard=False):
        assert [line["step"] for line in log_lines(tmp_path)] == [1, 2]


def test_no_bar_is_drawn_where_there_is_no_terminal(tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    with RunLog(tmp_path, total_steps=400, every=2, tensorboard=False) as log:
        for step in range(1, 401):
            log.step(step, {"loss": 1.0 / step}, clips=2, waited=0.0)
        log.evaluation(400, {"motion_probe_knn": 0.25})
    assert capsys.readouterr().err == ""
    said = [record.getMessage() for record in caplog.records]
    assert said.pop() == "evaluation after step 400: motion_probe_knn 0.25"
    assert len(said) == 3  # of the first step, of the first line of the log, and at the end
    assert said[0].startswith("step 1 of 400, the first since the start, took ")
    assert said[-1].startswith("step 400 of 400: loss 0.0025")


def test_killed_at_drawn_moments_loses_nothing(tmp_path):
    """The short form of tests/kill_resume.py, in a process of its own: it forks."""
    script = Path(__file__).parents[2] / "kill_resume.py"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(script.parent)])}
    command = [sys.executable, str(script), "--kills", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "same weights and log as never killed" in done.stdout
