"""A quick check that the compiled operators give the right results on this machine, against NumPy."""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tubeletx.config import TubeletConfig
from tubeletx.ops import interpolate_keyframes, paste_tubelets, queue_infonce, smooth_path
from tubeletx.pair import TubeletPair

__all__ = ["CHECKS", "seconds_of_a_pair"]

# Of the clips below with the tubelets of seed 0 on them: the same bits on every processor and GPU.
_CHECKSUM = 0x244CE6C8


def _pair_checksum(device: torch.device) -> None:
    """Samples, crops and pastes, bit for bit."""
    count = 2 * 3 * 8 * 64 * 72
    clips = [torch.arange(count, device=device).mul(factor).bitwise_and(255).byte() for factor in (7, 13)]
    clips = [clip.view(2, 3, 8, 64, 72) for clip in clips]
    config = TubeletConfig.preset("released", transforms=("scale", "rotation", "shear"))
    *pasted, _ = TubeletPair(config)(*clips, torch.arange(2, device=device))
    checksum = zlib.crc32(torch.stack(pasted).cpu().numpy().tobytes())
    if checksum != _CHECKSUM:
        raise AssertionError(f"the checksum of a pair is {checksum:#010x} instead of {_CHECKSUM:#010x}")


def _paste(device: torch.device) -> None:
    """Pastes a turned ellipse with a soft edge."""
    generator = np.random.default_rng(0)
    clip, patch = generator.random((3, 24, 32)), generator.random((3, 10, 14))
    turn, center, edge, opacity = np.array([[0.8, -0.6], [0.6, 0.8]]), np.array([15.3, 12.1]), 0.3, 0.9

    def tensor(values: object) -> Tensor:
        return torch.tensor(np.asarray(values), dtype=torch.float32, device=device)[None, None]

    integers = torch.tensor([[[14, 10]]], dtype=torch.int32, device=device)
    ellipse = torch.ones((1, 1), dtype=torch.int32, device=device)
    (pasted,) = paste_tubelets(
        [tensor(clip)[0][:, :, None]],
        tensor(patch),
        integers,
        tensor([center]),
        tensor([turn]),
        ellipse,
        tensor(edge),
        tensor([opacity]),
        ellipse,
    )
    y, x = np.mgrid[:24, :32] + 0.5
    u, v = np.einsum("ij,jhw->ihw", turn.T, np.stack((x - center[0], y - center[1])))
    mask = opacity * np.clip((1 - np.hypot(u / 7, v / 5)) / edge, 0, 1)
    column, row = np.clip(u + 6.5, 0, 13), np.clip(v + 4.5, 0, 9)
    left, top = np.minimum(column.astype(int), 12), np.minimum(row.astype(int), 8)
    right, lower = column - left, row - top
    above = patch[:, top, left] * (1 - right) + patch[:, top, left + 1] * right
    below = patch[:, top + 1, left] * (1 - right) + patch[:, top + 1, left + 1] * right
    _compare("paste_tubelets", pasted[0, :, 0], clip * (1 - mask) + (above * (1 - lower) + below * lower) * mask)


def _paths(device: torch.device) -> None:
    """Interpolates and smooths."""
    generator = np.random.default_rng(0)
    values, points = generator.random((1, 3, 2)), generator.random((1, 12, 2))

    def tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
        return torch.tensor(array, dtype=torch.float32, device=device)

    keys = torch.tensor([[0, 5, 11]], device=device)
    expected = np.stack([np.interp(range(12), [0, 5, 11], values[0, :, axis]) for axis in range(2)], -1)
    _compare("interpolate_keyframes", interpolate_keyframes(keys, tensor(values), num_frames=12)[0], expected)
    taps = np.exp(-0.5 * (np.arange(-8, 9) / 2) ** 2)
    mirrored = np.concatenate((points[0, 7::-1], points[0], points[0, :-9:-1]))
    expected = np.stack([np.convolve(mirrored[:, axis], taps / taps.sum(), "valid") for axis in range(2)], -1)
    _compare("smooth_path", smooth_path(tensor(points), 2.0, num_frames=12)[0], expected)


def _loss(device: torch.device) -> None:
    """Loss, rank and gradient of the queue's InfoNCE."""
    generator = np.random.default_rng(0)
    query, key, queue = (generator.standard_normal((rows, 16)) / 4 for rows in (4, 4, 300))
    tensors = [torch.tensor(array, dtype=torch.float32, device=device) for array in (query, key, queue)]
    loss, rank = queue_infonce(tensors[0].requires_grad_(), tensors[1], tensors[2], 0.2)
    (gradient,) = torch.autograd.grad(loss.sum(), tensors[0])
    scores = np.concatenate(((query * key).sum(1, keepdims=True), query @ queue.T), axis=1) / 0.2
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    _compare("queue_infonce", loss, -np.log(weights[:, 0]))
    _compare("queue_infonce, rank", rank, (scores[:, 1:] > scores[:, :1]).sum(1))
    _compare("queue_infonce, gradient", gradient, (weights[:, :1] * key + weights[:, 1:] @ queue - key) / 0.2)


CHECKS: tuple[Callable[[torch.device], None], ...] = (_pair_checksum, _paste, _paths, _loss)
"""Each raises AssertionError where results are wrong; the docstrings say what they check."""


def seconds_of_a_pair(device: torch.device, batch: int = 8) -> tuple[float, float]:
    """Times a pair of 16 x 112 x 112, preset "paper", beside a copy of the bytes that pasting must write.

    On the CPU one thread works, since several wait for each other where other programs keep a core busy.

    Returns:
        Median seconds a pair of sampling, cropping and pasting; and of the copy.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (batch, 16, 112, 112, 3)
    clips = [torch.randint(256, shape, dtype=torch.uint8, generator=generator).to(device) for _ in range(2)]
    clips = [clip.permute(0, 4, 1, 2, 3) for clip in clips]
    ids = torch.arange(batch, device=device)
    pair = TubeletPair(inplace=True)
    tubelets = pair(*clips, ids)[2]
    covered = tubelets.coverage((16, 112, 112), per_tubelet=True).sum().item() * 16 * 112 * 112
    source = torch.empty(int(covered) * 3 * 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours, copy = (_seconds(call, device) for call in (lambda: pair(*clips, ids), lambda: target.copy_(source)))
    finally:
        torch.set_num_threads(threads)
    return ours / batch, copy / batch


def _seconds(call: Callable[[], object], device: torch.device, repeats: int = 20) -> float:
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def _compare(name: str, got: Tensor, expected: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    error = float(np.abs(got.detach().cpu().double().numpy() - expected).max())
    if not error < 1e-4:
        raise AssertionError(f"{name} is off by {error:.2g}")
