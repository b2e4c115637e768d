"""Calls of the CUDA kernels with CPU tensors: on the host, from their C++ or from nvcc's PTX, or on a GPU."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tubeletx import _C

EMULATION = pathlib.Path(_C.__file__).with_name("libtubeletx_emulation.so")
PTX = pathlib.Path(_C.__file__).with_name("libtubeletx_ptx.so")
for library in (EMULATION, PTX):
    if library.exists():
        torch.ops.load_library(library)

Operator = Callable[..., Any]


def move(value: Any, device: str) -> Any:
    """The tensors in an argument or a result, on another device with the same strides."""
    if isinstance(value, torch.Tensor):
        if 0 in value.stride():
            return value.to(device)
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device).copy_(value)
    if isinstance(value, list | tuple):
        return type(value)(move(element, device) for element in value)
    return value


def on_gpu(name: str) -> Operator:
    operator = getattr(torch.ops.tubeletx, name)
    return lambda *arguments: move(operator(*move(arguments, "cuda")), "cpu")


def on_gpu_in_place(name: str) -> Operator:
    """For operators that write into their first argument, a tensor or a list of some."""
    operator = getattr(torch.ops.tubeletx, name)

    def write_and_bring_back(*arguments: Any) -> Any:
        moved = move(arguments, "cuda")
        result = operator(*moved)
        written, source = (value if isinstance(value, list) else [value] for value in (arguments[0], moved[0]))
        for here, there in zip(written, source, strict=True):
            here.copy_(there)
        return move(result, "cpu")

    return write_and_bring_back


def emulated(name: str) -> Operator:
    if not EMULATION.exists():
        pytest.skip("built without TUBELETX_EMULATION")
    return getattr(torch.ops.tubeletx_emulation, name)


def translated(name: str) -> Operator:
    """Runs the PTX; only where `PTX` exists."""
    return getattr(torch.ops.tubeletx_ptx, name)


# Whatever runs the kernels on the host.
ON_HOST = [pytest.param(emulated, id="emulated"), *([pytest.param(translated, id="ptx")] if PTX.exists() else [])]
