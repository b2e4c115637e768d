import json

import pytest

from tubeletx.config import TubeletConfig
from tubeletx_train.cli import main
from tubeletx_train.config.ablations import ablation_tables, arms
from tubeletx_train.config.labelled import FinetuneConfig
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.config.recipes import load_recipe, recipe_names
from tubeletx_train.config.tree import flatten
from tubeletx_train.pretrain.task import Pretraining, pretrain


def parse(*arguments):
    return parse_config(PretrainConfig, arguments, prog="test")


def pretraining_recipes():
    """All that pretrain, each pretraining once, and the released protocol on top of what it can run."""
    names = [name for name in recipe_names() if name.startswith(("pretrain/", "table", "figure", "protocol/paper"))]
    names = [name for name in names if name not in arms() or arms()[name][1].same_as is None]
    released = [name for name in names if name not in arms() or arms()[name][0].paper_only is None]
    return [(name,) for name in names] + [(name, "protocol/released") for name in released if "figure5" not in name]


def toy(names, videos, output):
    size = 32 if names[0].endswith("_i3d") else 16
    options = {
        "data.videos": videos,
        "data.num_frames": 8,
        "data.crop_size": size,
        "data.decode_size": 32,
        "data.num_workers": 0,
        "model.width": 2,
        "model.dim": 8,
        "contrast.queue_size": 8,
        "optim.batch_size": 2,
        "optim.steps": 2,
        "run.output": output,
        "run.device": "cpu",
        "run.log_every": 1,
        "run.tensorboard": "false",
    }
    configs = [argument for name in names for argument in ("--config", name)]
    return parse(*configs, *(f"--{name}={value}" for name, value in options.items()))


@pytest.mark.parametrize("names", pretraining_recipes(), ids="+".join)
def test_every_recipe_takes_two_steps(names, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(Pretraining, "draw_batch", lambda *_: None)  # the pictures would take half the time
    result = pretrain(toy(names, videos, tmp_path))
    assert (result.step, result.exit_code) == (2, 0)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 2


def changes(name, *more):
    """Settings in which a recipe differs from its table's base, the output folder apart."""
    base = arms()[name][0].base
    ours = flatten(load_recipe(name))
    theirs = flatten(load_recipe(base))
    different = {key: ours[key] for key in ours if ours[key] != theirs.get(key)}
    assert different.pop("run.output") == f"runs/{name}"
    return different


NO_TRANSFORM = {"tubelets.transforms": []}
SHEAR = {"tubelets.shear_range": [-1.5, 1.5]}  # section 3.3, and what Table 4's numbers are of
PLAIN = {"tubelets.motion": "nonlinear"}

# Every pretraining of the ablations, as the paper describes it.
ARMS = {
    "table2/baseline": {"contrast.mode": "temporal"},
    "table2/generation": {"tubelets.motion": "static", **NO_TRANSFORM},
    "table2/motion": PLAIN | NO_TRANSFORM,
    "table2/transformation": PLAIN | {"tubelets.transforms": ["rotation"]},
    "table3/linear": {"tubelets.motion": "linear", **NO_TRANSFORM},
    "table4/scale": {"tubelets.transforms": ["scale"]},
    "table4/shear": {"tubelets.transforms": ["shear"], "tubelets.shear_range": [-1.5, 1.5]},
    "table5/one": {"tubelets.num_tubelets": 1},
    "table5/three": {"tubelets.num_tubelets": 3},
    "table11/scale_shear": {"tubelets.transforms": ["scale", "shear"], **SHEAR},
    "table11/rotation_scale": {"tubelets.transforms": ["rotation", "scale"]},
    "table11/rotation_shear": {"tubelets.transforms": ["rotation", "shear"], **SHEAR},
    "table11/rotation_scale_shear": {"tubelets.transforms": ["rotation", "scale", "shear"], **SHEAR},
    "table12/scale_1.25": {"tubelets.transforms": ["scale"], "tubelets.scale_range": [0.5, 1.25]},
    "table12/scale_2": {"tubelets.transforms": ["scale"], "tubelets.scale_range": [0.5, 2]},
    "table12/shear_0.75": {"tubelets.transforms": ["shear"], "tubelets.shear_range": [-0.75, 0.75]},
    "table12/shear_1": {"tubelets.transforms": ["shear"], "tubelets.shear_range": [-1, 1]},
    "table12/rotation_45": {"tubelets.rotation_range": [-45, 45]},
    "table12/rotation_180": {"tubelets.rotation_range": [-180, 180]},
}
SHARED = {
    "table3/static": "table2/generation",
    "table3/nonlinear": "table2/motion",
    "table4/none": "table2/motion",
    "table4/rotation": "table2/transformation",
    "table5/two": "table2/transformation",
    "table11/none": "table4/none",
    "table11/scale": "table4/scale",
    "table11/shear": "table4/shear",
    "table11/rotation": "table4/rotation",
    "table12/none": "table4/none",
    "table12/scale_1.5": "table4/scale",
    "table12/shear_1.5": "table4/shear",
    "table12/rotation_90": "table4/rotation",
}


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_differs_from_its_base_in_what_its_row_says(name):
    assert changes(name) == ARMS[name]


@pytest.mark.parametrize("name", SHARED)
def test_rows_that_are_one_pretraining_share_it(name):
    assert load_recipe(name) == load_recipe(SHARED[name])


def test_figure_5_crosses_methods_shares_and_seeds():
    expected = {}
    for mode in ("tubelet", "temporal"):
        for share in ("0.05", "0.10", "0.25", "0.33", "0.50", "1.00"):
            for seed in (0, 1, 2):
                expected[f"figure5/{mode}/{share}/{seed}"] = (mode, share, seed)
    assert set(arms()) == {*ARMS, *SHARED, *expected}
    for name, (mode, share, seed) in expected.items():
        recipe = load_recipe(name)
        assert recipe["contrast"].get("mode", "tubelet") == mode
        part = "" if share == "1.00" else f"_{share}_seed{seed}"
        assert recipe["data"]["videos"] == f"manifests/kinetics400{part}.csv"
        assert recipe["run"]["seed"] == seed
        assert recipe["run"]["output"] == f"runs/{name}"


def test_printed_numbers_are_one_for_each_column():
    for table in ablation_tables().values():
        lengths = {len(arm.printed) for arm in table.arms}
        assert lengths == ({0} if table.name == "figure5" else {len(table.columns)})
    # The paper repeats numbers: the same pretraining must be copied alike, but for the two cells where it differs.
    different = {
        name
        for name, other in SHARED.items()
        if any(a != b for a, b in zip(arms()[name][1].printed, arms()[other][1].printed, strict=False))
    }
    assert different == {"table4/none"}


def test_the_released_protocol_holds_the_released_codes_settings():
    paper = parse("--config", "pretrain/mini_kinetics")
    released = parse("--config", "pretrain/mini_kinetics", "--config", "protocol/released")
    assert released.tubelets == TubeletConfig.preset("released")
    assert (paper.optim.clip_norm, released.optim.clip_norm) == (None, 40)
    assert (paper.optim.schedule_epochs, released.optim.schedule_epochs) == (None, 200)
    assert released.optim.epochs == paper.optim.epochs == 100
    assert (released.model.batch_norm, released.model.batch_norm_eps) == ("sync", 1e-3)
    assert (paper.model.batch_norm, paper.model.batch_norm_eps) == ("shuffle", 1e-5)
    assert (released.model.initialisation, paper.model.initialisation) == ("torch", "he")
    assert released.color.shared
    assert released.data.crop == "released"
    static = parse("--config", "table2/generation", "--config", "protocol/released").tubelets
    assert static == TubeletConfig.preset("released", motion="static", transforms=())


def test_i3d_takes_224_pixels():
    config = parse("--config", "pretrain/mini_kinetics_i3d")
    assert (config.model.encoder, config.data.crop_size, config.data.num_frames) == ("i3d", 224, 16)


def printed(capsys, *arguments):
    assert main(["recipes", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_table_is_printed_as_the_commands_that_run_it(capsys):
    lines = printed(capsys, "--table", "3")
    assert lines[0] == "# Table 3: tubelet motions"
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[0].startswith("tubeletx-train manifest mini_kinetics ")
    assert "--output manifests/mini_kinetics.csv" in commands[0]
    configs = ["table2/generation", "table3/linear", "table2/motion"]
    assert commands[1::5] == [f"tubeletx-train pretrain --config {name}" for name in configs]
    assert commands[7] == (
        "tubeletx-train finetune --config downstream/ucf_low_shot --checkpoint runs/table3/linear "
        "--method table3/linear --data.train manifests/ucf101.csv --run.output runs/table3/linear/ucf_low_shot"
    )
    assert lines[lines.index("# Linear") + 1] == (
        "# in the paper: ucf_low_shot 55.5, gym_low_shot 34.6, ssv2_sub 45.3, ub_s1 88.5"
    )


@pytest.mark.parametrize("table", ablation_tables().values(), ids=lambda table: table.name)
def test_the_commands_of_every_table_parse(capsys, table):
    kind = "table" if table.name.startswith("table") else "figure"
    for protocol in ("paper", "released"):
        arguments = [f"--{kind}", table.name.removeprefix(kind), "--protocol", protocol]
        if protocol == "released" and table.paper_only:
            assert main(["recipes", *arguments]) == 2
            assert table.paper_only in capsys.readouterr().err
            continue
        lines = [line.split() for line in printed(capsys, *arguments)]
        commands = [words[2:] for words in lines if words[:2] == ["tubeletx-train", "pretrain"]]
        arms_run = [arm for arm in table.arms if protocol == "paper" or arm.paper_only is None]
        assert len(commands) == len(arms_run)
        outputs = {parse(*words).run.output for words in commands[-3:]}
        assert len(outputs) == 3
        finetunings = [words[2:] for words in lines if words[:2] == ["tubeletx-train", "finetune"]]
        assert len(finetunings) == len(arms_run) * len(table.columns)
        for words in finetunings[: len(table.columns)]:
            config = parse_config(FinetuneConfig, words, prog="test")
            assert config.protocol == protocol
        assert all(output.endswith("-released") == (protocol == "released") for output in outputs)


def test_the_released_code_cannot_run_what_it_does_not_have(capsys):
    assert {name for name, table in ablation_tables().items() if table.paper_only} == {
        f"table{number}" for number in (2, 3, 4, 11, 12)
    }
    lines = printed(capsys, "--figure", "5", "--protocol", "released")
    assert "# left out: the released code has no temporal contrast" in lines
    assert not [line for line in lines if line.startswith("tubeletx-train") and "temporal" in line]


def test_figure_5_first_draws_its_subsets(capsys):
    commands = [line for line in printed(capsys, "--figure", "5") if "manifest" in line]
    subsets = [line for line in commands if line.startswith("tubeletx-train manifest kinetics400")]
    assert len(subsets) == 15 + 1  # all videos once, for three seeds of the weights
    assert subsets[-1].endswith("--output manifests/kinetics400.csv")
    assert "--subset 0.33 --subset_seed 2 --output manifests/kinetics400_0.33_seed2.csv" in subsets[11]


def test_recipes_are_listed_and_shown(capsys):
    lines = printed(capsys)
    assert any(line.startswith("pretrain/mini_kinetics_r3d ") for line in lines)
    assert any(line.startswith("table5/... ") and "one, two, three" in line for line in lines)
    assert "motion: linear" in "\n".join(printed(capsys, "table3/linear"))
    assert printed(capsys, "table3/static")[1] == "base: table2/generation"


def test_an_arm_can_be_a_base(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: table4/none\noptim: {lr: 0.5}\n")
    assert load_recipe(str(tmp_path / "mine.yaml")) == {
        **load_recipe("table2/motion"),
        "optim": {**load_recipe("table2/motion")["optim"], "lr": 0.5},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table3/liner"], "did you mean 'table3/linear'"),
        (["--table", "7"], "no table '7' of pretraining recipes; there are 2, 3, 4, 5, 11, 12"),
        (["--table", "3", "--figure", "5"], "exclude each other"),
    ],
)
def test_mistakes_are_named(capsys, arguments, message):
    assert main(["recipes", *arguments]) == 2
    assert message in capsys.readouterr().err
