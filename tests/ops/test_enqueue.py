from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from reference import queue_infonce as reference
from tubeletx.ops.enqueue import enqueue_

OPERATOR = torch.ops.tubeletx.enqueue_.default
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def numbers(*sizes: int, start: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.arange(start, start + int(np.prod(sizes)), dtype=torch.float64).reshape(sizes).to(dtype)


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(), slots=st.integers(1, 12), dim=st.integers(0, 4), dtypes=st.tuples(*[st.sampled_from(DTYPES)] * 2)
)
def test_equals_writing_row_by_row(
    data: st.DataObject, slots: int, dim: int, dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    queue = numbers(slots, dim, dtype=dtypes[0])
    start = data.draw(st.integers(0, slots - 1), label="pointer")
    pointer = torch.tensor(start)
    expected = queue
    for batch in data.draw(st.lists(st.integers(0, 30), max_size=4), label="batches"):
        keys = numbers(batch, dim, start=100, dtype=dtypes[1])
        expected, start = reference.enqueue(expected, start, keys)
        enqueue_(queue, pointer, keys)
        assert queue.equal(expected)
        assert pointer.item() == start


def test_any_strides() -> None:
    storage = torch.zeros(5, 14)
    queue = storage.T[::2, 1:4]  # (7, 3)
    pointer = torch.tensor([5])
    keys = numbers(3, 4).T
    enqueue_(queue, pointer, keys)
    expected, following = reference.enqueue(torch.zeros(7, 3), 5, keys)
    assert queue.equal(expected)
    assert pointer.tolist() == [following]
    assert storage.count_nonzero() == keys.numel()


def test_keys_are_detached() -> None:
    queue, keys = torch.zeros(4, 2), torch.ones(3, 2, requires_grad=True)
    enqueue_(queue, torch.tensor(0), keys)
    assert not queue.requires_grad
    assert queue.sum() == 6


def test_inference_mode() -> None:
    with torch.inference_mode():
        queue = torch.zeros(4, 2)
        enqueue_(queue, torch.tensor(3), torch.ones(2, 2))
    assert queue[:, 0].tolist() == [1, 0, 0, 1]


def test_opcheck() -> None:
    torch.library.opcheck(OPERATOR, (torch.zeros(5, 3), torch.tensor(4), numbers(3, 3)))
    torch.library.opcheck(OPERATOR, (torch.zeros(5, 3).half(), torch.tensor([4]), numbers(0, 3)))


def test_compiles_without_graph_breaks() -> None:
    def step(queue: Tensor, pointer: Tensor, keys: Tensor) -> Tensor:
        enqueue_(queue, pointer, keys * 2)
        return queue.sum()

    queue, pointer, keys = torch.zeros(5, 3), torch.tensor(4), numbers(3, 3)
    total = torch.compile(step, fullgraph=True, backend="aot_eager")(queue, pointer, keys)
    expected, following = reference.enqueue(torch.zeros(5, 3), 4, keys * 2)
    assert queue.equal(expected)
    assert pointer.item() == following
    assert total == expected.sum()


def test_rows_that_share_memory_are_refused() -> None:
    storage = torch.zeros(14)
    keys = torch.ones(2, 3)
    for queue in (torch.zeros(1, 3).expand(4, 3), torch.zeros(4, 1).expand(4, 3), storage.as_strided((4, 3), (1, 1))):
        with pytest.raises(ValueError, match=r"^queue: .*share memory"):
            enqueue_(queue, torch.tensor(0), keys)
    # These interleave, but share nothing.
    enqueue_(storage.as_strided((4, 3), (3, 2)), torch.tensor(0), keys)
    assert storage.nonzero().flatten().tolist() == [0, 2, 3, 4, 5, 7]


def test_keys_in_the_memory_of_the_queue_are_refused() -> None:
    queue = torch.zeros(4, 3)
    for keys in (queue, queue[1:3], queue.flatten()[1:7].view(2, 3)):
        with pytest.raises(ValueError, match=r"^keys: lies in the memory of queue"):
            enqueue_(queue, torch.tensor(0), keys)
    enqueue_(queue[:2], torch.tensor(0), queue[2:])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("queue", {"queue": torch.zeros(4)}),
        ("queue", {"queue": torch.zeros(0, 3)}),
        ("queue", {"queue": torch.zeros(4, 3, dtype=torch.int64)}),
        ("queue", {"queue": torch.zeros(4, 3, requires_grad=True)}),
        ("pointer", {"pointer": torch.zeros(2, dtype=torch.int64)}),
        ("pointer", {"pointer": torch.zeros(0, dtype=torch.int64)}),
        ("pointer", {"pointer": torch.zeros((), dtype=torch.int32)}),
        ("pointer", {"pointer": torch.tensor(4)}),
        ("pointer", {"pointer": torch.tensor(-1)}),
        ("keys", {"keys": torch.zeros(2, 4)}),
        ("keys", {"keys": torch.zeros(2, 3, 1)}),
        ("keys", {"keys": torch.zeros(3)}),
        ("keys", {"keys": torch.zeros(2, 3, dtype=torch.uint8)}),
        ("keys", {"keys": torch.zeros(2, 3, dtype=torch.complex64)}),
    ],
)
def test_refusals_name_the_argument_and_leave_the_queue_alone(name: str, change: dict[str, Tensor]) -> None:
    arguments = {"queue": torch.zeros(4, 3), "pointer": torch.tensor(0), "keys": torch.ones(2, 3)} | change
    with pytest.raises(ValueError, match=f"^{name}: "):
        enqueue_(**arguments)
    assert not arguments["queue"].any()
