import dataclasses
from pathlib import Path

import pytest
import yaml

from tubeletx.config import TubeletConfig
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.labelled import EvaluateConfig, FinetuneConfig
from tubeletx_train.config.parse import config_from_checkpoint, config_from_tree, option_names, parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.recipes import describe, load_recipe, recipe_names
from tubeletx_train.config.repetition import RepetitionConfig
from tubeletx_train.config.tree import default_settings, flatten, merge, to_tree
from tubeletx_train.pretrain.preview import PreviewConfig


def parse(*arguments):
    return parse_config(PretrainConfig, arguments, prog="test")


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_parses_and_has_one_line_about_it(name):
    if name.startswith("downstream/"):
        counting, arguments = name.endswith("ucfrep"), ["--checkpoint", "x", "--data.train", "y"]
        for config_class in (RepetitionConfig,) if counting else (FinetuneConfig, EvaluateConfig):
            assert parse_config(config_class, [*arguments, "--config", name], prog="test").checkpoint == "x"
    else:
        assert parse("--config", name, "--data.videos", "somewhere").data.videos == "somewhere"
    assert describe(name)
    assert "\n" not in describe(name)


def test_the_papers_recipe_holds_the_papers_numbers():
    config = parse("--config", "pretrain/kinetics400", "--data.videos", "x")
    assert config.tubelets == TubeletConfig.preset("paper")
    assert (config.data.num_frames, config.data.crop_size) == (16, 112)
    assert (config.contrast.queue_size, config.contrast.temperature, config.contrast.momentum) == (16384, 0.2, 0.999)
    assert config.contrast.own_negatives == "none"
    optim = config.optim
    assert (optim.lr, optim.momentum, optim.weight_decay, optim.batch_size, optim.epochs) == (0.01, 0.9, 1e-4, 32, 100)


def test_temporal_contrast_differs_from_its_base_in_mode_and_output_only():
    base, derived = (flatten(load_recipe(f"pretrain/{name}")) for name in ("mini_kinetics", "temporal_contrast"))
    assert {key for key in base.keys() | derived.keys() if base.get(key) != derived.get(key)} == {
        "contrast.mode",
        "run.output",
    }


def test_command_line_overrides_recipes_wherever_it_stands():
    config = parse("--optim.lr=0.5", "--config", "demo", "--data.videos", "x", "--model.width", "3")
    assert (config.optim.lr, config.model.width) == (0.5, 3)
    assert config.contrast.momentum == load_recipe("demo")["contrast"]["momentum"]


def test_presets_lie_under_the_other_settings(tmp_path):
    released = TubeletConfig.preset("released")
    config = parse("--data.videos", "x", "--tubelets.preset", "released", "--tubelets.sigma", "2")
    assert config.tubelets == dataclasses.replace(released, sigma=2)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("base: pretrain/mini_kinetics\ntubelets: {preset: released, num_tubelets: 3}\n")
    config = parse("--data.videos", "x", "--config", str(recipe))
    assert config.tubelets == dataclasses.replace(released, num_tubelets=3)


@pytest.mark.parametrize(
    ("config_class", "short", "long", "others"),
    [
        (PretrainConfig, "videos", "data.videos", ()),
        (PretrainConfig, "output", "run.output", ("--videos", "x")),
        (PretrainConfig, "device", "run.device", ("--videos", "x")),
        (EvaluateConfig, "output", "run.output", ("--checkpoint", "x")),
        (EvaluateConfig, "num_workers", "data.num_workers", ("--checkpoint", "x")),
    ],
)
def test_every_command_knows_the_words_that_others_have(config_class, short, long, others):
    value = "3" if short == "num_workers" else "cpu"
    one, other = (parse_config(config_class, [*others, f"--{name}", value], prog="test") for name in (short, long))
    assert one == other
    assert one != parse_config(config_class, [*others, f"--{long}=2"], prog="test")


@pytest.mark.parametrize("queue_size", [-1, 0])
def test_a_loss_without_negatives_is_refused(queue_size):
    with pytest.raises(UsageError, match="queue_size"):
        parse("--data.videos", "x", "--contrast.queue_size", str(queue_size))


def test_negatives_of_the_same_step_replace_a_queue():
    config = parse("--data.videos", "x", "--contrast.queue_size", "0", "--contrast.batch_negatives", "true")
    assert config.contrast.queue_size == 0


def test_a_shipped_recipe_serves_every_command():
    config = parse_config(EvaluateConfig, ["--config", "downstream/ucf101", "--checkpoint", "x"], prog="test")
    assert (config.data.num_classes, config.output) == (101, "runs/evaluate")


def test_every_setting_of_the_users_own_is_used_or_refused_by_name(tmp_path):
    recipe = tmp_path / "own.yaml"
    recipe.write_text("base: downstream/ucf101\nrun: {seed: 5, device: cpu}\noptim: {precision: bfloat16}\n")
    config = parse_config(EvaluateConfig, ["--config", str(recipe), "--checkpoint", "x"], prog="test")
    assert (config.seed, config.device, config.precision) == (5, "cpu", "bfloat16")
    recipe.write_text("base: below.yaml\ndata: {num_frames: 8}\n")
    (tmp_path / "below.yaml").write_text("optim: {lr: 0.5}\ntubelets: {preset: released}\n")
    with pytest.raises(UsageError, match=r"own\.yaml: test has no use for optim\.lr, tubelets\.preset; leave"):
        parse_config(EvaluateConfig, ["--config", str(recipe), "--checkpoint", "x"], prog="test")
    with pytest.raises(UsageError, match=r"unknown option --tubelets\.preset"):
        parse_config(EvaluateConfig, ["--checkpoint", "x", "--tubelets.preset", "paper"], prog="test")
    recipe.write_text("data: {test_clip: 3}\n")
    with pytest.raises(UsageError, match=r"unknown setting 'data\.test_clip'; did you mean 'data\.test_clips'"):
        parse("--config", str(recipe), "--data.videos", "x")
    # What a preview shows is a pretraining, whatever else that one sets.
    recipe.write_text("optim: {lr: 0.5}\nrun: {seed: 3}\ncontrast: {still_background: true}\n")
    arguments = ["--config", str(recipe), "--data.videos", "x"]
    shown = parse_config(PreviewConfig, arguments, prog="test", describes=PretrainConfig)
    assert (shown.seed, shown.contrast.still_background) == (3, True)


def test_values_are_taken_as_people_write_them(tmp_path):
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "data: {split: 1, strides: 2, crop_area: 0.5, num_frames: 8.0}\n"
        "run: {output: 2024_01, resume: no}\noptim: {clip_norm: None, steps: 1e3}\n".replace("0.5", "'0.5, 1'")
    )
    config = parse("--config", str(recipe), "--data.videos", "x")
    assert (config.data.split, config.run.output, config.run.resume) == ("1", "2024_01", "no")
    assert (config.data.strides, config.data.crop_area, config.data.num_frames) == ((2,), (0.5, 1.0), 8)
    assert (config.optim.clip_norm, config.optim.steps) == (None, 1000)
    recipe.write_text("data: {split: null}\nrun: {output: 07}\n")
    config = parse("--config", str(recipe), "--data.videos", "x", "--optim.clip_norm", "None", "--data.strides=1,3")
    assert (config.data.split, config.run.output, config.data.strides) == (None, "07", (1, 3))
    assert config.optim.clip_norm is None
    recipe.write_text("data: {videos: ~/a.csv}\n")
    config = parse("--config", str(recipe), "--run.output=~/runs/a")
    assert [config.data.videos, config.run.output] == [str(Path.home() / "a.csv"), str(Path.home() / "runs/a")]
    for text, seed in (("20261127123456789", 20261127123456789), ("010", 10), ("1e3", 1000)):
        assert parse("--data.videos", "x", "--run.seed", text).run.seed == seed


def test_a_base_is_found_beside_the_recipe(tmp_path):
    (tmp_path / "first.yaml").write_text("optim: {lr: 0.3, epochs: 7}\n")
    (tmp_path / "second.yaml").write_text("base: first.yaml\noptim: {lr: 0.4}\n")
    assert load_recipe(str(tmp_path / "second.yaml")) == {"optim": {"lr": 0.4, "epochs": 7}}


def test_configurations_survive_yaml_and_checkpoints():
    config = parse(
        "--config", "demo", "--data.videos", "x", "--tubelets.preset", "released", "--optim.clip_norm", "null"
    )
    tree = to_tree(config)
    assert config_from_tree(PretrainConfig, yaml.safe_load(yaml.safe_dump(tree)), "test") == config
    assert set(flatten(tree)) == set(option_names(PretrainConfig))


def test_merge_goes_section_by_section():
    assert merge({"a": {"b": 1, "c": 2}, "d": [1, 2]}, {"a": {"c": 3}, "d": [4]}) == {"a": {"b": 1, "c": 3}, "d": [4]}


def write(folder, text):
    path = folder / "recipe.yaml"
    path.write_text(text)
    return ["--config", str(path)]


MISTAKES = [
    (lambda _: ["--optim.lrr", "1"], r"unknown option --optim\.lrr; did you mean 'optim\.lr'\?"),
    (lambda _: ["--lr", "1"], r"unknown option --lr; did you mean 'optim\.lr'\?"),
    (lambda _: ["--config", "pretrain/kinetic400"], r"did you mean 'pretrain/kinetics400'"),
    (lambda _: ["--config"], "--config needs a value"),
    (lambda _: ["--optim.lr", "fast"], r"^optim\.lr: got fast, needs a finite number$"),
    (lambda _: ["--optim.momentum", "1.5"], r"^optim\.momentum: got 1\.5, needs one in \[0, 1\)$"),
    (lambda _: ["--optim.lr", ".nan"], r"^optim\.lr: got nan, needs 0 or more$"),
    (lambda _: ["--optim.lr", ".inf"], r"^optim\.lr: got inf, needs 0 or more$"),
    (lambda _: ["--data.batch_size", "3"], r"did you mean 'optim\.batch_size'"),
    (lambda _: ["--run.threads", "two"], r"^run\.threads: got two, needs a whole number or null$"),
    (
        lambda _: ["--optim.precision", "half"],
        r"^optim\.precision: got .*, needs one of auto, float32, bfloat16, float16",
    ),
    (lambda f: write(f, ""), r"recipe\.yaml is empty"),
    (lambda f: write(f, "optim:\n  lr: 1\n  lr: 2\n"), r"optim\.lr is given twice"),
    (lambda f: write(f, "optim: {lr: 1}\noptim: {lr: 2}\n"), r"optim is given twice"),
    (lambda f: write(f, "optim: {lr: 2001-15-44}"), r"recipe\.yaml: month must be in 1"),
    (lambda _: ["--tubelets.preset", "papre"], r"^tubelets\.preset: got 'papre', needs one of"),
    (
        lambda _: ["--tubelets.patch_sides", "nan", "3"],
        r"^tubelets\.patch_sides: got .*, needs a list of 2 finite numbers$",
    ),
    (
        lambda _: ["--tubelets.transforms", " "],
        r"^tubelets\.transforms: got .*, needs a list of any of scale, rotation, shear$",
    ),
    (lambda _: ["--data.strides", "a"], r"^data\.strides: got .*, needs a list of whole numbers$"),
    (lambda _: ["--tubelets.num_tubelets", "0"], r"^tubelets\.num_tubelets"),
    (lambda _: ["--data.num_frames", "0"], r"^data\.num_frames: got 0, needs 1 or more$"),
    (lambda _: ["--data.prefetch", "0"], r"^data\.prefetch: got 0, needs 1 or more"),
    (lambda _: ["--data.max_bad_share", "1.5"], r"^data\.max_bad_share: got 1\.5, needs one in \[0, 1\]$"),
    (
        lambda _: ["--data.crop_area", "[0.5, 1.2]"],
        r"^data\.crop_area: got .*, needs two positive numbers of at most 1",
    ),
    (lambda _: ["--data.reader", "cv2"], r"data\.reader.*cv2"),
    (lambda _: ["--optim.clip_norm", "0"], r"^optim\.clip_norm: got 0\.0, needs a positive number"),
    (lambda _: ["--run.threads", "0"], r"^run\.threads: got 0, needs 1 or more"),
    (lambda _: ["--contrast.queue_size", "-1"], r"^contrast\.queue_size: got -1, needs 0 or more$"),
    (lambda _: ["--contrast.mode", "temporal", "--contrast.own_negatives", "resampled"], "contrast.own_negatives"),
    (lambda f: write(f, "optim: {learning_rate: 1}"), r"recipe\.yaml: unknown setting 'optim\.learning_rate'"),
    (lambda f: write(f, "optim: {clipnorm: 1}"), r"did you mean 'optim\.clip_norm'"),
    (lambda f: write(f, "optim: 3"), r"'optim' is a section, got 3"),
    (lambda f: write(f, "- a\n- b"), "a recipe is a mapping"),
    (lambda f: write(f, "a: [1"), r"recipe\.yaml: .*expected"),
    (lambda f: write(f, "base: recipe.yaml"), "cannot be its own base"),
    (lambda f: write(f, "base: nowhere"), "no recipe or file called 'nowhere'"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_are_named_in_one_line(tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message) as error:
        parse("--data.videos", "x", *arguments(tmp_path))
    assert "\n" not in str(error.value)


def test_videos_are_required():
    with pytest.raises(UsageError, match=r"data\.videos"):
        parse()


def test_a_checkpoints_setting_that_is_gone_is_passed_over_at_its_default():
    config = parse("--data.videos", "x", "--data.reuse", "4")
    tree, defaults = to_tree(config), default_settings(config)
    assert {name: value for name, value in flatten(tree).items() if defaults.get(name) != value} == {
        "data.videos": "x",
        "data.reuse": 4,
    }
    state = {"config": merge(tree, {"optim": {"gone": 1.5}}), "defaults": defaults | {"optim.gone": 1.5}}
    assert config_from_checkpoint(PretrainConfig, state, "test") == config
    state["config"]["optim"]["gone"] = 2.5
    with pytest.raises(UsageError, match=r"unknown setting 'optim\.gone'"):
        config_from_checkpoint(PretrainConfig, state, "test")
