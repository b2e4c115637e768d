"""Where the CUDA kernels run: on the host, from their C++ or from nvcc's PTX, or on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kernels import ON_HOST, Operator, move, on_gpu, on_gpu_in_place
from tubeletx._library import cuda_operators


def no_gpu() -> str:
    """Why the CUDA operators cannot run here; empty where they can."""
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    return "" if cuda_operators else "tubeletx was built without CUDA"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = no_gpu()
    if not reason:
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason=reason))


ON_GPU = pytest.param(on_gpu, id="cuda", marks=pytest.mark.cuda)


@pytest.fixture(params=[*ON_HOST, ON_GPU])
def kernel(request: pytest.FixtureRequest) -> Callable[[str], Operator]:
    """Finds an operator by its name: it takes CPU tensors, runs the CUDA kernel, and returns CPU tensors."""
    return request.param


@pytest.fixture(params=[*ON_HOST, pytest.param(on_gpu_in_place, id="cuda", marks=pytest.mark.cuda)])
def kernel_in_place(request: pytest.FixtureRequest) -> Callable[[str], Operator]:
    """As `kernel`, for an operator that writes into its first argument: it is written on the CPU too."""
    return request.param


@pytest.fixture(params=[*ON_HOST, ON_GPU])
def enqueue(request: pytest.FixtureRequest) -> Operator:
    """The ring-buffer write, in place on CPU tensors wherever the kernel runs."""
    if request.param is not on_gpu:
        return request.param("enqueue_")

    def write_and_bring_back(*arguments: torch.Tensor) -> None:
        moved = move(arguments, "cuda")
        torch.ops.tubeletx.enqueue_(*moved)
        for here, there in zip(arguments[:2], moved, strict=False):
            here.copy_(there)

    return write_and_bring_back
