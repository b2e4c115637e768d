import logging
import math
import os
import resource
import signal

import pytest
import torch

from tubeletx_train.common.checkpoint import CheckpointError, CheckpointFolder, load_checkpoint, save_checkpoint
from tubeletx_train.common.errors import CommandError
from tubeletx_train.common.non_finite import NonFiniteError
from tubeletx_train.common.seeding import rng_state, seed_everything, set_rng_state
from tubeletx_train.common.signals import StopRequest
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.engine.schedule import build_schedule, cosine_schedule


def state_of(step):
    return {"step": step, "weights": torch.arange(1000.0) + step, "config": {"lr": 0.1, "sizes": [1, 2]}}


def test_keeps_the_newest_and_reads_it_back(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    assert folder.load_latest() is None
    for step in (9, 10, 100):
        folder.save(step, state_of(step))
    assert [path.name for path in folder.paths()] == ["step-00000100.pt", "step-00000010.pt"]
    path, state = folder.load_latest()
    assert path == folder.paths()[0]
    assert state["config"] == state_of(100)["config"]
    torch.testing.assert_close(state["weights"], state_of(100)["weights"])


def truncate(content):
    return content[: len(content) // 2]


def flip_a_weight(content):
    at = content.index(torch.arange(1000.0).add(2).numpy().tobytes()[:400]) + 200
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip_a_weight, lambda _: b"", lambda _: b"not a checkpoint"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, caplog, damage):
    folder = CheckpointFolder(tmp_path, keep=3)
    folder.save(1, state_of(1))
    newest = folder.save(2, state_of(2))
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.raises(CheckpointError, match=r"step-00000002\.pt"):
        load_checkpoint(newest)
    with caplog.at_level(logging.WARNING):
        _, state = folder.load_latest()
    assert state["step"] == 1
    assert "step-00000002.pt" in caplog.text
    folder.paths()[1].write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints"):
        folder.load_latest()


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing\.pt: no such checkpoint"):
        load_checkpoint(tmp_path / "nothing.pt")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "state.pt"
    save_checkpoint(state_of(1), path)
    with pytest.raises(Exception, match=r"pickle|local object"):  # the words of Pythons before and since 3.12
        save_checkpoint({"step": 2, "unpicklable": lambda: None}, path)
    assert load_checkpoint(path)["step"] == 1
    assert os.listdir(tmp_path) == ["state.pt"]


def test_a_full_disk_is_one_clear_line_and_leaves_the_checkpoint_before(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(1, state_of(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))  # writing past it fails as on a full disk
    try:
        with pytest.raises(CommandError, match=r"cannot write .*step-00000002\.pt: File too large"):
            folder.save(2, state_of(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["step-00000001.pt"]
    assert folder.load_latest()[1]["step"] == 1


def test_leftovers_of_a_killed_run_are_cleared(tmp_path):
    (tmp_path / ".step-00000001.pt.123.tmp").write_bytes(b"half")
    CheckpointFolder(tmp_path).save(2, state_of(2))
    assert os.listdir(tmp_path) == ["step-00000002.pt"]


def test_random_state_goes_on_where_it_was_saved():
    seed_everything(3)
    torch.rand(5)
    state = rng_state()
    expected = torch.rand(5)
    seed_everything(4)
    set_rng_state(state)
    assert torch.equal(torch.rand(5), expected)


@pytest.mark.usefixtures("signals_of_a_terminal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_a_flag_once(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal == number
        assert stop.exit_code == 128 + number
        assert signal.getsignal(number) == before  # so that a second one ends the process
    assert signal.getsignal(number) == before


def test_cosine_schedule_warms_up_and_ends_at_zero():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = cosine_schedule(optimizer, total_steps=12, warmup_steps=4)
    rates = []
    for _ in range(13):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[8] == pytest.approx(1.0)
    assert rates[12] == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="warmup_steps"):
        cosine_schedule(optimizer, total_steps=3, warmup_steps=3)


def rates_of(config, total_steps, steps_per_epoch):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.lr)
    schedule = build_schedule(optimizer, config, total_steps, steps_per_epoch)
    rates = []
    for _ in range(total_steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def test_a_cosine_over_more_epochs_than_are_run_stops_half_way():
    """The released code: 200 epochs, stopped after 100."""
    rates = rates_of(OptimConfig(lr=0.01, epochs=100, schedule_epochs=200), total_steps=300, steps_per_epoch=3)
    assert rates == pytest.approx([0.005 * (1 + math.cos(math.pi * step / 600)) for step in range(300)])
    assert rates[-1] == pytest.approx(0.005, rel=0.01)


def test_milestones_and_warm_up_are_counted_in_epochs():
    config = OptimConfig(lr=1.0, schedule="step", milestones=(2, 3.5), gamma=0.3, warmup_epochs=0.5)
    rates = rates_of(config, total_steps=20, steps_per_epoch=4)
    assert rates == pytest.approx([0.5, 1.0] + [1.0] * 6 + [0.3] * 6 + [0.09] * 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_steps": 3, "warmup_epochs": 1.0}, "exclude each other"),
        ({"warmup_steps": 3, "steps": 3}, r"needs fewer than the run has \(steps 3\)"),
        ({"milestones": (1.0,)}, 'milestones need schedule "step"'),
        ({"schedule": "step", "milestones": (3.0, 1.0)}, "needs positive ones that rise"),
        ({"schedule": "step", "schedule_epochs": 5}, 'schedule_epochs needs schedule "cosine"'),
        ({"optimizer": "adamw", "nesterov": True}, "nesterov needs"),
        ({"accumulate": 0}, "accumulate: got 0, needs 1 or more"),
        ({"lr": float("nan")}, "lr: got nan, needs 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        OptimConfig(**settings)


def test_values_that_are_not_finite_are_neither_written_nor_taken_up(tmp_path, caplog):
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"step": 1, "model": {"weight": torch.ones(3)}})
    for poison in (float("nan"), float("inf")):
        poisoned = {"step": 2, "optimizer": {"state": {0: {"exp_avg": [torch.tensor([1.0, poison])]}}}}
        with pytest.raises(NonFiniteError, match=r"is not written: optimizer\.state\.0\.exp_avg\.0 holds values"):
            folder.save(2, poisoned)
        assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]
        torch.save(poisoned, tmp_path / "step-00000003.pt")  # as an older version might have
        with pytest.raises(CheckpointError, match="holds values that are not finite"):
            load_checkpoint(tmp_path / "step-00000003.pt")
        path, state = folder.load_latest()
        assert (path.name, state["step"]) == ("step-00000001.pt", 1)
        assert "holds values that are not finite" in caplog.text
        (tmp_path / "step-00000003.pt").unlink()
