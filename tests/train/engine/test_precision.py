"""The check of a precision: planted faults, a real one, and what it must leave alone."""

import copy
import logging
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from tubeletx_train.common.distributed import Ranks
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.engine import precision
from tubeletx_train.engine.optimization import Optimization
from tubeletx_train.engine.precision import Settled, compare_gradients, keep_in_float32, settle_precision
from tubeletx_train.models import build_encoder

CPU = torch.device("cpu")


class _Planted(torch.autograd.Function):
    """A product with a weight, whose gradient is changed where it is taken in bfloat16."""

    @staticmethod
    def forward(ctx, value, weight, change, enabled):
        ctx.save_for_backward(value, weight)
        ctx.change, ctx.enabled = change, enabled
        return value * weight

    @staticmethod
    def backward(ctx, gradient):
        value, weight = ctx.saved_tensors
        exact = (gradient * value).sum(0)
        return gradient * weight, ctx.change(exact) if ctx.enabled else exact, None, None


class Faulty(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(1, 2, 6))
        self.change = change

    def forward(self, value):
        return _Planted.apply(value, self.weight, self.change, torch.is_autocast_enabled("cpu"))


def wrong(gradient):
    return gradient * 1.2


def unrepeatable(gradient, calls=[0]):  # noqa: B006 - counts its calls
    calls[0] += 1
    return gradient * (1 + 1e-6 * calls[0])


def not_a_number(gradient):
    return gradient * float("nan")


def net_with(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), *layers, nn.Linear(6, 1))


def loss_of(net):
    clips = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    return lambda: net(clips).float().square().mean()


def test_good_layers_pass_and_are_left_as_they_were():
    net = net_with()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    assert settle_precision("bfloat16", net, lambda: loss_of(net), CPU) == Settled("bfloat16")
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(layer._forward_hooks for layer in net.modules())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (wrong, r"the gradient of weight of 3 differs from float32's by 0\.2 of its norm"),
        (not_a_number, "the gradient of weight of 3 differs from float32's by nan"),
        (unrepeatable, "two equal calls gave two gradients of 3.weight, apart by"),
    ],
)
def test_a_faulty_layer_is_found_and_named(change, said, monkeypatch, caplog):
    net = net_with(Faulty(change))
    with pytest.raises(UsageError, match=rf"^bfloat16 gradients are wrong on this machine \(.*torch .*\): {said}"):
        settle_precision("bfloat16", net, lambda: loss_of(net), CPU)
    monkeypatch.setattr(precision, "fastest_precision", lambda _: "bfloat16")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        settled = settle_precision("auto", net, lambda: loss_of(net), CPU)
    assert settled == Settled("bfloat16", ("3",))
    assert str(settled) == "bfloat16, 1 layer in float32"
    warning, done = caplog.records
    assert (warning.levelno, done.levelno) == (logging.WARNING, logging.INFO)
    assert warning.message.endswith("in float32 from here: 3")
    assert "precision: bfloat16, 1 layer in float32" in done.message
    # In float32 there is nothing to find.
    assert settle_precision("float32", net, lambda: loss_of(net), CPU) == Settled("float32")


class OfTwo(Faulty):
    """Its calls have two arguments, so that it cannot be looked at by itself."""

    def forward(self, value, twice):
        return super().forward(value * twice)


class Within(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = OfTwo(unrepeatable)

    def forward(self, value):
        return self.inner(value, 2)


def test_a_fault_of_no_layer_costs_the_precision(monkeypatch, caplog):
    monkeypatch.setattr(precision, "fastest_precision", lambda _: "bfloat16")
    net = net_with(Within())
    assert settle_precision("auto", net, lambda: loss_of(net), CPU) == Settled("float32")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "two equal calls gave two gradients of 3.inner.weight" in record.message
    assert "going on in float32" in record.message


class _Stretched(torch.autograd.Function):
    """A weight whose gradient is too long by a factor."""

    @staticmethod
    def forward(ctx, weight, factor):
        ctx.factor = factor
        return weight.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


class FaultyConvolution(nn.Conv3d):
    def forward(self, value):
        weight = _Stretched.apply(self.weight, 1.2 if torch.is_autocast_enabled("cpu") else 1.0)
        return self._conv_forward(value, weight, self.bias)


TEMPORAL = {"kernel_size": (3, 1, 1), "padding": (1, 0, 0)}


class WithAnOlderMachine(Ranks):
    """As one of several processes, of which another has no bfloat16."""

    def any(self, flag):
        return True


def test_all_processes_take_the_precision_that_all_have(monkeypatch):
    """One that went on to a check would wait for the others for ever."""
    monkeypatch.setattr(precision, "fastest_precision", lambda _: "bfloat16")
    monkeypatch.setattr(precision, "compare_gradients", None)
    net = net_with()
    assert settle_precision("auto", net, lambda: loss_of(net), CPU, WithAnOlderMachine()) == Settled("float32")


def test_convolutions_of_one_kind_are_wrong_together(monkeypatch):
    """An unwritten value that a kernel reads may be right by chance."""
    monkeypatch.setattr(precision, "fastest_precision", lambda _: "bfloat16")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(3, 6, 3, padding=1),
        nn.Conv3d(6, 4, **TEMPORAL),  # of the faulty one's kind
        nn.MaxPool3d((2, 1, 1)),
        nn.Conv3d(4, 6, **TEMPORAL),  # of fewer frames
        nn.Upsample(scale_factor=(2, 1, 1)),
        FaultyConvolution(6, 8, **TEMPORAL),
    )
    clips = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(1))

    def loss():
        return net(clips).float().square().mean()

    expected = torch.autograd.grad(loss(), list(net.parameters()))
    assert settle_precision("auto", net, lambda: loss, CPU) == Settled("bfloat16", ("1", "5"))
    with torch.autocast("cpu", torch.bfloat16):
        dtypes = [net[: depth + 1](clips).dtype for depth in (0, 1, 3, 5)]
        gradients = torch.autograd.grad(loss(), list(net.parameters()))
    assert dtypes == [torch.bfloat16, torch.float32, torch.bfloat16, torch.float32]
    torch.testing.assert_close(gradients, expected, rtol=0.05, atol=0.01)
    assert compare_gradients("bfloat16", net, loss, CPU).fault is None


def test_layers_kept_in_float32_compile_and_copy():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    keep_in_float32(net, ["1"])
    copied, compiled = copy.deepcopy(net), torch.compile(net, fullgraph=True, backend="aot_eager")
    value = torch.randn(3, 4)
    with torch.no_grad():
        copied[1].weight.zero_()
    for form in (net, compiled):
        with torch.autocast("cpu", torch.bfloat16):
            result = form(value)
        assert result.dtype == torch.float32
        expected = net[1](net[0](value))
        torch.testing.assert_close(result, expected, rtol=0.02, atol=0.02)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(copied(value), copied[1].bias.expand(3, 4))


def test_float16_is_checked_within_its_room():
    net = net_with()
    assert settle_precision("float16", net, lambda: loss_of(net), CPU) == Settled("float16")
    large = loss_of(net)
    assert (
        settle_precision("float16", net, lambda: lambda: large() * 1e4, CPU).precision == "float16"
    )  # scaled by 2^16 it overflows
    faulty = net_with(Faulty(wrong))
    with pytest.raises(UsageError, match="float16 gradients are wrong"):
        settle_precision("float16", faulty, lambda: loss_of(faulty), CPU)


@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10"])
def test_rounding_in_encoders_passes(name):
    torch.manual_seed(0)
    encoder = build_encoder(name, 8).to(memory_format=torch.channels_last_3d)
    clips = torch.randn(4, 3, 8, 32, 32).contiguous(memory_format=torch.channels_last_3d)
    found = compare_gradients("bfloat16", encoder, lambda: encoder(clips).float().square().mean(), CPU)
    if found.fault is None:
        assert found.difference < 0.01
    else:  # the fault below, which is the processor's
        assert precision.bfloat16_units() != "AMX"


def settled(optim, net, before=None):
    optimization = Optimization(net, optim, total_steps=2, steps_per_epoch=1, device=CPU)
    if before is not None:
        optimization.load_state_dict(before)
    optimization.settle_precision(net, lambda: loss_of(net))
    return optimization


def test_a_run_keeps_its_precision(monkeypatch):
    monkeypatch.setattr(precision, "fastest_precision", lambda _: "bfloat16")
    right, wrong_layer, wrong_all = (
        lambda change=change, of=of: net_with(of(change))
        for change, of in ((lambda gradient: gradient, Faulty), (wrong, Faulty), (None, lambda _: Within()))
    )
    begun = {net: settled(OptimConfig(), net()) for net in (right, wrong_layer, wrong_all)}
    partly = Settled("bfloat16", ("3",))
    assert [run.settled for run in begun.values()] == [Settled("bfloat16"), partly, Settled("float32")]
    # Begun in float32, a run stays there though bfloat16 would do; and on the machine it began on nothing is checked.
    assert settled(OptimConfig(), right(), begun[wrong_all].state_dict()).settled == Settled("float32")
    assert settled(OptimConfig(), wrong_all(), begun[right].state_dict()).settled == Settled("bfloat16")
    # The same layers are in float32 again, there and where they need not be.
    for change in (wrong, lambda gradient: gradient):
        for processor in (begun[wrong_layer].state_dict()["precision"]["processor"], "another"):
            state = begun[wrong_layer].state_dict()
            state["precision"] |= {"processor": processor}
            net = net_with(Faulty(change))
            assert settled(OptimConfig(), net, state).settled == partly
            with torch.autocast("cpu", torch.bfloat16):
                assert net[:4](torch.randn(8, 5)).dtype == torch.float32
    elsewhere = begun[right].state_dict()
    elsewhere["precision"] |= {"processor": "another"}
    assert settled(OptimConfig(), right(), elsewhere).settled == Settled("bfloat16")
    assert settled(OptimConfig(), wrong_layer(), elsewhere).settled == partly
    with pytest.raises(UsageError, match=r"the run began in bfloat16 on another, torch .*, and can only go on in that"):
        settled(OptimConfig(), wrong_all(), elsewhere)
    # A checkpoint of before layers were told apart.
    del elsewhere["precision"]["float32_layers"]
    assert settled(OptimConfig(), right(), elsewhere).settled == Settled("bfloat16")


_REAL = """
import sys
import torch
from tubeletx_train.engine.precision import compare_gradients, settle_precision
from torch import nn

if not torch.cpu._is_avx512_bf16_supported():
    sys.exit(77)
torch.manual_seed(0)
net = nn.Sequential(nn.Conv3d(144, 64, (3, 1, 1), padding=(1, 0, 0), bias=False), nn.BatchNorm3d(64))
net.to(memory_format=torch.channels_last_3d)
frames = int(sys.argv[1])
clips = torch.randn(4, 144, frames, 4, 4).contiguous(memory_format=torch.channels_last_3d)
loss = lambda: net(clips).float().sin().sum()
device = torch.device("cpu")
print(compare_gradients("bfloat16", net, loss, device).fault)
print(settle_precision("auto", net, lambda: loss, device))
print(compare_gradients("bfloat16", net, loss, device).fault)
"""


@pytest.mark.parametrize("frames", [2, 4])
def test_the_fault_of_torch_2_13_without_amx_is_found_and_gone_around(frames):
    """oneDNN takes the kernels of a processor without AMX if it is told to, and of those one is wrong at two frames."""
    done = subprocess.run(
        [sys.executable, "-c", _REAL, str(frames)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    )
    if done.returncode == 77:
        pytest.skip("the processor has no AVX-512 bfloat16")
    assert done.returncode == 0, done.stderr
    before, settled, after = done.stdout.splitlines()
    if frames == 2 and torch.__version__.startswith("2.13"):
        assert "0 differs from float32's" in before or "two equal calls" in before
        assert settled == "bfloat16, 1 layer in float32"
    if frames == 4:
        assert (before, settled) == ("None", "bfloat16")
    assert after == "None"


def test_the_default_is_checked():
    assert OptimConfig().precision == "auto"
