"""A DataLoader whose batches come in memory that is used again."""

from __future__ import annotations

import functools
import io
import math
import pickle
import uuid
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate, get_worker_info
from torch.utils.data._utils.collate import collate, default_collate_fn_map
from torch.utils.data._utils.pin_memory import pin_memory

__all__ = ["KeptMemoryLoader"]

Sample = TypeVar("Sample")

# A slot is the memory of one batch: chunks of bytes that a worker shares with the main process. The first eight say
# which message lies in it, 0 if none: the worker writes the number of the message, the main process the 0.
_HEADER = _ALIGNMENT = 64
_SMALLEST_CHUNK = 1 << 20
# Smaller tensors travel by themselves: labels that someone collects must not hold the memory of the clips.
_SMALLEST_TENSOR = 1 << 16


class KeptMemoryLoader(DataLoader[Sample]):
    """torch's `DataLoader`, with workers that write batches into memory that is kept.

    A worker of a `DataLoader` takes fresh shared memory for each batch. To the system that is a new file, whose pages
    it clears and maps one by one, in the worker and again in the main process: for clips of floats several times the
    work of augmenting them. Here the memory of a batch is used again as soon as none of its tensors is held any more;
    a batch that is held on to, in a list for instance, stays as it is, and other memory takes its place.

    Arguments, order, errors and pinning are those of `DataLoader`, and a batch may be anything that can be pickled. In
    the main process (`num_workers=0`) there is no difference at all.

    Example:
        >>> def collate(samples):  # runs in the worker
        ...     ids, clips = zip(*samples)
        ...     out = KeptMemoryLoader.empty((len(ids), 16, 112, 112, 3)).permute(0, 4, 1, 2, 3)
        ...     augment([clips], torch.tensor(ids), out=[out])
        ...     return out, ids
        >>> loader = KeptMemoryLoader(videos, batch_size=8, num_workers=4, collate_fn=collate)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Makes the loader.

        Args:
            *args: As `torch.utils.data.DataLoader` takes them.
            **kwargs: Likewise.
        """
        super().__init__(*args, **kwargs)
        if not isinstance(self.collate_fn, _Packing):  # it is one where a framework makes a loader of another
            given = _default_collate if self.collate_fn is default_collate else self.collate_fn
            self.collate_fn = _Packing(given, most_free=(self.prefetch_factor or 0) + 2)
        self._workers: set[str] = set()
        weakref.finalize(self, _forget, self._workers)

    def __iter__(self) -> _Batches:  # type: ignore[override]
        """An iterator over the batches."""
        return _Batches(super().__iter__(), self._workers if self.persistent_workers else None)

    @staticmethod
    def empty(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """As `torch.empty`; in a worker of such a loader, in the memory of the batch that it is about to hand over.

        What lies there must not be kept for later batches.

        Args:
            shape: Of the tensor.
            dtype: Of its elements.
        """
        return torch.empty(tuple(shape), dtype=dtype) if _memory is None else _memory.empty(tuple(shape), dtype)


# ---- In a worker


@dataclass
class _Chunk:
    """Shared bytes, and their number among those of the worker."""

    serial: int
    data: Tensor


@dataclass
class _Slot:
    """The memory of one batch."""

    chunks: list[_Chunk]
    used: int = 0  # bytes of the last chunk

    @property
    def message(self) -> npt.NDArray[np.int64]:
        """The number of the message in it, one element."""
        return _message_of(self.chunks[0].data)


def _message_of(first_chunk: Tensor) -> npt.NDArray[np.int64]:
    return first_chunk.numpy()[:8].view(np.int64)


class _Memory:
    """What a worker has for its batches."""

    def __init__(self, most_free: int) -> None:
        self._name = uuid.uuid4().hex
        self._most_free = most_free
        self._slots: list[_Slot] = []
        self._current: _Slot | None = None
        self._serial = 0
        self._number = 0
        # What the main process is to be told with the next batch.
        self._new: dict[int, Tensor] = {}
        self._gone: list[int] = []

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A dense tensor in the slot of the batch at hand."""
        size = math.prod(shape) * dtype.itemsize
        chunk, begin = self._take(size)
        return chunk.data[begin : begin + size].view(dtype).view(shape)

    def pack(self, batch: object) -> _Packed:
        """A batch as it is handed over."""
        slot = self._slot()
        self._number += 1
        buffer = io.BytesIO()
        _Pickler(buffer, self).dump(batch)
        others = [(other.chunks[0].serial, int(other.message[0])) for other in self._slots if other is not slot]
        slot.message[0] = self._number
        packed = _Packed(
            worker=self._name,
            number=self._number,
            first_chunk=slot.chunks[0].serial,
            payload=buffer.getvalue(),
            new=self._new,
            gone=self._gone,
            others=[(serial, number) for serial, number in others if number],
        )
        self._new, self._gone, self._current = {}, [], None
        return packed

    def place(self, tensor: Tensor) -> tuple[int, int, int, tuple[int, ...]]:
        """Where the elements of a tensor lie: chunk, first byte, bytes, strides. What lies elsewhere is copied."""
        size = (1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))) * (
            tensor.itemsize
        )
        for chunk in self._slot().chunks:
            begin = tensor.data_ptr() - chunk.data.data_ptr()
            if begin >= 0 and begin + size <= len(chunk.data):
                return chunk.serial, begin, size, tensor.stride()
        # As a copy has them: an expanded or cut tensor becomes dense.
        strides = torch.empty_like(tensor, device="meta").stride()
        size = tensor.numel() * tensor.itemsize
        chunk, begin = self._take(size)
        chunk.data[begin : begin + size].view(tensor.dtype).as_strided(tensor.shape, strides, None).copy_(tensor)
        return chunk.serial, begin, size, strides

    def _slot(self) -> _Slot:
        """That of the batch at hand."""
        if self._current is None:
            free = [slot for slot in self._slots if not slot.message[0]]
            for slot in free[self._most_free :]:  # batches were held on to, and are no more
                self._slots.remove(slot)
                self._gone += [chunk.serial for chunk in slot.chunks]
            if not free:
                free = [_Slot([self._new_chunk(_SMALLEST_CHUNK)])]
                self._slots += free
            self._current = free[0]
            chunks = self._current.chunks
            if len(chunks) > 1:  # its last batch did not fit into the first
                self._gone += [chunk.serial for chunk in chunks]
                self._current.chunks = [self._new_chunk(sum(len(chunk.data) for chunk in chunks))]
            self._current.used = _HEADER
        return self._current

    def _take(self, size: int) -> tuple[_Chunk, int]:
        """Room in the last chunk, or in a new one."""
        slot = self._slot()
        if slot.used + size > len(slot.chunks[-1].data):
            slot.chunks.append(self._new_chunk(max(size, _SMALLEST_CHUNK)))
            slot.used = 0
        begin = slot.used
        slot.used += _aligned(size)
        return slot.chunks[-1], begin

    def _new_chunk(self, size: int) -> _Chunk:
        self._serial += 1
        data = torch.zeros(_aligned(size), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        self._new[self._serial] = data
        return _Chunk(self._serial, data)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


_memory: _Memory | None = None


class _Packing:
    """A collate function whose batches are handed over in kept memory."""

    def __init__(self, collate_fn: Callable[[Any], Any], most_free: int) -> None:
        self._collate_fn = collate_fn
        self._most_free = most_free

    def __call__(self, samples: Any) -> Any:
        global _memory  # a worker has one, which `KeptMemoryLoader.empty` must find
        if get_worker_info() is None:
            return self._collate_fn(samples)
        if _memory is None:
            _memory = _Memory(self._most_free)
        return _memory.pack(self._collate_fn(samples))


def _default_collate(samples: list[Any]) -> Any:
    """torch's, which takes fresh shared memory."""
    return collate(samples, collate_fn_map={**default_collate_fn_map, Tensor: _stack})


def _stack(tensors: list[Tensor], *, collate_fn_map: object = None) -> Tensor:  # noqa: ARG001 - torch passes it
    first = tensors[0]
    if not all(_is_plain(tensor) and tensor.shape == first.shape for tensor in tensors):
        stacked: Tensor = default_collate(tensors)  # which also has the better message
        return stacked
    dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
    return torch.stack(tensors, out=KeptMemoryLoader.empty((len(tensors), *first.shape), dtype))


def _is_plain(value: object) -> bool:
    """Whether something is a tensor that is nothing but its elements."""
    return (
        type(value) is Tensor
        and value.device.type == "cpu"
        and value.layout == torch.strided
        and not (value.requires_grad or value.is_quantized or value.is_conj() or value.is_neg())
    )


class _Pickler(pickle.Pickler):
    """Puts the elements of tensors into shared memory, and everything else into the pickle."""

    def __init__(self, buffer: io.BytesIO, memory: _Memory) -> None:
        super().__init__(buffer, pickle.HIGHEST_PROTOCOL)
        self._memory = memory

    def persistent_id(self, value: object) -> object:
        """What stands for a tensor."""
        if not _is_plain(value):
            return None
        assert isinstance(value, Tensor)
        if value.numel() * value.itemsize < _SMALLEST_TENSOR:
            dense = torch.empty_like(value).copy_(value)
            flat = dense.as_strided((dense.numel(),), (1,))
            return flat.view(torch.uint8).numpy().tobytes(), value.dtype, tuple(value.shape), dense.stride()
        chunk, begin, size, strides = self._memory.place(value)
        return chunk, begin, size, value.dtype, tuple(value.shape), strides


# ---- In the main process

# Chunks by the worker that made them, and their numbers there; and the numbers of the messages whose memory is in use.
_chunks: dict[str, dict[int, Tensor]] = {}
_held: dict[str, set[int]] = {}


def _forget(workers: set[str]) -> None:
    for worker in workers:
        _chunks.pop(worker, None)
        _held.pop(worker, None)
    workers.clear()


class _Batches:
    """What torch's iterator brings, unpacked."""

    def __init__(self, packed: Any, workers: set[str] | None) -> None:
        """Args: torch's iterator, and the workers that outlive it; None if they end with it."""
        self._packed = packed
        self._workers = set() if workers is None else workers
        if workers is None:
            weakref.finalize(self, _forget, self._workers)

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> Any:
        batch = next(self._packed)
        if not isinstance(batch, _Packed | _Pinned):
            return batch
        self._workers.add(batch.worker)
        return batch.unpack()

    def __len__(self) -> int:
        return len(self._packed)


@dataclass
class _Packed:
    """A batch under way.

    Attributes:
        worker: Who made it.
        number: Of the message, from 1.
        first_chunk: Of the slot that it lies in.
        payload: The pickle of all that is not elements of tensors.
        new: Chunks that the main process does not know yet.
        gone: Those that are used no more.
        others: First chunks of other slots with messages in them, and the numbers of these.
    """

    worker: str
    number: int
    first_chunk: int
    payload: bytes
    new: dict[int, Tensor]
    gone: list[int]
    others: list[tuple[int, int]]

    def unpack(self) -> Any:
        """The batch, where it lies."""
        chunks, held = _chunks.setdefault(self.worker, {}), _held.setdefault(self.worker, set())
        chunks.update(self.new)
        for serial, number in self.others:
            # A worker's messages come in turn: one that has not come was dropped, by a loop that was left.
            message = _message_of(chunks[serial]) if serial in chunks else None
            if message is not None and number not in held and message[0] == number:
                message[0] = 0
        lease = _Lease(_message_of(chunks[self.first_chunk]), self.number, held)
        batch = _Unpickler(io.BytesIO(self.payload), chunks, lease).load()
        for serial in self.gone:
            chunks.pop(serial, None)
        return batch

    def pin_memory(self) -> _Pinned:
        """A copy of the batch in page-locked memory (called by torch)."""
        return _Pinned(self.worker, pin_memory(self.unpack()))  # type: ignore[no-untyped-call]


@dataclass
class _Pinned:
    """A batch that lies in memory of its own."""

    worker: str
    batch: Any

    def unpack(self) -> Any:
        """The batch."""
        return self.batch


class _Lease:
    """Frees a slot once nothing refers to it any more."""

    def __init__(self, message: npt.NDArray[np.int64], number: int, held: set[int]) -> None:
        self._message, self._number, self._held = message, number, held
        held.add(number)

    def __del__(self) -> None:
        self._held.discard(self._number)
        self._message[0] = 0


class _LeasedBytes(np.ndarray):
    """Bytes of a chunk; tensors made of them hold them, and so the lease."""

    lease: _Lease


class _Unpickler(pickle.Unpickler):
    """Puts a batch together again."""

    def __init__(self, buffer: io.BytesIO, chunks: dict[int, Tensor], lease: _Lease) -> None:
        super().__init__(buffer)
        self._chunks = chunks
        self._lease = lease
        self._bytes: dict[int, Tensor] = {}

    def persistent_load(self, place: Any) -> Tensor:
        """A tensor by what stands for it."""
        if len(place) == 4:
            data, dtype, shape, strides = place
            if not data:
                return torch.empty(shape, dtype=dtype)
            return torch.frombuffer(bytearray(data), dtype=dtype).as_strided(shape, strides)
        serial, begin, size, dtype, shape, strides = place
        if serial not in self._bytes:
            leased = self._chunks[serial].numpy().view(_LeasedBytes)
            leased.lease = self._lease
            self._bytes[serial] = torch.from_numpy(leased)
        elements = self._bytes[serial][begin : begin + size].view(dtype)
        return elements.as_strided(shape, strides)
