"""Checks of arguments: of their Python types before an operator is called, and of shapes and dtypes in fake kernels.

The compiled operators check the rest themselves (csrc/ops); fake kernels repeat that here, in the same words, since a
call that is only traced must be refused as well, and so must one that mixes real tensors with tensors on "meta".
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = [
    "BYTES_OR_FLOATS",
    "FLOATS",
    "MAX_CLIPS",
    "are_plain",
    "check_device",
    "check_dtype",
    "check_epoch",
    "check_geometry",
    "check_positive",
    "check_samples",
    "check_shape",
    "check_tensor",
    "refuse_gradient",
    "refuse_tangents",
    "require_integer",
    "require_integers",
    "require_list",
    "require_seed",
    "require_tensors",
    "signed_seed",
]

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
BYTES_OR_FLOATS = (torch.uint8, *FLOATS)
MAX_CLIPS = 8  # in one call


def require_tensors(**arguments: Any) -> None:
    """Refuses what is not a tensor, with the argument's name."""
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: got {type(value).__name__}, needs a tensor")


def require_list(name: str, values: Sequence[Any]) -> None:
    """Refuses a list that holds anything but tensors, by its name; faster than `require_tensors` for each."""
    for value in values:
        if not isinstance(value, Tensor):
            require_tensors(**{name: value})


def are_plain(tensors: Sequence[Any]) -> bool:
    """Whether all are tensors through which no derivative is wanted, so that nothing of their kind is to be refused."""
    if forward_ad._current_level >= 0:
        return False
    # A loop: all() of a generator takes twice as long.
    for tensor in tensors:  # noqa: SIM110
        if type(tensor) is not Tensor or tensor.requires_grad:
            return False
    return True


def require_integer(value: Any, name: str, most: int = (1 << 63) - 1) -> int:
    """The integer of 64 bits that `value` is, whatever its type; symbolic ones stay as they are."""
    if type(value) is not int:
        if isinstance(value, torch.SymInt):
            return value  # type: ignore[return-value]
        try:
            value = operator.index(value)
        except TypeError:
            shown = repr(value) if isinstance(value, float | str) else type(value).__name__
            raise TypeError(f"{name}: got {shown}, needs an integer") from None
    if not -(1 << 63) <= value <= most:
        raise ValueError(f"{name}: got {value}, needs a 64-bit integer")
    return value  # type: ignore[no-any-return]


def require_integers(values: Any, name: str) -> tuple[int, ...]:
    """The integers of a sequence."""
    # Tuples first, which nearly all are: whether something can be iterated over takes longer to find out.
    if not isinstance(values, tuple) and (isinstance(values, str) or not isinstance(values, Iterable)):
        shown = repr(values) if isinstance(values, int | float | str) else type(values).__name__
        raise TypeError(f"{name}: got {shown}, needs a sequence of integers")
    return tuple([require_integer(value, name) for value in values])


def require_seed(value: Any) -> int:
    """The 64-bit integer, signed or not, that `value` is."""
    return require_integer(value, "seed", most=(1 << 64) - 1)


def signed_seed(value: Any) -> int:
    """Its two's complement."""
    seed = require_seed(value)
    return seed - (1 << 64) if type(seed) is int and seed >= 1 << 63 else seed


def refuse_gradient(function: str, **arguments: Tensor | None) -> None:
    """Refuses arguments that require a gradient which `function` does not give."""
    if not torch.is_grad_enabled():
        return
    for name, tensor in arguments.items():
        if tensor is not None and tensor.requires_grad:
            raise ValueError(f"{name}: requires a gradient, which {function} does not give; pass {name}.detach()")


def refuse_tangents(function: str, **arguments: Tensor | None) -> None:
    """Refuses arguments with a forward-mode tangent: the operators would go on without it.

    Also what a transform of torch.func differentiates, where torch's own message would speak of its innards.
    """
    if forward_ad._current_level >= 0:  # within dual_level(), as seldom
        for name, tensor in arguments.items():
            if tensor is not None and _has_tangent(tensor):
                raise NotImplementedError(f"{name}: carries a forward-mode tangent, which {function} does not pass on")
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return
    for name, tensor in arguments.items():
        if tensor is not None and _is_tracked(tensor):
            raise NotImplementedError(
                f"{name}: is differentiated by torch.func, which {function} does not support; use backward() or "
                "torch.autograd.grad"
            )


def _is_tracked(tensor: Tensor) -> bool:
    innards = torch._C._functorch
    while innards.is_functorch_wrapped_tensor(tensor):
        if innards.is_gradtrackingtensor(tensor):
            return True
        tensor = innards.get_unwrapped(tensor)
    return False


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def check_shape(tensor: Tensor, name: str, expected: Sequence[int | None], meaning: str) -> None:
    """The shape must be `expected`, None standing for any extent; `meaning` spells the axes for the message."""

    def message() -> str:
        needed = ", ".join("*" if extent is None else str(extent) for extent in expected)
        return f"{name}: got shape {tuple(tensor.shape)}, needs {meaning} = ({needed})"

    if tensor.dim() != len(expected):
        raise ValueError(message())
    for extent, needed in zip(tensor.shape, expected, strict=True):
        if needed is not None:
            _require(extent == needed, message)


def check_dtype(tensor: Tensor, name: str, *allowed: torch.dtype) -> None:
    """The dtype must be one of these."""
    if tensor.dtype not in allowed:
        raise ValueError(f"{name}: got dtype {tensor.dtype}, needs {' or '.join(map(str, allowed))}")


def check_device(tensor: Tensor, name: str, reference: Tensor, reference_name: str) -> None:
    """The tensor must live where `reference` does."""
    if tensor.device != reference.device:
        raise ValueError(
            f"{name}: is on {tensor.device}, not on the device of {reference_name}, {reference.device}; "
            f"move it there with .to({reference_name}.device)"
        )


def check_epoch(epoch: int) -> None:
    """An epoch must fit 32 bits."""
    _require(0 <= epoch < 1 << 32, lambda: f"epoch: got {epoch}, needs an integer in [0, 2^32)")


def check_samples(sample_ids: Tensor, epoch: int, epoch_tensor: Tensor | None) -> None:
    """What samples are drawn by: (B,) int64 ids, and an epoch that is a number or a tensor of one."""
    check_shape(sample_ids, "sample_ids", (None,), "(B,)")
    check_dtype(sample_ids, "sample_ids", torch.int64)
    if epoch_tensor is None:
        check_epoch(epoch)
        return
    if epoch_tensor.numel() != 1:
        raise ValueError(f"epoch: got shape {tuple(epoch_tensor.shape)}, needs one element")
    check_dtype(epoch_tensor, "epoch", torch.int64)
    if epoch_tensor.device.type != "cpu":
        check_device(epoch_tensor, "epoch", sample_ids, "sample_ids")


def check_tensor(
    tensor: Tensor,
    name: str,
    dtype: torch.dtype,
    shape: Sequence[int | None],
    meaning: str,
    reference: Tensor,
    reference_name: str,
) -> None:
    """Dtype, shape and device must be these."""
    check_dtype(tensor, name, dtype)
    check_shape(tensor, name, shape, meaning)
    check_device(tensor, name, reference, reference_name)


def check_geometry(
    batch: int,
    tubelets: int,
    num_frames: int,
    centers: Tensor,
    linear: Tensor,
    shape: Tensor,
    edge: Tensor,
    opacity: Tensor,
    order: Tensor,
    reference: Tensor,
    reference_name: str,
) -> None:
    """Where tubelets lie and how they are painted."""
    each = (batch, tubelets)
    rules = {
        "centers": (centers, torch.float32, (*each, num_frames, 2), "(B, M, T, 2)"),
        "linear": (linear, torch.float32, (*each, num_frames, 2, 2), "(B, M, T, 2, 2)"),
        "shape": (shape, torch.int32, each, "(B, M)"),
        "edge": (edge, torch.float32, each, "(B, M)"),
        "opacity": (opacity, torch.float32, (*each, num_frames), "(B, M, T)"),
        "order": (order, torch.int32, each, "(B, M)"),
    }
    for name, (tensor, dtype, expected, meaning) in rules.items():
        check_tensor(tensor, name, dtype, expected, meaning, reference, reference_name)


def check_positive(value: int, name: str) -> None:
    """A size must be positive."""
    _require(value > 0, lambda: f"{name}: got {value}, needs a positive integer")


def _require(condition: bool, message: Callable[[], str]) -> None:
    # Takes conditions on symbolic sizes too, and keeps those that are known only when the operator runs for then.
    torch._check_value(condition, message)  # type: ignore[no-untyped-call]
