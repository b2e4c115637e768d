"""The CUDA kernel behind the gradients of queue InfoNCE, on the GPU and emulated on the host."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kernels import Operator
from ops.test_queue_infonce_backward import DTYPES, SIZES, assert_any_strides, assert_matches, draw_arguments


@pytest.fixture
def operator(kernel: Callable[[str], Operator]) -> Operator:
    return kernel("queue_infonce_backward")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_the_reference(operator: Operator, sizes: tuple[int, int], dtype: torch.dtype) -> None:
    assert_matches(operator, draw_arguments(*sizes, dtype))


def test_any_strides(operator: Operator) -> None:
    assert_any_strides(operator)


@pytest.mark.cuda
def test_opcheck() -> None:
    arguments = [tensor.cuda() for tensor in draw_arguments(4, 8, torch.bfloat16)]
    torch.library.opcheck(torch.ops.tubeletx.queue_infonce_backward.default, (*arguments, 0.2, True, False))
