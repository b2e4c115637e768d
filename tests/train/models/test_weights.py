import argparse
import collections
import json
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tubeletx_train.common.checkpoint import CheckpointError
from tubeletx_train.config.labelled import EncoderConfig
from tubeletx_train.config.pretrain import ModelConfig
from tubeletx_train.models import build_encoder
from tubeletx_train.models.classifier import load_pretrained
from tubeletx_train.models.weights import encoder_settings, load_encoder_weights, pretrained_settings
from tubeletx_train.pretrain.moco import MoCo

WIDTH = 2


def network(method):
    """The network that a method trains."""
    return "r2plus1d_18_tclr" if method == "tclr_own_network" else "r2plus1d_18"


def random_encoder(name="r2plus1d_18", seed=0, width=WIDTH):
    torch.manual_seed(seed)
    encoder = build_encoder(name, width)
    with torch.no_grad():
        for value in encoder.state_dict().values():
            value.copy_(torch.randn(value.shape) if value.is_floating_point() else torch.tensor(7))
    return encoder


# How the files of each method spell four of the tensors (every other follows the same way), and what else they hold.
# After SEVERE's loaders and the released code's configs.
PLAIN = {
    "stem.0.weight": "stem.0.weight",
    "stem.4.running_mean": "stem.4.running_mean",
    "layer1.1.conv2.0.3.weight": "layer1.1.conv2.0.3.weight",
    "layer3.0.downsample.1.bias": "layer3.0.downsample.1.bias",
}
NUMBERED = {
    "stem.0.weight": "0.0.weight",
    "stem.4.running_mean": "0.4.running_mean",
    "layer1.1.conv2.0.3.weight": "1.1.conv2.0.3.weight",
    "layer3.0.downsample.1.bias": "3.0.downsample.1.bias",
}
RELEASED = {
    "stem.0.weight": "stem.conv_s.weight",
    "stem.4.running_mean": "stem.bn_t.running_mean",
    "layer1.1.conv2.0.3.weight": "layer1.1.conv2.conv_t.weight",
    "layer3.0.downsample.1.bias": "layer3.0.downsample_bn.bias",
}
METHODS = {
    "supervised": ("torchvision", None, "", PLAIN, ["fc.weight", "fc.bias"]),
    "moco": ("MoCo or VideoMoCo", "state_dict", "module.encoder_q.", PLAIN, ["module.encoder_k.stem.0.weight"]),
    "video_moco": ("MoCo or VideoMoCo", "state_dict", "module.encoder_q.", PLAIN, ["module.queue"]),
    "rspnet": ("RSPNet", "model", "encoder_q.encoder.base_network.", NUMBERED, ["encoder_q.fc.weight", "queue"]),
    "tclr": ("TCLR", "state_dict", "module.0.", PLAIN, ["module.1.weight"]),
    "tclr_own_network": ("TCLR", "state_dict", "module.0.", PLAIN, ["module.1.weight"]),
    "ctp": ("tubelet_contrast or CtP", "state_dict", "backbone.", RELEASED, ["motion_head.weight"]),
    "tubelet_contrast": (
        "tubelet_contrast or CtP",
        "state_dict",
        "backbone.",
        RELEASED,
        ["key_encoder.0.stem.conv_s.weight", "queue", "fc.0.weight"],
    ),
    "gdt": ("GDT", "model", "video_network.base.", PLAIN, ["audio_network.base.conv1.weight", "mlp_a.0.weight"]),
    "selavi": ("SeLaVi", "model", "module.video_network.base.", PLAIN, ["module.mlp_v0.weight"]),
    "avid_cma": ("AVID-CMA", "model", "module.video_model.", PLAIN, ["module.audio_model.conv1.weight"]),
    "pretext_contrast": ("Pretext-Contrast", None, "module.base_network.", NUMBERED, ["module.head.weight"]),
}


def respell(name, spelling):
    """The file's name of one of our tensors, worked out apart from the code under test, by plain splitting."""
    module, _, leaf = name.rpartition(".")
    parts = module.split(".")
    if spelling is PLAIN:
        return name
    if spelling is NUMBERED:
        parts[0] = "0" if parts[0] == "stem" else parts[0][-1]
        return ".".join([*parts, leaf])
    if parts[0] == "stem":
        return f"stem.{ {'0': 'conv_s', '1': 'bn_s', '3': 'conv_t', '4': 'bn_t'}[parts[1]] }.{leaf}"
    block, part, rest = parts[:2], parts[2], parts[3:]
    if part == "downsample":
        tail = "downsample.conv" if rest == ["0"] else "downsample_bn"
    elif rest == ["1"]:
        tail = f"bn{part[-1]}"
    else:
        tail = f"{part}.{ {'0': 'conv_s', '1': 'bn_s', '3': 'conv_t'}[rest[1]] }"
    return ".".join([*block, tail, leaf])


def method_file(path, method, state, drop=()):
    _, container, prefix, spelling, extras = METHODS[method]
    tensors = collections.OrderedDict((prefix + respell(name, spelling), value) for name, value in state.items())
    for key in drop:
        del tensors[key]
    tensors.update({key: torch.randn(3) for key in extras})
    content = tensors if container is None else {container: tensors, "epoch": 3, "optimizer": {"state": {}}}
    torch.save(content, path)
    return path


def assert_same(encoder, expected):
    state = expected.state_dict()
    assert encoder.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
def test_every_methods_file_loads_bit_for_bit(tmp_path, method):
    expected, encoder = random_encoder(network(method), seed=1), random_encoder(network(method), seed=2)
    source, _, _, spelling, extras = METHODS[method]
    for name, spelled in spelling.items():
        assert respell(name, spelling) == spelled
    report = load_encoder_weights(encoder, method_file(tmp_path / "method.pth.tar", method, expected.state_dict()))
    assert_same(encoder, expected)
    assert report.source == source
    assert report.matched == len(expected.state_dict())
    assert report.missing == []
    assert report.unexpected == extras


PREFIXES = ["_orig_mod.", "module._orig_mod.", "model.", "encoder.", "query_encoder.", "backbone.", "net.module.trunk."]


@pytest.mark.parametrize("spelling", [PLAIN, NUMBERED, RELEASED], ids=["torchvision", "numbered", "released"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_encoder_is_found_behind_any_prefix(tmp_path, prefix, spelling):
    expected, encoder = random_encoder(seed=1), random_encoder(seed=2)
    state = {prefix + respell(name, spelling): value for name, value in expected.state_dict().items()}
    head = {f"{prefix}fc.weight": torch.randn(3, 3), "other.0.weight": torch.randn(2, 3)}
    torch.save({"state_dict": state | head}, tmp_path / "a.pt")
    report = load_encoder_weights(encoder, tmp_path / "a.pt")
    assert_same(encoder, expected)
    assert (report.matched, len(report.unexpected)) == (len(state), 2)


@pytest.mark.parametrize(
    "path", [(), ("state_dict",), ("state_dict_ema",), ("model", "state_dict"), ("checkpoint", "model", "encoder")]
)
def test_a_state_dict_is_found_at_any_level(tmp_path, path):
    expected, encoder = random_encoder(seed=1), random_encoder(seed=2)
    content = dict(expected.state_dict())
    for key in reversed(path):
        content = {"epoch": 3, key: content, "args": {"lr": 0.1}}
    torch.save(content, tmp_path / "a.pt")
    load_encoder_weights(encoder, tmp_path / "a.pt")
    assert_same(encoder, expected)


def test_of_two_state_dicts_the_first_is_read(tmp_path):
    expected, averaged, encoder = (random_encoder(seed=seed) for seed in (1, 2, 3))
    torch.save({"state_dict": expected.state_dict(), "state_dict_ema": averaged.state_dict()}, tmp_path / "a.pt")
    load_encoder_weights(encoder, tmp_path / "a.pt")
    assert_same(encoder, expected)


def test_names_inside_a_compiled_part_are_the_parts(tmp_path):
    expected, encoder = random_encoder(seed=1), random_encoder(seed=2)
    state = {name.replace("layer1.", "layer1._orig_mod."): value for name, value in expected.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    assert load_encoder_weights(encoder, tmp_path / "a.safetensors").missing == []
    assert_same(encoder, expected)


@pytest.mark.parametrize("method", ["supervised", "rspnet", "tclr", "tubelet_contrast", "pretext_contrast"])
def test_the_prefix_of_parallel_training_may_be_there_or_not(tmp_path, method):
    expected, encoder = random_encoder(seed=1), random_encoder(seed=2)
    path = method_file(tmp_path / "method.pt", method, expected.state_dict())
    content = torch.load(path, weights_only=True)
    container = METHODS[method][1]
    tensors = content if container is None else content[container]
    parallel = METHODS[method][2].startswith("module.")
    torch.save({(k.removeprefix("module.") if parallel else f"module.{k}"): v for k, v in tensors.items()}, path)
    assert load_encoder_weights(encoder, path).source == METHODS[method][0]
    assert_same(encoder, expected)


def test_the_released_names_of_r3d(tmp_path):
    expected, encoder = random_encoder("r3d_18", 1), random_encoder("r3d_18", 2)

    def spell(name):
        for ours, theirs in [
            ("stem.0", "stem.conv"),
            ("stem.1", "stem.bn"),
            ("downsample.0", "downsample.conv"),
            ("downsample.1", "downsample_bn"),
            ("conv1.0", "conv1.conv"),
            ("conv2.0", "conv2.conv"),
            ("conv1.1", "bn1"),
            ("conv2.1", "bn2"),
        ]:
            name = name.replace(f"{ours}.", f"{theirs}.")
        return f"backbone.{name}"

    state = {spell(name): value for name, value in expected.state_dict().items()}
    assert {"backbone.stem.bn.bias", "backbone.layer1.0.conv1.conv.weight", "backbone.layer1.0.bn2.bias"} <= set(state)
    torch.save({"state_dict": state}, tmp_path / "r3d.pth")
    report = load_encoder_weights(encoder, tmp_path / "r3d.pth")
    assert report.source == "tubelet_contrast or CtP, R3D"
    assert_same(encoder, expected)


def test_i3d_under_the_released_names_and_its_other_ports(tmp_path):
    expected, encoder = random_encoder("i3d", 1), random_encoder("i3d", 2)
    state = expected.state_dict()
    torch.save({"state_dict": {f"backbone.{name}": value for name, value in state.items()}}, tmp_path / "a.pth")
    assert load_encoder_weights(encoder, tmp_path / "a.pth").source == "tubelet_contrast or CtP"
    assert_same(encoder, expected)
    branches = {"branch_0": "b0", "branch_1.0": "b1a", "branch_1.1": "b1b", "branch_2.0": "b2a", "branch_2.1": "b2b"}
    branches |= {"branch_3.1": "b3b", "batch3d": "bn"}

    def spell(name):
        for ours, theirs in branches.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
        return name[0].upper() + name[1:]

    other = {spell(name): value for name, value in state.items()}
    assert {"Conv3d_1a_7x7.conv3d.weight", "Mixed_3b.b1a.bn.bias", "Mixed_5c.b3b.conv3d.weight"} <= set(other)
    torch.save(other, tmp_path / "b.pt")
    encoder = random_encoder("i3d", 3)
    assert load_encoder_weights(encoder, tmp_path / "b.pt").source == "pytorch-i3d"
    assert_same(encoder, expected)


def pretraining_checkpoint(path, encoder, model):
    moco = MoCo(encoder, dim=4, queue_size=8)
    with torch.no_grad():
        for parameter in moco.key_net.parameters():
            parameter.zero_()
    state = {"tubeletx": "0", "config": {"model": model}, "model": moco.state_dict(), "step": 3, "optimizer": {}}
    torch.save(state, path)
    return path


def test_our_checkpoints_give_the_query_encoder_and_its_settings(tmp_path):
    expected = random_encoder("r2plus1d_10", 1)
    model = {"encoder": "r2plus1d_10", "width": WIDTH, "temporal_strides": [1, 1, 2, 2], "dim": 4}
    path = pretraining_checkpoint(tmp_path / "step-00000003.pt", expected, model)
    assert encoder_settings(path) == ModelConfig("r2plus1d_10", WIDTH, (1, 1, 2, 2), 4)
    encoder = random_encoder("r2plus1d_10", 2)
    report = load_encoder_weights(encoder, path)
    assert_same(encoder, expected)
    assert report.source == "tubeletx pretraining"
    assert all(name.startswith(("key_net.", "query_net.head.", "contrast.")) for name in report.unexpected)
    assert "tensors of the file have no place in it, such as query_net.head.0.weight" in str(report)


def test_files_of_other_origin_hold_no_settings(tmp_path):
    state = random_encoder().state_dict()
    assert encoder_settings(method_file(tmp_path / "a.pt", "moco", state)) is None
    save_file(state, tmp_path / "a.safetensors")
    assert encoder_settings(tmp_path / "a.safetensors") is None


def test_safetensors_under_any_methods_names(tmp_path):
    expected, encoder = random_encoder(seed=1), random_encoder(seed=2)
    save_file({f"module.0.{name}": value for name, value in expected.state_dict().items()}, tmp_path / "a.safetensors")
    assert load_encoder_weights(encoder, tmp_path / "a.safetensors").source == "TCLR"
    assert_same(encoder, expected)


def test_half_precision_and_missing_batch_counters_are_taken(tmp_path):
    expected, encoder = random_encoder(seed=1), random_encoder(seed=2)
    state = {name: value.half() for name, value in expected.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "half.pt")
    report = load_encoder_weights(encoder, tmp_path / "half.pt")
    assert {name.rpartition(".")[2] for name in report.missing} == {"num_batches_tracked"}
    loaded = encoder.state_dict()
    assert all(loaded[name].dtype == torch.float32 and torch.equal(loaded[name].half(), state[name]) for name in state)


@pytest.mark.parametrize("dropped", [1, 6, 100])
def test_what_a_file_does_not_fill_is_an_error_unless_it_is_named(tmp_path, dropped):
    expected, encoder = random_encoder(seed=1), random_encoder(seed=2)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    counted = [name for name in expected.state_dict() if "num_batches" not in name]
    drop = counted[-dropped:]
    path = method_file(tmp_path / "a.pt", "supervised", expected.state_dict(), drop=drop)
    with pytest.raises(CheckpointError, match=rf"does not hold {dropped} tensors .*random \({drop[0]}.*fc\.w"):
        load_encoder_weights(encoder, path)
    with pytest.raises(CheckpointError, match="does not hold 1 tensors"):
        load_encoder_weights(encoder, path, drop[1:])
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert load_encoder_weights(encoder, path, drop).missing == drop
    assert all(torch.equal(encoder.state_dict()[name], before[name]) for name in drop)


def test_what_may_be_missing_can_be_named_by_how_it_begins(tmp_path):
    expected, encoder = random_encoder(seed=1), random_encoder(seed=2)
    drop = [name for name in expected.state_dict() if name.startswith("layer4.")]
    path = method_file(tmp_path / "a.pt", "supervised", expected.state_dict(), drop=drop)
    assert load_encoder_weights(encoder, path, ["layer4."]).missing == drop
    with pytest.raises(CheckpointError, match=r"model\.allow_missing"):
        load_encoder_weights(encoder, path, ["layer3."])


def test_tclrs_network_is_known_by_its_names(tmp_path):
    expected = random_encoder("r2plus1d_18_tclr", 1, width=64)
    path = method_file(tmp_path / "tclr.pth", "tclr", expected.state_dict())
    assert pretrained_settings(path) == ModelConfig("r2plus1d_18_tclr")
    pretrained = load_pretrained(path, EncoderConfig())
    assert_same(pretrained.encoder, expected)
    assert pretrained.source == "TCLR"
    # The 7 of 222 tensors that the plain network has in its place would have stayed random.
    with pytest.raises(
        CheckpointError, match=r"does not hold 6 tensors .*layer4\.0\.conv1\.0\.0\.weight.* 215 of .* 222"
    ):
        load_pretrained(path, EncoderConfig("r2plus1d_18"))


@pytest.mark.parametrize("block", ["conv2x.0", "conv2x"])
def test_avids_own_network_is_refused_by_name(tmp_path, block):
    state = {"conv1.0.weight": torch.ones(64, 3, 3, 7, 7), f"{block}.spt_conv1.weight": torch.ones(64, 64, 1, 3, 3)}
    torch.save({"model": {f"module.video_model.{name}": value for name, value in state.items()}}, tmp_path / "avid.pt")
    with pytest.raises(CheckpointError, match=r"AVID-CMA's own R\(2\+1\)D, .*not built here"):
        load_pretrained(tmp_path / "avid.pt", EncoderConfig())


@pytest.mark.parametrize(("name", "width"), [("r3d_18", WIDTH), ("r2plus1d_18", WIDTH + 1), ("r2plus1d_10", WIDTH)])
def test_another_network_is_refused(tmp_path, name, width):
    path = method_file(tmp_path / "a.pt", "rspnet", random_encoder().state_dict())
    encoder = random_encoder(name, width=width)
    if name == "r2plus1d_10":  # a part of the deeper one: everything it has is there
        load_encoder_weights(encoder, path)
        return
    with pytest.raises(CheckpointError, match=r"encoder_q\.encoder\.base_network\.0\.0\.weight 1x3x1x7x7 for") as error:
        load_encoder_weights(encoder, path)
    assert "\n" not in str(error.value)


def test_arguments_and_metrics_beside_the_weights_do_no_harm(tmp_path):
    expected, encoder = random_encoder(seed=1), random_encoder(seed=2)
    extras = {"args": argparse.Namespace(lr=0.1), "best": np.float64(3), "at": np.int64(7), "loss": np.float32(1)}
    for legacy in (True, False):
        path = tmp_path / f"{legacy}.pt"
        state = {"state_dict": expected.state_dict(), **extras}
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
        assert load_encoder_weights(encoder, path).missing == []


class Attack:
    def __reduce__(self):
        return (print, ("this must not run",))


def hostile(folder, kind):
    path = folder / "bad.pt"
    if kind == "missing":
        return folder / "nothing.pt"
    if kind == "folder":
        return folder
    if kind in ("empty.safetensors", "huge.safetensors", "list.safetensors"):
        path = folder / kind
        header = {"empty": b"", "huge": struct.pack("<Q", 2**60) + b"{", "list": struct.pack("<Q", 2) + b"[]"}
        path.write_bytes(header[kind.partition(".")[0]])
        return path
    good = folder / "good.pt"
    method_file(good, "supervised", random_encoder().state_dict())
    content = {
        "empty": lambda: b"",
        "text": lambda: "Grüße\n".encode() * 100,
        "noise": lambda: np.random.default_rng(0).bytes(5000),
        "truncated": lambda: good.read_bytes()[:-3000],
        "flipped": lambda: good.read_bytes().replace(b"\x07\0\0\0\0\0\0\0", b"\x09\0\0\0\0\0\0\0", 1),
        "pickle": lambda: pickle.dumps(Attack()),
    }
    if kind in content:
        path.write_bytes(content[kind]())
    else:
        saved = {
            "attack": Attack(),
            "numbers": [1, 2],
            "none": {},
            "deep": {"a": {"b": {"c": {"d": {"e": torch.ones(1)}}}}},
        }
        torch.save(saved[kind], path)
    return path


KINDS = {
    "missing": "no such file",
    "folder": "neither it nor its folder checkpoints holds a checkpoint",
    "empty": "not a readable torch file",
    "text": "not a readable torch file",
    "noise": "not a readable torch file",
    "truncated": "not a readable torch file",
    "flipped": "damaged at ",
    "pickle": "(holds a Python object|not a readable torch file)",
    "attack": r"holds a Python object \(\S*print\), which could run code",
    "numbers": "holds no tensors by name",
    "none": "holds no tensors by name",
    "deep": "holds no tensors by name",
    "empty.safetensors": "not a readable safetensors file",
    "huge.safetensors": "not a readable safetensors file",
    "list.safetensors": "not a readable safetensors file",
}


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_files_give_one_clear_line(tmp_path, capsys, kind):
    with pytest.raises(CheckpointError, match=KINDS[kind]) as error:
        load_encoder_weights(random_encoder(), hostile(tmp_path, kind))
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


def test_settings_of_a_hostile_export_are_checked(tmp_path):
    state = random_encoder().state_dict()
    for settings, message in [({"encoder": 3, "widht": 4}, "did you mean 'width'"), ({"width": "x"}, "width")]:
        save_file(state, tmp_path / "a.safetensors", {"tubeletx": json.dumps(settings)})
        with pytest.raises(Exception, match=message) as error:
            encoder_settings(tmp_path / "a.safetensors")
        assert type(error.value).__name__ == "UsageError"
