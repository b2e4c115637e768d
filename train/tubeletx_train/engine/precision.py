"""Checks that a network's gradients are right in a precision before a run trusts that precision.

Libraries have kernels for each kind of processor, and not all are right: torch 2.13 on a processor with AVX-512
bfloat16 and no AMX reads unwritten memory in the gradient of a temporal convolution over two frames. Nothing about a
run's loss tells. The layers that meet such a kernel are kept in float32, so that one of them does not cost the whole
network the faster precision.
"""

from __future__ import annotations

import logging
import time
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tubeletx_train.common.distributed import Ranks
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.machine import bfloat16_units, processor_name
from tubeletx_train.common.seeding import rng_state, set_rng_state

Precision = Literal["float32", "bfloat16", "float16"]

# Largest difference that counts as rounding, as a share in L2 norm. Of one layer given one input rounding makes .003;
# of a whole network it cannot be told from a fault, as it grows from layer to layer to the size of the gradient.
_TOLERANCE = 0.05
# Largest difference between two equal calls on a GPU: that of sums in another order, grown from layer to layer.
_GPU_TOLERANCE = 0.5
# Checks of one run: each but the last keeps more layers in float32. Faults have been few, and found at once.
_MOST_CHECKS = 5
# float16 has no room for small gradients: the loss is scaled, by less where that leaves its room at the other end.
_FLOAT16_SCALES = (2.0**16, 2.0**12, 2.0**8, 2.0**4, 1.0)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settled:
    """The precision that a run is made in; as text, what its results name.

    Attributes:
        precision: Of all layers but those.
        float32_layers: Names of the layers that are kept in float32, as that precision is wrong in them here.
    """

    precision: Precision
    float32_layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        count = len(self.float32_layers)
        return self.precision + (f", {count} layer{'s' * (count > 1)} in float32" if count else "")


@dataclass(frozen=True)
class Comparison:
    """What a check found.

    Attributes:
        difference: Largest difference of a layer from float32, as a share in L2 norm.
        fault: What is wrong, None if all differences are rounding.
        layers: Names of those that may be wrong: where the fault was seen, and all of the same kind.
    """

    difference: float
    fault: str | None
    layers: tuple[str, ...] = ()


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Context of a forward pass in a precision."""
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "float32")


def fastest_precision(device: torch.device) -> Precision:
    """bfloat16 where the device multiplies in it, else float32."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if bfloat16_units() is not None else "float32"


def keep_in_float32(net: nn.Module, layers: Iterable[str]) -> None:
    """From now on run these layers in float32, whatever the precision of the rest."""
    for name in layers:
        layer = net.get_submodule(name)
        layer.forward = types.MethodType(_forward_in_float32, layer)


def _forward_in_float32(self: nn.Module, value: Tensor) -> Any:
    with torch.autocast(value.device.type, enabled=False):
        return type(self).forward(self, value.float())


def settle_precision(
    wished: str,
    net: nn.Module,
    make_loss: Callable[[], Callable[[], Tensor]],
    device: torch.device,
    ranks: Ranks | None = None,
    begun: Settled | None = None,
) -> Settled:
    """The precision that a run is made in, once its gradients are checked; one line of the log says which.

    The gradients of the loss are taken in float32 and twice in the wished precision. Weights, buffers (statistics of
    batch norm, the queue) and the state of the generators are afterwards as they were. With "auto" layers in which the
    precision is wrong are kept in float32 from then on (`keep_in_float32`), and the rest is checked anew.

    Args:
        wished: "auto", or a precision.
        net: Whose parameters take the gradient, in training mode; it is run without `torch.compile`.
        make_loss: Called where there is something to check; makes a scalar loss of the network, the same at every call
            but for rounding.
        device: Of the network.
        ranks: All processes of the run, which make this call together and get the same answer.
        begun: What the run began in on another machine, whose precision it has to keep.

    Raises:
        UsageError: A precision other than "auto", or that a run began in, is wrong on this machine.
    """
    ranks = ranks or Ranks()
    precision: Precision
    if wished == "auto":  # as fast as all processes can, whatever their machines
        precision = "float32" if ranks.any(fastest_precision(device) == "float32") else "bfloat16"
    else:
        precision = wished  # type: ignore[assignment]
    kept: tuple[str, ...] = ()
    if begun is not None:
        precision, kept = begun.precision, begun.float32_layers
        keep_in_float32(net, kept)
    if precision == "float32":
        _logger.info("precision: float32 (%s)", processor_name(device))
        return Settled(precision)
    since = time.perf_counter()
    machine = f"{processor_name(device)}, torch {torch.__version__}"
    for _ in range(_MOST_CHECKS):
        found = compare_gradients(precision, net, make_loss(), device, ranks)
        if not ranks.any(found.fault is not None):
            settled = Settled(precision, kept)
            _logger.info(
                "precision: %s (%s); its gradients are those of float32 to %.1g, checked in %.1f s",
                settled,
                processor_name(device),
                found.difference,
                time.perf_counter() - since,
            )
            return settled
        fault = found.fault or "they are wrong in another process: see its output"
        line = f"{precision} gradients are wrong on this machine ({machine}): {fault}"
        if wished != "auto":
            raise UsageError(f"{line}; choose optim.precision float32, or auto, which keeps what is wrong in float32")
        wrong = [name for name, _ in net.named_modules() if ranks.any(name in found.layers) and name not in kept]
        if not wrong:
            break
        _logger.warning("precision: %s; in float32 from here: %s", line, ", ".join(wrong))
        keep_in_float32(net, wrong)
        kept = (*kept, *wrong)
    if begun is not None:
        raise UsageError(line)
    _logger.warning("precision: %s; going on in float32", line)
    return Settled("float32")


def compare_gradients(
    precision: Precision, net: nn.Module, loss: Callable[[], Tensor], device: torch.device, ranks: Ranks | None = None
) -> Comparison:
    """Compare a network's gradients in a precision with those in float32, and with themselves; see `settle_precision`.

    The whole network's gradients are taken twice. They must agree to the last bit on a CPU; a GPU adds up in any order,
    and may differ by rounding. Then each layer by itself, given the input and the gradient that it had in the network,
    must give the output and the gradients that it gives in float32, but for rounding.
    """
    names = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    with _left_as_it_was(net) as start_again:

        def gradients(scale: float) -> list[Tensor]:
            start_again()
            with autocast(device, precision):
                value = loss()
            return _gradients(value * scale, net)

        scale = _scale_with_room(gradients, ranks or Ranks()) if precision == "float16" else 1.0
        with _recorded(net) as calls:
            first = gradients(scale)
        second = gradients(scale)
        unrepeated = {}
        for name, value, repeated in zip(names, first, second, strict=True):
            same = torch.equal(value, repeated) if device.type == "cpu" else _share(repeated, value) <= _GPU_TOLERANCE
            if not same:
                unrepeated[name] = _share(repeated, value)
        # All calls, whatever is found: layers may exchange statistics with other processes.
        shares = [(call, what, share) for call in calls for what, share in call.differences(device, precision).items()]
    differing = [(call, what, share) for call, what, share in shares if not share <= _TOLERANCE]  # NaN is not
    faults = [
        *(
            f"{what} of {call.name} differs from float32's by {share:.2g} of its norm"
            for call, what, share in differing
        ),
        *(
            f"two equal calls gave two gradients of {name}, apart by {share:.2g} of its norm"
            for name, share in unrepeated.items()
        ),
    ]
    wrong = {call.kind for call, *_ in differing} or _last_unrepeated(calls, unrepeated)
    layers = tuple(dict.fromkeys(call.name for call in calls if call.kind in wrong))
    return Comparison(max((share for *_, share in shares), default=0.0), faults[0] if faults else None, layers)


def _last_unrepeated(calls: list[_Call], parameters: Iterable[str]) -> set[tuple[Any, ...]]:
    """The kind of the last layer whose gradients were not repeated: what it hands back spoils all before it."""
    owners = {name.rpartition(".")[0] for name in parameters}
    return {call.kind for call in [call for call in calls if call.name in owners][-1:]}


@dataclass
class _Call:
    """A layer's call in a network.

    Attributes:
        name: Of the layer.
        layer: The module.
        input: What it was given.
        gradient: Of its output; None if the loss does not depend on it.
    """

    name: str
    layer: nn.Module
    input: Tensor
    gradient: Tensor | None = None

    @property
    def kind(self) -> tuple[Any, ...]:
        """What decides by which kernel a convolution is computed; any other layer is of a kind of its own.

        What a kernel reads that it should not may be right by chance: of convolutions of one kind all are wrong.
        """
        layer = self.layer
        if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return (self.name,)
        frames = self.input.shape[2]
        return (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, frames)

    def differences(self, device: torch.device, precision: Precision) -> dict[str, float]:
        """How far output and gradients in a precision are from those in float32, by name, as shares in L2 norm."""
        if self.gradient is None:
            return {}
        expected = self._again(device, "float32")
        got = self._again(device, precision)
        return {what: _share(got[what], expected[what]) for what in expected}

    def _again(self, device: torch.device, precision: Precision) -> dict[str, Tensor]:
        assert self.gradient is not None
        value = self.input.detach()
        if precision == "float32":
            value = value.float()
        value.requires_grad_(self.input.requires_grad)
        with torch.enable_grad(), autocast(device, precision):
            output = self.layer(value)
        wanted: dict[str, Tensor] = {
            f"the gradient of {name}": parameter
            for name, parameter in self.layer.named_parameters(recurse=False)
            if parameter.requires_grad
        }
        if value.requires_grad:
            wanted["the gradient of the input"] = value
        found = torch.autograd.grad(output, list(wanted.values()), self.gradient.to(output.dtype))
        return {"the output": output.detach()} | dict(zip(wanted, found, strict=True))


@contextmanager
def _recorded(net: nn.Module) -> Iterator[list[_Call]]:
    """The calls, in the forward and backward pass made meanwhile, of all layers that have parameters of their own."""
    calls: list[_Call] = []

    def record(name: str, layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        plain = len(arguments) == 1 and isinstance(arguments[0], Tensor) and isinstance(output, Tensor)
        if not (plain and output.requires_grad):
            return
        call = _Call(name, layer, arguments[0])
        calls.append(call)
        output.register_hook(lambda gradient: setattr(call, "gradient", gradient.detach()))

    handles = [
        layer.register_forward_hook(partial(record, name))
        for name, layer in net.named_modules()
        if any(True for _ in layer.parameters(recurse=False))
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _scale_with_room(gradients: Callable[[float], list[Tensor]], ranks: Ranks) -> float:
    """The largest scale of the loss under which no gradient overflows in any process."""
    for scale in _FLOAT16_SCALES:
        if not ranks.any(any(not gradient.isfinite().all() for gradient in gradients(scale))):
            break
    return scale


def _gradients(value: Tensor, net: nn.Module) -> list[Tensor]:
    """Of each parameter that takes one, zeros where the loss does not reach it."""
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient.detach().clone()
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


def _share(value: Tensor, reference: Tensor) -> float:
    """How far a tensor is from another, as a share of that one's L2 norm."""
    reference = reference.double()
    size = reference.norm().item()
    distance = (value.double() - reference).norm().item()
    return distance / size if size else (0.0 if distance == 0 else float("inf"))


@contextmanager
def _left_as_it_was(net: nn.Module) -> Iterator[Callable[[], None]]:
    """Puts a network's buffers and the generators back at the end, and whenever the function it gives is called."""
    buffers = {name: buffer.detach().clone() for name, buffer in net.named_buffers()}
    state = rng_state()

    @torch.no_grad()
    def put_back() -> None:
        for name, buffer in net.named_buffers():
            buffer.copy_(buffers[name])
        set_rng_state(state)

    try:
        with torch.compiler.set_stance("force_eager"):
            yield put_back
    finally:
        put_back()
