import pytest
import torch
import torch.nn.functional as F

from tubeletx_train.models import build_encoder, projection_head

# Output channels of the standard network's mixed blocks.
MIXED = {"3b": 256, "3c": 480, "4b": 512, "4c": 512, "4d": 512, "4e": 528, "4f": 832, "5b": 832, "5c": 1024}


def test_the_standard_network_has_the_published_size():
    with torch.device("meta"):
        encoder = build_encoder("i3d")
        clip = torch.empty(2, 3, 16, 224, 224)
    # 12,697,264 with the classifier of 400 classes.
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 12_697_264 - (1024 * 400 + 400)
    assert encoder.feature_dim == 1024
    assert encoder.feature_map(clip).shape == (2, 1024, 2, 7, 7)
    assert {name: getattr(encoder, f"mixed_{name}").out_channels for name in MIXED} == MIXED
    assert [tuple(parameter.shape) for parameter in projection_head(1024).parameters()] == [
        (1024, 1024),
        (1024,),
        (128, 1024),
        (128,),
    ]


def same(x, kernel, stride, value):
    """TensorFlow's padding: as little as gives ceil(size / stride), the larger half at the far end."""
    pads = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


def reference(state, clip):
    """The network written out with functions alone."""

    def unit(x, name, stride=1):
        weight = state[f"{name}.conv3d.weight"]
        x = F.conv3d(same(x, weight.shape[2:], (stride,) * 3, 0.0), weight, stride=stride)
        norm = {key: state[f"{name}.batch3d.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        return F.relu(F.batch_norm(x, **norm))

    def pool(x, kernel, stride):
        return F.max_pool3d(same(x, kernel, stride, float("-inf")), kernel, stride)

    def mixed(x, name):
        branches = [unit(x, f"{name}.branch_0")]
        branches += [unit(unit(x, f"{name}.branch_{i}.0"), f"{name}.branch_{i}.1") for i in (1, 2)]
        branches.append(unit(pool(x, (3, 3, 3), (1, 1, 1)), f"{name}.branch_3.1"))
        return torch.cat(branches, 1)

    x = pool(unit(clip, "conv3d_1a_7x7", 2), (1, 3, 3), (1, 2, 2))
    x = pool(unit(unit(x, "conv3d_2b_1x1"), "conv3d_2c_3x3"), (1, 3, 3), (1, 2, 2))
    for name in MIXED:
        if name == "4b":
            x = pool(x, (3, 3, 3), (2, 2, 2))
        if name == "5b":
            x = pool(x, (2, 2, 2), (2, 2, 2))
        x = mixed(x, f"mixed_{name}")
    return x


def test_the_network_computes_what_its_definition_says():
    torch.manual_seed(0)
    encoder = build_encoder("i3d", 4).eval()
    with torch.no_grad():
        for name, buffer in encoder.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape) + (0.5 if "var" in name else -0.5))
    clip = torch.randn(2, 3, 8, 64, 32)
    expected = reference(encoder.state_dict(), clip)
    assert expected.shape == (2, 64, 1, 2, 1)
    torch.testing.assert_close(encoder.feature_map(clip), expected)
    torch.testing.assert_close(encoder(clip), expected.mean((2, 3, 4)))


def test_temporal_strides_of_i3d_are_fixed():
    with pytest.raises(ValueError, match=r"temporal_strides: got .*, needs \(1, 2, 2, 2\) for encoder"):
        build_encoder("i3d", 4, (1, 1, 2, 2))
    with pytest.raises(ValueError, match="width: got 0, needs a positive number"):
        build_encoder("i3d", 0)
