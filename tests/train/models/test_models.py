import pytest
import torch
from torch.nn.functional import batch_norm, conv3d, relu
from torch.utils.flop_counter import FlopCounterMode

from tubeletx_train.models import build_encoder, encoder_names, projection_head


def batch_norm_names(prefix):
    return [f"{prefix}.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]


def torchvision_names(factored):
    """State-dict keys of torchvision.models.video.r2plus1d_18 or r3d_18, in order, without fc."""
    names = ["stem.0.weight", *batch_norm_names("stem.1")]
    if factored:
        names += ["stem.3.weight", *batch_norm_names("stem.4")]
    for layer in range(1, 5):
        for block in range(2):
            prefix = f"layer{layer}.{block}"
            for conv in ("conv1", "conv2"):
                if factored:
                    names += [f"{prefix}.{conv}.0.0.weight", *batch_norm_names(f"{prefix}.{conv}.0.1")]
                    names += [f"{prefix}.{conv}.0.3.weight"]
                else:
                    names += [f"{prefix}.{conv}.0.weight"]
                names += batch_norm_names(f"{prefix}.{conv}.1")
            if layer > 1 and block == 0:
                names += [f"{prefix}.downsample.0.weight", *batch_norm_names(f"{prefix}.downsample.1")]
    return names


# Parameters and multiply-accumulates (16 x 112 x 112) that torchvision documents, less those of fc.
STANDARD = {"r2plus1d_18": (True, 31_300_125, 40.52e9), "r3d_18": (False, 33_166_272, 40.70e9)}


@pytest.mark.parametrize("name", STANDARD)
def test_standard_networks_equal_torchvisions(name):
    factored, parameters, operations = STANDARD[name]
    with torch.device("meta"):
        encoder = build_encoder(name)
        clip = torch.empty(1, 3, 16, 112, 112)
    assert list(encoder.state_dict()) == torchvision_names(factored)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == parameters
    assert encoder.feature_dim == 512
    with FlopCounterMode(display=False) as counter:
        assert encoder.feature_map(clip).shape == (1, 512, 2, 7, 7)
    assert counter.get_total_flops() / 2 == pytest.approx(operations, rel=1e-3)


def reference_map(state, clip, factored):
    """The residual network written out with functions alone, after the names and shapes of its weights."""

    def norm(x, name):
        values = {key: state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        return batch_norm(x, **values)

    def conv(x, name, stride=1):
        if not factored:
            return conv3d(x, state[f"{name}.weight"], stride=stride, padding=1)
        x = conv3d(x, state[f"{name}.0.weight"], stride=(1, stride, stride), padding=(0, 1, 1))
        return conv3d(relu(norm(x, f"{name}.1")), state[f"{name}.3.weight"], stride=(stride, 1, 1), padding=(1, 0, 0))

    if factored:
        x = conv3d(clip, state["stem.0.weight"], stride=(1, 2, 2), padding=(0, 3, 3))
        x = conv3d(relu(norm(x, "stem.1")), state["stem.3.weight"], padding=(1, 0, 0))
        x = relu(norm(x, "stem.4"))
    else:
        x = relu(norm(conv3d(clip, state["stem.0.weight"], stride=(1, 2, 2), padding=(1, 3, 3)), "stem.1"))
    for layer in range(1, 5):
        for block in range(2):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            out = relu(norm(conv(x, f"{name}.conv1.0", stride), f"{name}.conv1.1"))
            out = norm(conv(out, f"{name}.conv2.0"), f"{name}.conv2.1")
            if stride == 2:
                x = norm(conv3d(x, state[f"{name}.downsample.0.weight"], stride=2), f"{name}.downsample.1")
            x = relu(out + x)
    return x


@pytest.mark.parametrize("name", STANDARD)
def test_the_networks_compute_what_their_definitions_say(name):
    torch.manual_seed(0)
    encoder = build_encoder(name, 4).eval()
    with torch.no_grad():
        for key, buffer in encoder.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape) + (0.5 if "var" in key else -0.5))
    clip = torch.randn(2, 3, 9, 33, 26)
    expected = reference_map(encoder.state_dict(), clip, STANDARD[name][0])
    assert expected.shape == (2, 32, 2, 3, 2)
    torch.testing.assert_close(encoder.feature_map(clip), expected)
    torch.testing.assert_close(encoder(clip), expected.mean((2, 3, 4)))


def test_known_shapes_of_the_factored_network():
    with torch.device("meta"):
        state = build_encoder("r2plus1d_18").state_dict()
    shapes = {
        "stem.0.weight": (45, 3, 1, 7, 7),
        "stem.3.weight": (64, 45, 3, 1, 1),
        "layer1.0.conv1.0.0.weight": (144, 64, 1, 3, 3),
        "layer2.0.conv1.0.0.weight": (230, 64, 1, 3, 3),
        "layer2.0.conv2.0.0.weight": (230, 128, 1, 3, 3),
        "layer4.1.conv2.0.3.weight": (512, 1152, 3, 1, 1),
        "layer3.0.downsample.0.weight": (256, 128, 1, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize("name", encoder_names())
@pytest.mark.parametrize("width", [1, 5])
def test_narrow_networks_train_at_odd_sizes(name, width):
    torch.manual_seed(0)
    encoder = build_encoder(name, width)
    features = encoder(torch.randn(3, 3, 5, 23, 17))
    assert features.shape == (3, (16 if name == "i3d" else 8) * width) == (3, encoder.feature_dim)
    features.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10"])
def test_temporal_strides_keep_time_and_weights(name):
    standard, slow = build_encoder(name, 2), build_encoder(name, 2, (1, 1, 2, 1))
    slow.load_state_dict(standard.state_dict())
    clip = torch.randn(1, 3, 8, 32, 32)
    assert standard.feature_map(clip).shape == (1, 16, 1, 2, 2)
    assert slow.feature_map(clip).shape == (1, 16, 4, 2, 2)


def test_tclrs_last_stage_is_dilated_and_keeps_the_frames():
    torch.manual_seed(0)
    plain, tclr = build_encoder("r2plus1d_18", 2).eval(), build_encoder("r2plus1d_18_tclr", 2).eval()
    inner = "layer4.0.conv1.0"
    shared = {name: value for name, value in plain.state_dict().items() if not name.startswith(inner)}
    result = tclr.load_state_dict(shared, strict=False)
    assert (len(shared), result.missing_keys, result.unexpected_keys) == (222 - 7, [f"{inner}.weight"], [])
    x = torch.randn(2, 8, 4, 7, 6)
    theirs, ours = plain.layer4[0], tclr.layer4[0]
    branch = conv3d(x, ours.conv1[0].weight, stride=(1, 2, 2), padding=(2, 1, 1), dilation=(2, 1, 1))
    branch = theirs.conv2(theirs.conv1[2](theirs.conv1[1](branch)))
    shortcut = theirs.downsample[1](conv3d(x, theirs.downsample[0].weight, stride=(1, 2, 2)))
    expected = plain.layer4[1](torch.relu(branch + shortcut))
    torch.testing.assert_close(tclr.layer4(x), expected)
    assert tclr.feature_map(torch.randn(1, 3, 16, 32, 32)).shape == (1, 16, 4, 2, 2)


def test_memory_format_does_not_change_the_features():
    torch.manual_seed(0)
    encoder = build_encoder("r2plus1d_10", 4).eval()
    clip = torch.randn(2, 3, 4, 16, 16)
    expected = encoder(clip)
    encoder.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(encoder(clip.to(memory_format=torch.channels_last_3d)), expected)


@pytest.mark.parametrize("name", encoder_names())
def test_batch_norm_eps_reaches_every_batch_norm(name):
    encoder = build_encoder(name, 2, batch_norm_eps=1e-3)
    assert {module.eps for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm3d)} == {1e-3}


@pytest.mark.parametrize("name", encoder_names())
def test_weights_are_drawn_as_torchvision_or_as_pytorch_draws_them(name):
    for initialisation in ("he", "torch"):
        torch.manual_seed(0)
        encoder = build_encoder(name, 16, initialisation=initialisation)
        for conv in (module for module in encoder.modules() if isinstance(module, torch.nn.Conv3d)):
            size = conv.kernel_size[0] * conv.kernel_size[1] * conv.kernel_size[2]
            # He: 2 / fan-out. PyTorch's: uniform within 1 / sqrt(fan-in).
            fans = conv.out_channels * size, conv.in_channels * size
            expected = (2 / fans[0]) ** 0.5 if initialisation == "he" else (1 / (3 * fans[1])) ** 0.5
            if conv.weight.numel() > 2000:
                assert conv.weight.std().item() == pytest.approx(expected, rel=0.1)


def test_projection_head_has_no_batch_norm():
    assert [tuple(parameter.shape) for parameter in projection_head(512).parameters()] == [
        (512, 512),
        (512,),
        (128, 512),
        (128,),
    ]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"encoder: got 'r50', needs one of r2plus1d_18"):
        build_encoder("r50")
    with pytest.raises(ValueError, match="batch_norm_eps: got 0, needs a positive number"):
        build_encoder("r3d_18", batch_norm_eps=0)
    with pytest.raises(ValueError, match="width: got 0, needs a positive number"):
        build_encoder("r3d_18", 0)
    with pytest.raises(ValueError, match=r"temporal_strides: got \(1, 2\), needs four of 1 or 2"):
        build_encoder("r3d_18", 1, (1, 2))
    with pytest.raises(ValueError, match=r"temporal_strides: got .* for encoder 'r2plus1d_18_tclr'"):
        build_encoder("r2plus1d_18_tclr", 1, (1, 1, 2, 2))
