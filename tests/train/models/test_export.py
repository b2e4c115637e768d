import dataclasses
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tubeletx_train.cli import main
from tubeletx_train.config.origin import nearest_recipe
from tubeletx_train.config.parse import config_from_tree, parse_config
from tubeletx_train.config.pretrain import ModelConfig, PretrainConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.models import build_encoder
from tubeletx_train.models.weights import build_from_settings, encoder_settings, load_encoder, load_encoder_weights
from tubeletx_train.models.weights.card import Training, model_card
from tubeletx_train.pretrain.moco import MoCo

FORMATS = {"torchvision": "pt", "released": "pth", "safetensors": "safetensors"}
STANDARD_NAMES = {
    "r2plus1d_18": {"torchvision": "layer2.0.conv1.0.3.weight", "released": "backbone.layer2.0.conv1.conv_t.weight"},
    "r3d_18": {"torchvision": "layer2.0.conv1.0.weight", "released": "backbone.layer2.0.conv1.conv.weight"},
    "i3d": {"torchvision": None, "released": "backbone.mixed_3b.branch_1.1.conv3d.weight"},
}


def parse(*arguments):
    return parse_config(PretrainConfig, arguments, prog="test")


def checkpoint(path, *arguments, step=10):
    """A checkpoint of a narrow network with drawn weights, laid out in memory as training lays them out."""
    config = parse("--config", "pretrain/mini_kinetics", "--model.width", "2", *arguments)
    torch.manual_seed(0)
    moco = MoCo(build_from_settings(config.model), dim=4, queue_size=8)
    with torch.no_grad():
        for value in moco.query_net.state_dict().values():
            value.copy_(torch.rand(value.shape) if value.is_floating_point() else torch.tensor(7))
        for parameter in moco.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    state = {"tubeletx": "1.2.3", "config": to_tree(config), "model": moco.state_dict(), "step": step}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state | {"total_steps": 10}, path)
    return config, moco.query_net.encoder


def export(capsys, *arguments):
    assert main(["export", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def assert_same(encoder, expected):
    state = expected.state_dict()
    assert encoder.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in STANDARD_NAMES for kind in FORMATS if (name, kind) != ("i3d", "torchvision")],
)
def test_exports_come_back_bit_for_bit(tmp_path, capsys, name, kind):
    config, expected = checkpoint(tmp_path / "step-00000010.pt", "--model.encoder", name)
    output = tmp_path / "out" / f"encoder.{FORMATS[kind]}"
    written = export(capsys, tmp_path / "step-00000010.pt", "--format", kind, "--output", output)
    assert written == [str(output), f"{output}.md"]
    assert_same(load_encoder(output), expected)
    assert encoder_settings(output) == config.model
    other = build_encoder(name, 2)
    report = load_encoder_weights(other, output)
    assert (report.missing, report.unexpected) == ([], [])
    assert_same(other, expected)

    tensors = load_file(output) if kind == "safetensors" else torch.load(output, weights_only=True)
    if kind == "released":
        tensors = tensors["state_dict"]
    key = STANDARD_NAMES[name]["released" if kind == "released" else "torchvision"]
    assert key is None or key in tensors
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    assert {path.name for path in output.parent.iterdir()} == {output.name, f"{output.name}.md"}


def test_a_torchvision_export_is_a_plain_state_dict(tmp_path, capsys):
    _, expected = checkpoint(tmp_path / "a.pt")
    export(capsys, tmp_path / "a.pt", "--output", tmp_path / "tv.pt")
    state = torch.load(tmp_path / "tv.pt", weights_only=True)
    assert list(state) == list(expected.state_dict())
    assert build_encoder("r2plus1d_18", 2).load_state_dict(state).missing_keys == []


def test_a_networks_own_settings_come_back(tmp_path, capsys):
    arguments = (
        "--model.temporal_strides",
        "[1,1,2,1]",
        "--model.batch_norm_eps",
        "0.003",
        "--model.encoder",
        "r3d_10",
    )
    config, expected = checkpoint(tmp_path / "a.pt", *arguments)
    export(capsys, tmp_path / "a.pt", "--output", tmp_path / "tv.pt")
    encoder = load_encoder(tmp_path / "tv.pt")
    assert encoder_settings(tmp_path / "tv.pt") == config.model
    assert_same(encoder, expected)
    clip = torch.randn(2, 3, 8, 16, 16)
    assert torch.equal(encoder.eval()(clip), expected.eval()(clip))
    assert {module.eps for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm3d)} == {0.003}


def test_a_runs_folder_gives_its_newest_checkpoint(tmp_path, capsys, monkeypatch):
    checkpoint(tmp_path / "run" / "checkpoints" / "step-00000004.pt", "--model.dim", "5", step=4)
    checkpoint(tmp_path / "run" / "checkpoints" / "step-00000010.pt", "--model.dim", "6")
    monkeypatch.chdir(tmp_path)
    assert export(capsys, "run", "--format", "released") == ["r2plus1d_18-released.pth", "r2plus1d_18-released.pth.md"]
    assert encoder_settings("r2plus1d_18-released.pth").dim == 6


def card_of(tmp_path, capsys, *arguments, kind="torchvision", step=10):
    config, _ = checkpoint(tmp_path / "a.pt", *arguments, step=step)
    output = tmp_path / f"encoder.{FORMATS[kind]}"
    export(capsys, tmp_path / "a.pt", "--format", kind, "--output", output)
    return config, output.with_name(f"{output.name}.md").read_text(encoding="utf-8")


def test_the_card_tells_recipe_data_steps_and_settings(tmp_path, capsys):
    config, card = card_of(
        tmp_path, capsys, "--config", "table3/linear", "--data.videos", "vidéos.csv", "--optim.lr", "0.5", step=4
    )
    assert "nearly those of `table3/linear`; here " in card
    assert "`optim.lr` 0.5 (there 0.01)" in card
    assert "`model.width` 2 (there 64)" in card
    assert "`vidéos.csv`" in card
    assert "4 of 10: the run was not finished, 32 pairs each" in card
    assert "tubeletx 1.2.3" in card
    settings = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, re.DOTALL)[1])
    assert config_from_tree(PretrainConfig, settings, "card") == config


def test_two_formats_of_one_name_have_a_card_each(tmp_path, capsys):
    checkpoint(tmp_path / "a.pt")
    for kind in ("torchvision", "safetensors"):
        export(capsys, tmp_path / "a.pt", "--format", kind, "--output", tmp_path / f"r18.{FORMATS[kind]}")
    cards = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("r18*.md")}
    assert set(cards) == {"r18.pt.md", "r18.safetensors.md"}
    assert "`torchvision`" in cards["r18.pt.md"]
    assert "`safetensors`" in cards["r18.safetensors.md"]


def test_a_card_names_no_recipe_that_was_not_run(tmp_path, capsys):
    changes = {"optim.lr": 3, "optim.momentum": 0.1, "optim.weight_decay": 0.3, "optim.warmup_steps": 3, "run.seed": 4}
    changes |= {"color.brightness": 0.1, "color.contrast": 0.1, "color.hue": 0.2, "color.saturation": 0.1}
    changes |= {"contrast.temperature": 0.3, "contrast.momentum": 0.3, "tubelets.sigma": 3, "tubelets.num_points": 20}
    _, card = card_of(tmp_path, capsys, *(f"--{name}={value}" for name, value in changes.items()))
    assert "| settings | its own, below |" in card


@pytest.mark.parametrize("kind", FORMATS)
def test_what_the_card_says_loads_the_file(tmp_path, capsys, monkeypatch, kind):
    _, card = card_of(tmp_path, capsys, kind=kind)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == (2 if kind == "safetensors" else 1)  # torchvision's own network has another width
    for block in blocks:
        scope = {}
        exec(block, scope)
        loaded = scope["state_dict"] if "state_dict" in scope else scope["encoder"].state_dict()
        assert loaded.keys() == build_encoder("r2plus1d_18", 2).state_dict().keys()


def test_the_card_of_a_standard_network_names_torchvisions():
    config = parse("--config", "pretrain/mini_kinetics", "--config", "protocol/released")
    card = model_card(Path("encoder.pt"), "torchvision", Training(config, 3, 3, "1"))
    assert "from torchvision.models.video import r2plus1d_18" in card
    assert "these weights were trained with 0.001" in card
    assert "`pretrain/mini_kinetics` with `protocol/released` |" in card
    assert "| steps | 3, 32 pairs each |" in card


@pytest.mark.parametrize(
    "recipes",
    [
        ("pretrain/kinetics400",),
        ("pretrain/mini_kinetics_i3d",),
        ("pretrain/temporal_contrast",),
        ("table12/shear_1",),
        ("table11/rotation_scale",),
        ("figure5/temporal/0.25/1",),
        ("table3/linear", "protocol/released"),
    ],
)
def test_the_nearest_recipe_is_the_one_it_was(recipes):
    config = parse(*(argument for name in recipes for argument in ("--config", name)))
    origin = nearest_recipe(config)
    assert (origin.recipes, origin.changes) == (recipes, {})
    changed = dataclasses.replace(config, model=dataclasses.replace(config.model, dim=64))
    origin = nearest_recipe(changed)
    assert (origin.recipes, origin.changes) == (recipes, {"model.dim": (128, 64)})


MISTAKES = [
    (["missing.pt"], "no such"),
    (["empty"], "holds a checkpoint"),
    (["foreign.pt"], "not a pretraining checkpoint of ours"),
    (["tensor.pt"], "not a pretraining checkpoint of ours"),
    (["text.pt"], "text.pt: not a readable"),
    (["i3d.pt", "--format", "torchvision"], "torchvision has no I3D"),
    (["good.pt", "--format", "onnx"], "one of torchvision, released, safetensors"),
    (["good.pt", "--format", "safetensors", "--output", "a.pt"], "call it a.safetensors"),
    (["good.pt", "--format", "released", "--output", "a.safetensors"], "is a torch file"),
    (["good.pt", "--output", "text.pt/a.pt"], "cannot write to the output folder"),
    (["partial.pt"], "missing: layer4.1.conv2.1.bias"),
    ([], "checkpoint"),
]


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    """A folder of files of which only one can be exported."""
    folder = tmp_path_factory.mktemp("mistaken")
    (folder / "empty").mkdir()
    (folder / "text.pt").write_text("no checkpoint\n" * 99)
    torch.save({"state_dict": {}}, folder / "foreign.pt")
    torch.save(torch.ones(2), folder / "tensor.pt")
    checkpoint(folder / "good.pt")
    checkpoint(folder / "i3d.pt", "--model.encoder", "i3d")
    state = torch.load(folder / "good.pt", weights_only=True)
    del state["model"]["query_net.encoder.layer4.1.conv2.1.bias"]
    torch.save(state, folder / "partial.pt")
    return folder


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_are_named_and_leave_nothing(mistaken, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(mistaken)
    before = set(mistaken.rglob("*"))
    assert main(["export", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert set(mistaken.rglob("*")) == before


def test_settings_that_are_no_network_are_refused(tmp_path, capsys):
    checkpoint(tmp_path / "a.pt")
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    state["config"]["model"]["encoder"] = "r50"
    torch.save(state, tmp_path / "a.pt")
    assert main(["export", str(tmp_path / "a.pt"), "--output", str(tmp_path / "b.pt")]) == 2
    assert "needs one of r2plus1d_18" in capsys.readouterr().err
    assert encoder_settings(tmp_path / "a.pt") == dataclasses.replace(
        ModelConfig(encoder="r50", width=2), batch_norm="shuffle"
    )
