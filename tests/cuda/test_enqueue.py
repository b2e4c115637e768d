"""The CUDA kernels of the ring buffer, on the GPU and emulated on the host."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ops.test_enqueue import DTYPES, numbers
from reference import queue_infonce as reference
from tubeletx.ops.enqueue import enqueue_

Enqueue = Callable[[Tensor, Tensor, Tensor], None]


@pytest.mark.parametrize(("slots", "dim"), [(1, 3), (7, 5), (12, 1), (9, 130), (4, 0)])
@pytest.mark.parametrize(("dtype", "key_dtype"), list(itertools.product(DTYPES, DTYPES)), ids=str)
def test_equals_writing_row_by_row(
    enqueue: Enqueue, dtype: torch.dtype, key_dtype: torch.dtype, slots: int, dim: int
) -> None:
    queue, start = numbers(slots, dim, dtype=dtype), slots - 1
    pointer, expected = torch.tensor(start), queue
    for batch in (3, 0, slots, 2 * slots + 1, 1):
        keys = numbers(batch, dim, start=100, dtype=key_dtype) / 3
        expected, start = reference.enqueue(expected, start, keys)
        enqueue(queue, pointer, keys)
        assert queue.equal(expected)
        assert pointer.item() == start


def test_any_strides(enqueue: Enqueue) -> None:
    queue, keys, pointer = torch.zeros(5, 14).T[::2, 1:4], numbers(3, 4).T, torch.tensor([5])
    enqueue(queue, pointer, keys)
    expected, following = reference.enqueue(torch.zeros(7, 3), 5, keys)
    assert queue.equal(expected)
    assert pointer.tolist() == [following]


@pytest.mark.parametrize("start", [-1, 4, -(2**62), 2**62 + 1])
def test_a_pointer_out_of_range_stays_inside_the_queue(enqueue: Enqueue, start: int) -> None:
    queue, pointer, keys = torch.zeros(4, 2), torch.tensor(start), numbers(2, 2)
    enqueue(queue, pointer, keys)
    expected, following = reference.enqueue(torch.zeros(4, 2), start % 4, keys)
    assert queue.equal(expected)
    assert pointer.item() == following


@pytest.mark.cuda
class TestOnTheGpu:
    """What only a GPU can show."""

    def test_calls_in_a_row_follow_each_other(self) -> None:
        queue, pointer = torch.zeros(1000, 128, device="cuda"), torch.tensor(990, device="cuda")
        expected, start = queue.cpu(), 990
        for batch in range(1, 40):
            keys = torch.rand(batch, 128, device="cuda")
            enqueue_(queue, pointer, keys)
            expected, start = reference.enqueue(expected, start, keys.cpu())
        assert queue.cpu().equal(expected)
        assert pointer.item() == start

    def test_capture_and_replay(self) -> None:
        queue, pointer = torch.zeros(10, 4, device="cuda"), torch.tensor(0, device="cuda")
        keys = torch.ones(3, 4, device="cuda")
        enqueue_(queue.clone(), pointer.clone(), keys)  # loads the kernel, which must not happen while capturing
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            enqueue_(queue, pointer, keys)
        expected, start = torch.zeros(10, 4), 0
        for step in range(1, 6):
            keys.fill_(step)
            graph.replay()
            expected, start = reference.enqueue(expected, start, torch.full((3, 4), float(step)))
        assert queue.cpu().equal(expected)
        assert pointer.item() == start

    def test_runs_on_the_current_stream(self) -> None:
        queue, pointer = torch.zeros(10, 4, device="cuda"), torch.tensor(0, device="cuda")
        keys = torch.zeros(3, 4, device="cuda")
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)
            keys.fill_(1)
            enqueue_(queue, pointer, keys)
        stream.synchronize()
        assert queue[:, 0].tolist() == [1.0] * 3 + [0.0] * 7

    def test_compiles_without_graph_breaks(self) -> None:
        def step(queue: Tensor, pointer: Tensor, keys: Tensor) -> Tensor:
            enqueue_(queue, pointer, keys * 2)
            return queue.sum()

        queue, pointer = torch.zeros(5, 3, device="cuda"), torch.tensor(4, device="cuda")
        total = torch.compile(step, fullgraph=True)(queue, pointer, numbers(3, 3).cuda())
        expected, _ = reference.enqueue(torch.zeros(5, 3), 4, numbers(3, 3) * 2)
        assert queue.cpu().equal(expected)
        assert total.item() == expected.sum()
