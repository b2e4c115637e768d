import dataclasses
import json
import os
import signal

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tubeletx.config import TubeletConfig
from tubeletx_train.common.checkpoint import load_checkpoint
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.non_finite import NonFiniteGradientError, NonFiniteLossError
from tubeletx_train.config.pretrain import (
    ContrastConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    RunConfig,
    TracksConfig,
)
from tubeletx_train.config.tree import to_tree
from tubeletx_train.data import ColorConfig, DataConfig, DataError, NoUsableVideos, PairBatch
from tubeletx_train.engine import precision
from tubeletx_train.models import EmbeddingNet
from tubeletx_train.pretrain import preview as preview_module
from tubeletx_train.pretrain import task as task_module
from tubeletx_train.pretrain import watch
from tubeletx_train.pretrain.moco import MoCo
from tubeletx_train.pretrain.preview import PreviewConfig
from tubeletx_train.pretrain.task import Pretraining, pretrain
from tubeletx_train.pretrain.views import PairViews

STEPS = 6
TIMINGS = {"clips_per_second", "data_wait", "peak_memory_gb"}


def toy_config(folder, output, **sections):
    parts = {
        "data": DataConfig(
            videos=str(folder), num_frames=4, crop_size=24, decode_size=32, num_workers=0, samples_per_video=2
        ),
        "tubelets": TubeletConfig(num_tubelets=1),
        "model": ModelConfig(encoder="r2plus1d_10", width=2, dim=8),
        "contrast": ContrastConfig(queue_size=16, momentum=0.9, own_negatives="reversed"),
        "optim": OptimConfig(batch_size=4, steps=STEPS, lr=0.05, precision="float32"),
        "evaluation": EvaluationConfig(),
        "tracks": TracksConfig(),
        "run": RunConfig(output=str(output), device="cpu", log_every=2, checkpoint_every=100, tensorboard=False),
    }
    for name, changes in sections.items():
        parts[name] = dataclasses.replace(parts[name], **changes)
    return PretrainConfig(**parts)


def log_lines(output):
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in lines]


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.fixture
def at_step(monkeypatch):
    """Do something after a step of the training loop."""

    def install(step, action):
        original = Pretraining.train_step

        def train_step(run, batch):
            values = original(run, batch)
            if run.step + 1 == step:
                action()
            return values

        monkeypatch.setattr(Pretraining, "train_step", train_step)
        return lambda: monkeypatch.setattr(Pretraining, "train_step", original)

    return install


@pytest.fixture(scope="module")
def straight(videos, tmp_path_factory):
    """A run that was never stopped."""
    return pretrain(toy_config(videos, tmp_path_factory.mktemp("straight")))


def assert_same_run(result, reference):
    state, expected = load_checkpoint(result.checkpoint), load_checkpoint(reference.checkpoint)
    for key in ("step", "total_steps", "identity", "model", "optimizer", "schedule", "rng", "log"):
        assert equal(state[key], expected[key]), key
    assert log_lines(result.output) == log_lines(reference.output)


def test_a_run_leaves_what_it_should(straight):
    assert (straight.step, straight.exit_code) == (STEPS, 0)
    names = {path.name for path in straight.output.iterdir()}
    assert {"checkpoints", "config.yaml", "log.jsonl", "first_batch.png"} <= names
    lines = log_lines(straight.output)
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert {
        "loss",
        "top1",
        "top5",
        "batch_top1",
        "own_top1",
        "alignment",
        "uniformity",
        "age_gap",
        "lr",
        "grad_norm",
    } <= set(lines[0])
    state = load_checkpoint(straight.checkpoint)
    assert state["config"] == yaml.safe_load((straight.output / "config.yaml").read_text())
    assert state["model"]["contrast.pointer"] == STEPS * 4 % 16
    assert state["schedule"]["last_epoch"] == STEPS


@pytest.mark.usefixtures("signals_of_a_terminal")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_and_resumed_equals_never_stopped(videos, tmp_path, straight, at_step, number):
    config = toy_config(videos, tmp_path)
    undo = at_step(3, lambda: os.kill(os.getpid(), number))  # in the middle of an epoch and of a log line
    stopped = pretrain(config)
    assert (stopped.step, stopped.exit_code) == (3, 128 + number)
    undo()
    assert_same_run(pretrain(config), straight)


def test_killed_and_resumed_equals_never_stopped(videos, tmp_path, straight, at_step):
    config = toy_config(videos, tmp_path, run={"checkpoint_every": 3})

    def die():
        raise MemoryError  # no handler of ours runs, as with SIGKILL; steps 4 and 5 are lost

    undo = at_step(5, die)
    with pytest.raises(MemoryError):
        pretrain(config)
    undo()
    assert log_lines(tmp_path)[-1]["step"] == 4
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"step": 5, "lo')  # torn by the kill
    assert_same_run(pretrain(config), straight)


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(videos, tmp_path, straight):
    config = toy_config(videos, tmp_path, run={"checkpoint_every": 2})
    first = pretrain(config)
    first.checkpoint.write_bytes(first.checkpoint.read_bytes()[:-100])
    assert_same_run(pretrain(config), straight)


def test_a_finished_run_started_again_does_nothing(videos, straight):
    before = straight.checkpoint.stat().st_mtime_ns
    again = pretrain(toy_config(videos, straight.output))
    assert (again.step, again.exit_code) == (STEPS, 0)
    assert again.checkpoint.stat().st_mtime_ns == before


def test_another_runs_checkpoint_is_refused_and_the_settings_named(videos, straight):
    with pytest.raises(UsageError, match=r"optim\.lr \(was 0\.05, now 0\.01\)"):
        pretrain(toy_config(videos, straight.output, optim={"lr": 0.01}))
    with pytest.raises(UsageError, match=r"steps in all \(was 6, now 5\)"):
        pretrain(toy_config(videos, straight.output, optim={"steps": 5}))
    with pytest.raises(UsageError, match=r"run\.seed"):
        pretrain(toy_config(videos, straight.output, run={"seed": 1}))
    with pytest.raises(UsageError, match="already holds a run"):
        pretrain(toy_config(videos, straight.output, run={"resume": "never"}))


def test_the_seed_decides(videos, tmp_path, straight):
    result = pretrain(toy_config(videos, tmp_path, run={"seed": 1}))
    model, other = (load_checkpoint(run.checkpoint)["model"] for run in (result, straight))
    assert not equal(model, other)


@pytest.mark.parametrize(
    "contrast",
    [
        {"own_negatives": "none"},
        {"own_negatives": "resampled", "batch_negatives": True},
        {"own_negatives": "reversed", "still_background": True},
        {"mode": "temporal", "own_negatives": "none"},
        {"mode": "temporal", "own_negatives": "reversed"},
    ],
)
def test_every_kind_of_contrast_takes_a_step(videos, tmp_path, contrast):
    result = pretrain(toy_config(videos, tmp_path, contrast=contrast, optim={"steps": 2}))
    assert ("own_top1" in log_lines(result.output)[0]) == (contrast["own_negatives"] != "none")


def test_bfloat16_takes_a_step(videos, tmp_path, monkeypatch):
    """By "auto", which is right on processors with a wrong kernel too."""
    monkeypatch.setattr(precision, "fastest_precision", lambda _: "bfloat16")
    result = pretrain(toy_config(videos, tmp_path, optim={"steps": 2, "precision": "auto"}))
    assert result.precision.startswith("bfloat16")
    state = load_checkpoint(result.checkpoint)["model"]
    assert all(value.dtype != torch.bfloat16 for value in state.values())


def test_checked_or_not_a_run_learns_the_same(videos, tmp_path, monkeypatch):
    """Float32 is reached by a check that fails, and by asking for it: weights, queue and draws must be the same."""
    asked = pretrain(toy_config(videos, tmp_path / "asked", optim={"steps": 2, "precision": "float32"}))
    monkeypatch.setattr(precision, "fastest_precision", lambda _: "bfloat16")
    monkeypatch.setattr(precision, "_TOLERANCE", -1.0)
    auto = pretrain(toy_config(videos, tmp_path / "auto", optim={"steps": 2, "precision": "auto"}))
    assert (asked.precision, auto.precision) == ("float32", "float32")
    state, expected = load_checkpoint(auto.checkpoint), load_checkpoint(asked.checkpoint)
    for part in ("model", "rng", "optimizer"):
        assert equal(state[part], expected[part]), part
    assert state["precision"]["precision"] == "float32"
    (start,) = map(json.loads, (auto.output / "starts.jsonl").read_text().splitlines())
    assert (start["step"], start["precision"], start["processor"]) == (0, "float32", state["precision"]["processor"])


def test_a_resumed_run_says_so_and_keeps_the_precision(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "fastest_precision", lambda _: "bfloat16")
    config = toy_config(videos, tmp_path, optim={"steps": 2, "precision": "auto"}, run={"keep_checkpoints": 9})
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, checkpoint_every=1))
    begun = pretrain(config)
    begun.checkpoint.unlink()
    with (tmp_path / "starts.jsonl").open("a") as file:
        file.write('{"step": 1, "ti')  # killed while it wrote
    monkeypatch.setattr(precision, "fastest_precision", lambda _: "float32")
    assert pretrain(config).precision == begun.precision
    first, torn, last = (tmp_path / "starts.jsonl").read_text().splitlines()
    assert torn == '{"step": 1, "ti'
    starts = [json.loads(line) for line in (first, last)]
    assert [(start["step"], start["precision"]) for start in starts] == [(0, begun.precision), (1, begun.precision)]


@pytest.mark.parametrize(
    "contrast",
    [
        {"still_background": True, "patches": "per_clip", "path_offset": 0.4},
        {"mode": "temporal", "own_negatives": "none"},
    ],
)
def test_a_preview_shows_the_pairs_that_are_trained_on(videos, tmp_path, monkeypatch, contrast):
    """Of the same seed, to the last byte: still backgrounds, own patches, moved paths."""
    drawn = []
    record = lambda path, views, **_: drawn.append(views) or path  # noqa: E731
    for module in (preview_module, task_module):
        monkeypatch.setattr(module, "contact_sheet", record)
    config = toy_config(videos, tmp_path / "run", contrast=contrast, optim={"steps": 1}, run={"seed": 3})
    pretrain(config)
    output = str(tmp_path / "pictures")
    preview_module.preview(PreviewConfig(config.data, config.tubelets, config.contrast, output, pairs=3, seed=3))
    trained, shown = drawn
    assert torch.equal(shown.clip_1, trained.clip_1[:3])
    assert torch.equal(shown.clip_2, trained.clip_2[:3])
    if contrast.get("mode") == "temporal":
        assert trained.tubelets is shown.tubelets is None
        return
    assert torch.equal(shown.tubelets.centers, trained.tubelets.centers[:3])
    moved = shown.key_tubelets.centers - shown.tubelets.centers
    assert moved.abs().amax() > 1  # the picture's paths lie where the key's patches do
    assert torch.equal(shown.key_tubelets.centers, trained.key_tubelets.centers[:3])


def test_a_preview_out_of_a_bank_shows_what_a_bank_of_its_pairs_alone_gives(videos, tmp_path, monkeypatch, caplog):
    drawn = []
    record = lambda path, views, **_: drawn.append(views) or path  # noqa: E731
    for module in (preview_module, task_module):
        monkeypatch.setattr(module, "contact_sheet", record)
    changes = {"data": {"reuse": 2, "bank_clips": 8}, "optim": {"steps": 1, "batch_size": 4}, "run": {"seed": 3}}
    config = toy_config(videos, tmp_path / "run", **changes)
    pretrain(config)
    data = dataclasses.replace(config.data, bank_clips=4096)  # which a preview need not fill
    output = str(tmp_path / "pictures")
    with caplog.at_level("INFO"):
        preview_module.preview(PreviewConfig(data, config.tubelets, config.contrast, output, pairs=4, seed=3))
    assert "of 8 clips alone" in caplog.text
    trained, shown = drawn
    assert torch.equal(shown.clip_1, trained.clip_1)
    assert torch.equal(shown.clip_2, trained.clip_2)


def test_a_run_out_of_a_bank_goes_on_as_if_never_stopped(videos, tmp_path, at_step):
    changes = {"data": {"reuse": 3, "bank_clips": 16}}
    straight = pretrain(toy_config(videos, tmp_path / "straight", **changes))
    config = toy_config(videos, tmp_path / "stopped", **changes)
    undo = at_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    pretrain(config)
    undo()
    assert_same_run(pretrain(config), straight)


def test_a_run_that_predicts_tracks_goes_on_as_if_never_stopped(videos, tmp_path, at_step):
    changes = {"tracks": {"weight": 0.5, "grid": (3, 2)}, "optim": {"optimizer": "adamw", "lr": 0.01}}
    straight = pretrain(toy_config(videos, tmp_path / "straight", **changes))
    config = toy_config(videos, tmp_path / "stopped", **changes)
    undo = at_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    pretrain(config)
    undo()
    assert_same_run(pretrain(config), straight)
    state = load_checkpoint(straight.checkpoint)
    assert state["model"]["track_head.cells"].shape[1:] == (3, 2)
    # Its optimiser holds two moments and a count for the head too.
    moments = [len(values) for values in state["optimizer"]["state"].values()]
    trained = sum(
        name.startswith(("query_net", "track_head")) and "running" not in name and "num_" not in name
        for name in state["model"]
    )
    assert moments == [3] * trained


def test_a_bank_is_refused_where_pairs_are_of_one_video(videos, tmp_path):
    changes = {"data": {"reuse": 2}, "contrast": {"mode": "temporal", "own_negatives": "none"}}
    with pytest.raises(UsageError, match=r"data\.reuse: got 2, needs 1 in contrast\.mode"):
        pretrain(toy_config(videos, tmp_path, **changes))


def test_float16_scales_its_loss_and_resumes_with_the_same_scale(videos, tmp_path, at_step):
    changes = {"optim": {"steps": 3, "precision": "float16"}}
    straight = pretrain(toy_config(videos, tmp_path / "straight", **changes))
    config = toy_config(videos, tmp_path / "stopped", **changes)
    undo = at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    pretrain(config)
    undo()
    resumed = pretrain(config)
    assert load_checkpoint(resumed.checkpoint)["scaler"]["scale"] > 1
    assert_same_run(resumed, straight)


def test_compilation_is_of_both_networks_and_leaves_their_names(videos, tmp_path, straight, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: compiled.append(type(net)))
    result = pretrain(toy_config(videos, tmp_path, optim={"steps": 1}, run={"compile": True}))
    assert compiled == [EmbeddingNet, EmbeddingNet]
    model, expected = (load_checkpoint(run.checkpoint)["model"] for run in (result, straight))
    assert model.keys() == expected.keys()


def test_what_predicts_tracks_is_compiled_too(videos, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: compiled.append(type(net)))
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function.__name__) or function)
    changes = {"tracks": {"weight": 0.5}, "optim": {"steps": 1}, "run": {"compile": True}}
    pretrain(toy_config(videos, tmp_path, **changes))
    assert compiled == [EmbeddingNet, EmbeddingNet, "with_map"]


def test_a_batch_in_parts_enqueues_every_key(videos, tmp_path):
    result = pretrain(toy_config(videos, tmp_path, optim={"steps": 2, "accumulate": 2}))
    assert load_checkpoint(result.checkpoint)["model"]["contrast.pointer"] == 2 * 4
    assert log_lines(tmp_path)[0]["loss"] > 0


def test_settings_are_checked_before_videos_are(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(task_module, "prepare_videos", lambda *_, **__: pytest.fail("the videos were looked at"))
    with pytest.raises(UsageError, match=r"4 pairs, which do not split into optim\.accumulate 3"):
        pretrain(toy_config(videos, tmp_path, optim={"accumulate": 3}))
    with pytest.raises(UsageError, match=r"/nowhere\.pt: no such file"):
        pretrain(toy_config(videos, tmp_path, model={"init_from": "/nowhere.pt"}))


@pytest.mark.parametrize(
    ("size", "momentum", "steps", "warned"),
    [
        (256, 0.9, 300, True),
        (1024, 0.99, 300, True),
        (256, 0.99, 300, False),
        (1024, 0.99, 2000, False),
        (0, 0.9, 9, False),
    ],
)
def test_a_queue_of_old_keys_is_warned_of_in_a_short_run(videos, tmp_path, caplog, size, momentum, steps, warned):
    contrast = {"queue_size": size, "momentum": momentum}
    config = toy_config(videos, tmp_path, contrast=contrast, optim={"batch_size": 64, "steps": steps})
    watch.warn_of_stale_queue(config, steps)
    assert (f"the {size} keys of contrast.queue_size stay for {size / 64:.3g} steps" in caplog.text) == warned
    assert ("docs/how-to/watching.md" in caplog.text) == warned
    assert len(caplog.records) == warned


def test_a_run_warns_of_its_queue_at_its_start(videos, tmp_path, caplog):
    pretrain(toy_config(videos, tmp_path, contrast={"queue_size": 4, "momentum": 0.5}, optim={"steps": 2}))
    assert "the 4 keys of contrast.queue_size" in caplog.text


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ([-0.001] * 60, True),
        ([-0.3] * 200, False),
        (([-0.001] * 9 + [-0.5]) * 20, False),
        ([-1.0] * 30 + [0.0] * 90, True),
    ],
)
def test_a_collapse_is_warned_of_once(videos, tmp_path, caplog, values, warned):
    config = toy_config(videos, tmp_path, contrast={"queue_size": 0}, optim={"steps": len(values)})
    (of_run,) = watch.watches_of(config, 2)
    for step, value in enumerate(values, 1):
        of_run.update(step, {"uniformity": value})
    assert len(caplog.records) == warned
    assert ("docs/how-to/watching.md" in caplog.text) == warned


def test_a_network_of_one_point_is_told_from_one_pair_a_step(videos, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(watch.MetricWatch, "STEPS", 2)
    pair = {"steps": 3, "batch_size": 2, "accumulate": 2}
    pretrain(toy_config(videos, tmp_path / "pair", contrast={"queue_size": 0}, optim=pair))
    assert "collapsed" not in caplog.text
    monkeypatch.setattr(
        EmbeddingNet, "forward", lambda net, clips: torch.ones(len(clips), 8) + 0 * net.encoder(clips).sum()
    )
    pretrain(toy_config(videos, tmp_path / "point", contrast={"queue_size": 0}, optim={"steps": 3}))
    assert caplog.text.count("all clips are nearly one point") == 1


@pytest.mark.parametrize(
    ("queue", "gaps", "warned"), [(8, [9] * 4 + [0] * 80, 0), (8, [0] * 4 + [1.5] * 60, 1), (0, [], 0)]
)
def test_a_queue_that_is_told_by_its_age_is_warned_of_once_it_holds_keys(videos, tmp_path, caplog, queue, gaps, warned):
    config = toy_config(videos, tmp_path, contrast={"queue_size": queue}, optim={"batch_size": 2})
    of_run = watch.watches_of(config, 2)
    assert len(of_run) == 1 + (queue > 0)
    for step, gap in enumerate(gaps, 1):
        for each in of_run:
            each.update(step, {"uniformity": -1.0, "age_gap": gap})
    assert caplog.text.count("by their age") == warned
    assert caplog.text.count("contrast.momentum") == warned


def test_the_encoder_is_judged_along_the_way(videos, tmp_path):
    def evaluation(encoder):
        return {"feature": encoder(torch.ones(1, 3, 4, 24, 24)).mean().item()}

    result = pretrain(toy_config(videos, tmp_path, run={"evaluate_every": 3}), evaluation)
    found = {line["step"]: line["evaluation/feature"] for line in log_lines(tmp_path) if "evaluation/feature" in line}
    assert found.keys() == {3, 6}
    assert load_checkpoint(result.checkpoint)["evaluated"] == 6


def test_the_motion_probe_is_the_evaluation_of_default(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "_CLIPS", (24, 12))
    pretrain(toy_config(videos, tmp_path, optim={"steps": 1}, run={"evaluate_every": 1}))
    (line,) = [line for line in log_lines(tmp_path) if "evaluation/motion_probe_linear" in line]
    assert 0 <= line["evaluation/motion_probe_knn"] <= 1


def test_labels_are_read_out_along_the_way(videos, tmp_path, write_video):
    for name in ("red/p1_a", "red/p2_b", "blue/p1_c", "blue/p2_d"):
        tint = (230, 20, 20) if name.startswith("red") else (20, 20, 230)
        write_video(tmp_path / "classes" / f"{name}.mp4", tint=tint)
    (tmp_path / "classes" / "red" / "p1_broken.mp4").write_text("no video")
    evaluation = {"videos": str(tmp_path / "classes"), "group_pattern": r"(p\d)_", "clips": 2}
    output = tmp_path / "run"
    config = toy_config(videos, output, evaluation=evaluation, run={"evaluate_every": 3})
    pretrain(config)
    found = [line for line in log_lines(output) if "evaluation/label_probe_knn" in line]
    assert [line["step"] for line in found] == [3, 6]
    # Each person is judged by the other: colour, which even untrained features show, tells the two classes apart.
    assert found[0]["evaluation/label_probe_knn"] == found[0]["evaluation/label_probe_linear"] == 1
    # It is not what a run is: the same one goes on with another, or none.
    pretrain(dataclasses.replace(config, evaluation=EvaluationConfig()))
    evaluation["group_pattern"] = "(z)"
    config = toy_config(videos, tmp_path / "b", evaluation=evaluation, run={"evaluate_every": 1})
    with pytest.raises(DataError, match="finds no group in the name"):
        pretrain(config)


def test_evaluations_leave_the_weights_alone(videos, tmp_path, straight, write_video):
    for name in ("one/a", "one/b", "two/c", "two/d"):
        write_video(tmp_path / "classes" / f"{name}.mp4")
    evaluation = {"videos": str(tmp_path / "classes"), "clips": 1}
    result = pretrain(toy_config(videos, tmp_path / "run", evaluation=evaluation, run={"evaluate_every": 2}))
    assert equal(load_checkpoint(result.checkpoint)["model"], load_checkpoint(straight.checkpoint)["model"])


def test_tensorboard_shows_the_first_batch_and_the_scalars(videos, tmp_path):
    pretrain(toy_config(videos, tmp_path, optim={"steps": 2}, run={"tensorboard": True}))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["images"] == ["first_batch"]
    assert {"loss", "top5", "alignment", "uniformity", "lr", "grad_norm", "data_wait", "peak_memory_gb"} <= set(
        events.Tags()["scalars"]
    )


def test_a_loss_that_is_not_finite_stops_the_run_before_the_weights_change(videos, tmp_path, at_step):
    config = toy_config(videos, tmp_path, run={"checkpoint_every": 1})
    original = PairViews.forward

    def poisoned(views, batch):
        made = original(views, batch)
        if calls.append(1) or len(calls) == 4:  # the first batch's are made once more, for its picture
            made.query[1, :, 0] = float("nan")
        return made

    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PairViews, "forward", poisoned)
        with pytest.raises(NonFiniteLossError, match=r"at step 3 .*sample ids \[") as error:
            pretrain(config)
    dump = torch.load(tmp_path / "non-finite.pt", weights_only=True)
    assert str(tmp_path / "non-finite.pt") in str(error.value)
    assert dump["batch"]["sample_ids"].shape == (4,)
    weights = [value for name, value in dump["model"].items() if name.startswith("query_net.head")]
    assert all(value.isfinite().all() for value in weights)


@pytest.mark.parametrize(("fastest", "accumulate"), [("float32", 1), ("bfloat16", 1), ("float32", 2)])
def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_change(
    videos, tmp_path, monkeypatch, fastest, accumulate
):
    """The loss is finite, and so no sign of it."""

    class Poison(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("nan")

    original = MoCo.compare

    def poisoned(net, query, *others):
        output = original(net, query, *others)
        if steps and steps[0] == 2:
            output.loss = Poison.apply(output.loss)
        return output

    def train_step(task, batch):
        steps[:] = [task.step]
        return original_step(task, batch)

    steps, original_step = [], Pretraining.train_step
    monkeypatch.setattr(Pretraining, "train_step", train_step)
    monkeypatch.setattr(MoCo, "compare", poisoned)
    monkeypatch.setattr(precision, "fastest_precision", lambda _: fastest)
    optim = {"precision": "auto", "accumulate": accumulate}
    config = toy_config(videos, tmp_path, run={"checkpoint_every": 1}, optim=optim)
    with pytest.raises(
        NonFiniteGradientError, match=r"the gradient of query_net\.encoder.* is not finite at step 3 .*sample ids \["
    ) as error:
        pretrain(config)
    assert "the weights were not touched" in str(error.value)
    dump = torch.load(tmp_path / "non-finite.pt", weights_only=True)
    assert {"model", "optimizer", "rng", "batch", "step", "schedule"} <= dump.keys()
    newest = load_checkpoint(tmp_path / "checkpoints" / "step-00000002.pt")
    for name, value in newest["model"].items():
        if name.startswith("query_net") and "running" not in name and "num_batches" not in name:
            assert torch.equal(value, dump["model"][name]), name
    assert equal(newest["optimizer"], dump["optimizer"])
    assert equal(newest["rng"][0], dump["rng"])


def test_a_new_run_begins_with_the_weights_of_another(videos, tmp_path, straight):
    for path in (straight.output, straight.checkpoint):
        config = toy_config(videos, tmp_path / path.name, model={"init_from": str(path)}, optim={"lr": 0.0, "steps": 1})
        begun = load_checkpoint(pretrain(config).checkpoint)["model"]
        weights = load_checkpoint(straight.checkpoint)["model"]
        for name, value in begun.items():
            if name.startswith(("query_net", "key_net")) and name.endswith(("weight", "bias")):
                source = name.replace("key_net", "query_net")
                torch.testing.assert_close(value, weights[source], rtol=1e-6, atol=1e-7, msg=name)
        assert begun["contrast.pointer"] == 4
    # Gone on with, it has weights of its own, and the file may be gone.
    longer = dataclasses.replace(config, optim=dataclasses.replace(config.optim, steps=2))
    moved = dataclasses.replace(longer.model, init_from="gone.pt")
    assert pretrain(dataclasses.replace(longer, model=moved)).step == 2
    with pytest.raises(UsageError, match=r"model\.init_from .*: .*size mismatch"):
        pretrain(toy_config(videos, tmp_path / "other", model={"init_from": str(straight.checkpoint), "dim": 4}))


def test_videos_that_came_and_went_are_named_and_allowed_by_a_setting(videos, tmp_path, write_video, caplog):
    folder = tmp_path / "videos"
    for name in ("a", "b", "c"):
        write_video(folder / f"{name}.mp4")
    config = toy_config(folder, tmp_path / "run", optim={"steps": 2})
    pretrain(config)
    (folder / "b.mp4").unlink()
    write_video(folder / "d.mp4", frames=20)
    longer = dataclasses.replace(config, optim=dataclasses.replace(config.optim, steps=3))
    said = r"the list of readable videos \(1: d\.mp4 came, 1: b\.mp4 went\)"
    with pytest.raises(UsageError, match=said):
        pretrain(longer)
    allowed = dataclasses.replace(longer, run=dataclasses.replace(longer.run, allow_changed_videos=True))
    assert pretrain(allowed).step == 3
    assert "b.mp4 went); the order of samples is another from here on" in caplog.text


def test_too_little_shared_memory_is_said_before_the_start(videos, tmp_path, monkeypatch):
    monkeypatch.setattr("tubeletx_train.data.shared_memory.free_shared_memory", lambda: 100_000)
    config = toy_config(videos, tmp_path, data={"num_workers": 2, "prefetch": 3})
    with pytest.raises(UsageError, match=r"/dev/shm has 0 MB free, and data\.num_workers 2 with data\.prefetch 3"):
        pretrain(config)


def test_a_batch_of_one_value_is_refused_in_words(videos, tmp_path):
    config = toy_config(videos, tmp_path, data={"num_frames": 1, "crop_size": 8}, optim={"batch_size": 1, "steps": 1})
    with pytest.raises(UsageError, match=r"batch norm has a single value .*optim\.batch_size"):
        pretrain(config)


def test_bad_input_ends_before_training(videos, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "text.mp4").write_text("not a video")
    with pytest.raises(NoUsableVideos):
        pretrain(toy_config(tmp_path / "empty", tmp_path / "run"))
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match="cannot write to the output folder"):
        pretrain(toy_config(videos, file / "run"))
    with pytest.raises(UsageError, match="device: 'cuda:99' cannot be used"):
        pretrain(toy_config(videos, tmp_path / "other", run={"device": "cuda:99"}))


def pair_batch(seed=0, batch=3, frames=4, side=24):
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randint(256, (2, batch, 3, frames, side, side), dtype=torch.uint8, generator=generator)
    return PairBatch(clips[0], clips[1], torch.arange(batch), 0, torch.zeros(batch, 2, dtype=torch.int64), [])


def test_groups_of_shared_patches_must_fill_a_batch(videos, tmp_path):
    contrast = {"shared_patches": 3, "own_negatives": "none"}
    with pytest.raises(UsageError, match="got 3, needs a divisor of the 4 pairs"):
        pretrain(toy_config(videos, tmp_path, contrast=contrast))
    result = pretrain(toy_config(videos, tmp_path, contrast=contrast | {"shared_patches": 2}))
    assert result.exit_code == 0


NO_COLOR = ColorConfig(probability=0.0)


@pytest.mark.parametrize("kind", ["reversed", "resampled"])
def test_own_negatives_differ_from_keys_in_the_motion_of_the_same_patches(kind):
    batch = pair_batch()
    views = PairViews(ContrastConfig(own_negatives=kind), TubeletConfig(num_tubelets=1), NO_COLOR)(batch)
    coverage = views.tubelets.coverage((1, 1, 1)) > 0
    if kind == "reversed":
        # Without scale or shear a tubelet played backwards covers what it covered, in the opposite order.
        untouched = ~(coverage | coverage.flip(1))
        expected, got = views.key.flip(2), views.own_negative
        covered = coverage.flip(1)[:, None].expand_as(got)
        torch.testing.assert_close(got[covered], expected[covered])
        torch.testing.assert_close(got[untouched[:, None].expand_as(got)], views.key[untouched[:, None].expand_as(got)])
    assert not torch.equal(views.own_negative, views.key)
    if kind == "resampled":
        again = PairViews(ContrastConfig(own_negatives=kind), TubeletConfig(num_tubelets=1), NO_COLOR)(batch)
        assert torch.equal(views.own_negative, again.own_negative)
        assert not torch.equal(views.own_negative, views.key.flip(2))


def test_views_leave_the_batch_alone_and_share_tubelets():
    batch = pair_batch()
    before = batch.clip_1.clone()
    views = PairViews(ContrastConfig(), TubeletConfig(num_tubelets=1, transforms=()), NO_COLOR)(batch)
    assert torch.equal(batch.clip_1, before)
    assert views.own_negative is None
    covered = (views.tubelets.coverage((1, 1, 1)) > 0)[:, None].expand_as(views.clip_1)
    assert torch.equal(views.clip_1[covered], views.clip_2[covered])
    assert torch.equal(views.clip_1[~covered], batch.clip_1[~covered])


def covered(views):
    return (views.tubelets.coverage((1, 1, 1)) > 0)[:, None].expand_as(views.clip_1)


PLAIN = TubeletConfig(num_tubelets=1, transforms=())


def test_patches_of_each_clip_make_the_same_motion_in_another_appearance():
    batch = pair_batch()
    shared, own = (PairViews(ContrastConfig(patches=kind), PLAIN, NO_COLOR)(batch) for kind in ("shared", "per_clip"))
    assert torch.equal(shared.clip_1, own.clip_1)
    inside = covered(own)
    assert torch.equal(own.clip_2[~inside], shared.clip_2[~inside])
    # Each clip's patch is the same place of that clip, so that on swapped clips query and key change places.
    swapped = dataclasses.replace(batch, clip_1=batch.clip_2, clip_2=batch.clip_1)
    other = PairViews(ContrastConfig(patches="per_clip"), PLAIN, NO_COLOR)(swapped)
    assert torch.equal(other.clip_1, own.clip_2)
    assert torch.equal(other.clip_2, own.clip_1)


def test_an_offset_moves_the_key_clips_tubelets_as_a_whole_and_its_negatives_alike():
    batch = pair_batch(batch=6)
    plain = PairViews(ContrastConfig(), PLAIN, NO_COLOR)(batch)
    contrast = ContrastConfig(path_offset=0.5, own_negatives="reversed")
    views, again = (PairViews(contrast, PLAIN, NO_COLOR)(batch) for _ in range(2))
    assert torch.equal(views.clip_1, plain.clip_1)
    assert torch.equal(views.clip_2, again.clip_2)
    moved = (views.clip_2 != batch.clip_2).any(1)
    stayed = (plain.clip_2 != batch.clip_2).any(1)
    assert (moved != stayed).flatten(1).any(1).sum() >= 5
    # What the key shows in one frame its reversed negative shows in the mirrored one.
    backwards = (
        views.own_negative
        - PairViews(ContrastConfig(), PLAIN, NO_COLOR).color(batch.clip_2, batch.sample_ids, epoch=0, which=1)
    ).abs().amax(1) > 1e-4
    assert torch.equal(backwards, moved.flip(1))


def test_temporal_views_carry_no_tubelets():
    batch = pair_batch()
    views = PairViews(ContrastConfig(mode="temporal", own_negatives="reversed"), TubeletConfig(), NO_COLOR)(batch)
    assert views.tubelets is None
    assert torch.equal(views.clip_1, batch.clip_1)
    torch.testing.assert_close(views.own_negative, views.key.flip(2))


def test_configurations_of_runs_are_plain_data(videos, tmp_path):
    tree = to_tree(toy_config(videos, tmp_path))
    assert yaml.safe_load(yaml.safe_dump(tree)) == tree
