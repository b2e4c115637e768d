"""Cropping and pasting one positive pair on one CPU thread, beside NumPy/OpenCV and torch.grid_sample.

A pair is two uint8 clips of 16 x 112 x 112, channels last, and M = 2 tubelets: sides uniform in 16..64, smooth paths,
rotation up to 90 degrees, hard edge, opacity 1.

Floors of the operator, from the work itself. Mean area about 1600 px, of which the shapes cover .85, so 2 x 16 x 1360 =
43.5 thousand seen pixels a pair, and twice that many written:
- bytes: 87 thousand pixels written x 3 = 0.26 MB, from and to a cache of some 50 GB/s: 5 us.
- loads: a 16-byte record of taps and its index for each seen pixel, 3 a cycle: 29 thousand cycles.
- arithmetic: 64 vector operations for 16 pixels (25 for places and weights, 8 for each four pixels' taps, 7 to pack),
  two a cycle, and a fifth of the 3500 vectors lost to the ends of rows: 112 thousand cycles.
Together about 40 us at 2.8 GHz with AVX-512; an own alpha or a soft edge adds 20 to 30 operations and the loads of the
background.

Beside the operator stand what loaders usually do (each clip for itself, patch and mask warped onto a grown canvas,
blended in float32) and the fastest that we could write with OpenCV (opencv_peers.py). "Warm" pastes one pair again and
again, so that its clips lie in the cache; the others go through clips of 19 and 39 MB.

Everything runs on one thread and is timed by its processor time, which leaves out what else the machine does.

Run: python benchmarks/paste.py

With `--device cuda`: 32 pairs on a GPU, replayed as CUDA graphs over clips too many for its cache, beside
torch.grid_sample. There the floor is the memory: the touched pixels of both clips are written once, at the speed of a
device copy measured in the same run.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import torch
from harness import copy_bandwidth, device_parser, measure, measure_gpu, measure_replayed, write_result
from opencv_peers import paste_patches
from sample import torch_tubelets
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from tubeletx.ops.crop_patches import crop_patches
from tubeletx.ops.paste_tubelets import paste_tubelets, paste_tubelets_
from tubeletx.pair import TubeletPair

FRAMES, SIDE, TUBELETS, LARGEST = 16, 112, 2, 64
# Pairs a call, sets of clips that a CUDA graph goes through, and calls in it.
GPU_BATCH, GPU_SETS, GPU_CALLS = 32, 4, 20
Floats = npt.NDArray[np.float32]


class Pair:
    """Drawn tubelets and clips, as tensors."""

    def __init__(self, batch: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        each = (batch, TUBELETS)
        size = generator.integers(16, LARGEST + 1, (*each, 2))
        corner = (generator.random((*each, 2)) * (SIDE + 1 - size)).astype(np.int64)
        path = gaussian_filter1d(generator.random((*each, 48, 2)), 6, axis=2, mode="reflect")
        path -= path.min(2, keepdims=True)
        path /= path.max(2, keepdims=True)
        extent = generator.uniform(20, 90, (*each, 1, 1))
        path = path[:, :, np.linspace(0, 47, FRAMES).round().astype(int)] * extent
        path += generator.random((*each, 1, 2)) * (SIDE - extent)
        angle = generator.uniform(-np.pi / 2, np.pi / 2, (*each, 1)) * np.linspace(0, 1, FRAMES)
        turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1)
        rank = np.argsort(np.argsort(-size.prod(-1), -1), -1)

        def integers(array: npt.NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(array.astype(np.int32))

        self.patch_frame = integers(generator.integers(0, FRAMES, each))
        self.patch_box = integers(np.concatenate([corner, corner + size], -1))
        self.geometry = (
            integers(size),
            torch.from_numpy(path.astype(np.float32)),
            torch.from_numpy(turn.astype(np.float32)).view(*each, FRAMES, 2, 2),
            integers(generator.choice(3, each, p=[0.5, 0.35, 0.15])),
            torch.zeros(each),
            torch.ones(*each, FRAMES),
            integers(rank),
        )
        pixels = generator.integers(0, 256, (2, batch, FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
        self.clips = [torch.from_numpy(clip).permute(0, 4, 1, 2, 3) for clip in pixels]

    def to(self, device: str) -> Pair:
        """Moves everything, in place."""
        self.patch_frame, self.patch_box = self.patch_frame.to(device), self.patch_box.to(device)
        self.geometry = tuple(tensor.to(device) for tensor in self.geometry)
        self.clips = [clip.to(device) for clip in self.clips]
        return self

    def crop(self) -> Tensor:
        """The patches, padded to the largest."""
        return crop_patches(self.clips[0], self.patch_frame, self.patch_box, (LARGEST, LARGEST))


def operator(pair: Pair) -> None:
    paste_tubelets_(pair.clips, pair.crop(), *pair.geometry)


def operator_copying(pair: Pair) -> None:
    paste_tubelets(pair.clips, pair.crop(), *pair.geometry)


def numpy_opencv(pair: Pair) -> None:
    """The released kind: patch and mask are warped onto a grown canvas by OpenCV, clip by clip, then blended."""
    size, centers, linear, shape, _, _, order = (tensor.numpy() for tensor in pair.geometry)
    clips = [clip.permute(0, 2, 3, 4, 1).numpy() for clip in pair.clips]
    for b in range(size.shape[0]):
        patches, masks = [], []
        for m in range(TUBELETS):
            x0, y0, x1, y1 = pair.patch_box[b, m].tolist()
            patches.append(clips[0][b, pair.patch_frame[b, m], y0:y1, x0:x1].copy())
            w, h = size[b, m]
            dx = np.abs(np.arange(w) + 0.5 - w / 2)[None] / (w / 2)
            dy = np.abs(np.arange(h) + 0.5 - h / 2)[:, None] / (h / 2)
            distance = (np.maximum(dx, dy), np.sqrt(dx**2 + dy**2), dx + dy)[shape[b, m]]
            masks.append((distance < 1).astype(np.float32))
        for clip in clips:
            for t in range(FRAMES):
                for m in np.argsort(order[b]):
                    _opencv_layer(clip[b, t], patches[m], masks[m], linear[b, m, t], centers[b, m, t])


def _opencv_layer(
    frame: npt.NDArray[np.uint8], patch: npt.NDArray[np.uint8], mask: Floats, linear: Floats, center: Floats
) -> None:
    h, w = mask.shape
    canvas = np.ceil(np.abs(linear) @ np.array([w, h])).astype(int)
    matrix = np.concatenate([linear, (canvas / 2 - linear @ np.array([w / 2, h / 2]))[:, None]], 1)
    warped = cv2.warpAffine(patch, matrix, tuple(canvas.tolist()))
    alpha = cv2.warpAffine(mask, matrix, tuple(canvas.tolist()))
    left, top = np.round(center - canvas / 2).astype(int)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + canvas[0], SIDE), min(top + canvas[1], SIDE)
    if x0 >= x1 or y0 >= y1:
        return
    inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    cover = alpha[inside][..., None]
    region = frame[y0:y1, x0:x1]
    region[:] = (region * (1 - cover) + warped[inside] * cover).astype(np.uint8)


def inverted(matrix: Tensor) -> Tensor:
    """Inverses of 2 x 2 matrices; unlike `torch.linalg.inv`, neither waits on a GPU nor looks for a solver."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
    adjugate = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    return adjugate / (a * d - b * c)[..., None, None]


def best_opencv(pair: Pair) -> None:
    """See opencv_peers."""
    size, centers, linear, shape, _, _, order = (tensor.numpy() for tensor in pair.geometry)
    clips = [clip.permute(0, 2, 3, 4, 1).numpy() for clip in pair.clips]
    for b in range(size.shape[0]):
        patches = []
        for m in range(TUBELETS):
            x0, y0, x1, y1 = pair.patch_box[b, m].tolist()
            patches.append(clips[0][b, pair.patch_frame[b, m], y0:y1, x0:x1].copy())
        paste_patches([clip[b] for clip in clips], patches, size[b], centers[b], linear[b], shape[b], order[b])


def difference(pair: Pair, peer: Callable[[Pair], None]) -> float:
    """Mean difference from the operator where either paints, in grey levels."""
    results = []
    before = [clip.clone() for clip in pair.clips]
    for paste in (operator, peer):
        paste(pair)
        results.append(torch.stack(pair.clips).int())
        for clip, old in zip(pair.clips, before, strict=True):
            clip.copy_(old)
    painted = (results[0] != torch.stack(before)) | (results[1] != torch.stack(before))
    return (results[0] - results[1])[painted].abs().float().mean().item()


def grid_sample(pair: Pair) -> None:
    """Every frame of every clip sampled and blended whole, in float32, by torch operators."""
    size, centers, linear, shape, _, _, order = pair.geometry
    patches = pair.crop().float()
    batch = size.shape[0]
    frames = [clip.transpose(1, 2).flatten(0, 1).float() for clip in pair.clips]
    frame_half = torch.full((2,), SIDE / 2, device=size.device)
    sample = torch.arange(batch, device=size.device)
    for layer in order.argsort(1).unbind(1):
        half = size[sample, layer][:, None].float() / 2
        inverse = inverted(linear[sample, layer])
        matrix = inverse * frame_half / half[..., None]
        shift = (inverse @ (frame_half - centers[sample, layer])[..., None])[..., 0] / half
        theta = torch.cat([matrix, shift[..., None]], -1).flatten(0, 1)
        grid = torch.nn.functional.affine_grid(theta, [batch * FRAMES, 3, SIDE, SIDE], align_corners=False)
        x, y = grid.abs().unbind(-1)
        kind = shape[sample, layer].repeat_interleave(FRAMES)[:, None, None]
        distance = torch.where(kind == 0, torch.maximum(x, y), torch.where(kind == 1, torch.hypot(x, y), x + y))
        mask = (distance < 1).float()[:, None]
        # The patch fills only a part of its storage: rescale the grid to it.
        share = size[sample, layer].repeat_interleave(FRAMES, 0)[:, None, None].float() / LARGEST
        source = patches[sample, layer].repeat_interleave(FRAMES, 0)
        warped = torch.nn.functional.grid_sample(source, (grid + 1) * share - 1, align_corners=False)
        frames = [frame * (1 - mask) + warped * mask for frame in frames]
    for clip, frame in zip(pair.clips, frames, strict=True):
        clip.copy_(frame.clamp(0, 255).add(0.5).to(torch.uint8).unflatten(0, (batch, FRAMES)).transpose(1, 2))


def touched_bytes(pair: Pair) -> int:
    """Bytes of the clips that pasting writes, a pixel under two tubelets counted once."""
    blank = [torch.zeros_like(clip) for clip in pair.clips]
    paste_tubelets_(blank, torch.full_like(pair.crop(), 255), *pair.geometry)
    return sum(int(clip.count_nonzero()) for clip in blank)


def eager_step(pair: Pair) -> None:
    torch_tubelets(len(pair.patch_frame), "cuda")
    grid_sample(pair)


def on_gpu(is_compiled: bool, alone: bool) -> None:
    batch, sets, calls = GPU_BATCH, GPU_SETS, GPU_CALLS
    pairs = [Pair(batch, seed=32 + number).to("cuda") for number in range(sets)]
    ids = [torch.arange(batch, device="cuda") + batch * number for number in range(calls)]
    module = TubeletPair(seed=0, inplace=True)

    def sampled(turn: int) -> object:
        return module.sampler(ids[turn], num_frames=FRAMES, height=SIDE, width=SIDE)

    def on_pair(step: Callable[[Pair], object]) -> Callable[[int], object]:
        return lambda turn: step(pairs[turn % sets])

    candidates: dict[str, Callable[[int], object]] = {
        "sample, crop and paste": lambda turn: module(*pairs[turn % sets].clips, ids[turn]),
        "crop and paste": on_pair(operator),
        "sample": sampled,
    }
    if alone:
        pass
    elif is_compiled:
        candidates["grid_sample, compiled"] = on_pair(torch.compile(grid_sample))
        candidates["sampler and grid_sample, compiled"] = on_pair(torch.compile(eager_step))
    else:
        candidates["grid_sample"] = on_pair(grid_sample)
        candidates["sampler and grid_sample"] = on_pair(eager_step)
    graphs = {name: [functools.partial(call, turn) for turn in range(calls)] for name, call in candidates.items()}
    seconds = measure_replayed(graphs, repeats=10)
    called = measure_gpu({name: functools.partial(call, 0) for name, call in candidates.items()}, repeats=10)
    bandwidth = copy_bandwidth()
    written = sum(map(touched_bytes, pairs)) / sets
    floor = written / bandwidth
    ours = {"grid_sample": "crop and paste", "sampler and grid_sample": "sample, crop and paste"}
    ratios = {
        name: value / seconds[ours[name.removesuffix(", compiled")]]
        for name, value in seconds.items()
        if name.removesuffix(", compiled") in ours
    }
    for name in candidates:
        graph = f"{seconds[name] * 1e6:9.1f}" if name in seconds else f"{'-':>9}"
        print(f"B={batch} {name:34} {graph} us in a graph, {called[name] * 1e6:9.1f} us called")
    for name, value in ratios.items():
        print(f"B={batch} {name} takes {value:.1f} times as long as ours, in a graph")
    print(
        f"B={batch} floor {floor * 1e6:.1f} us: {written / 1e6:.2f} MB at {bandwidth / 1e12:.2f} TB/s; "
        f"crop and paste takes {seconds['crop and paste'] / floor:.1f} times as long"
    )
    if alone:
        return
    result = {"seconds": seconds, "seconds_called": called, "ratios": ratios, "floor_seconds": floor}
    stem = "paste_compiled" if is_compiled else "paste"
    traffic = {"bytes_written": written, "copy_bytes_a_second": bandwidth}
    print("written:", write_result(f"cuda/{stem}", {"batch": batch, **result, **traffic}))


def on_cpu() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    singles = [Pair(1, seed) for seed in range(16)]
    batch = Pair(32, seed=32)
    kept = [torch.empty_like(clip) for clip in batch.clips]

    def operator_onto_kept(pair: Pair) -> None:
        copies = [copy[: len(clip)].copy_(clip) for copy, clip in zip(kept, pair.clips, strict=True)]
        paste_tubelets_(copies, pair.crop(), *pair.geometry)

    # Single pairs differ a lot in area, so that a number of them is timed together, one call a pair.
    workloads = {
        "B=1, warm": [pair for pair in singles[:8] for _ in range(8)],
        "B=1": singles,
        "B=32": [batch],
    }
    peers: dict[str, Callable[[Pair], None]] = {
        "operator": operator,
        "operator, fresh copies": operator_copying,
        "operator, kept copies": operator_onto_kept,
        "best opencv": best_opencv,
        "numpy and opencv": numpy_opencv,
        "grid_sample": grid_sample,
    }
    report: dict[str, object] = {
        "mean_difference_of_painted_pixels": {
            name: difference(batch, peers[name]) for name in ("best opencv", "numpy and opencv", "grid_sample")
        }
    }
    for name, pairs in workloads.items():
        count = sum(pair.clips[0].shape[0] for pair in pairs)
        timed = {peer: call for peer, call in peers.items() if name == "B=32" or peer != "grid_sample"}
        candidates = {
            peer: (lambda call=call, pairs=pairs: [call(pair) for pair in pairs]) for peer, call in timed.items()
        }
        per_pair = {
            peer: value / count * 1e6 for peer, value in measure(candidates, repeats=7, clock=time.thread_time).items()
        }
        ratios = {peer: value / per_pair["operator"] for peer, value in per_pair.items()}
        report[name] = {"microseconds_a_pair": per_pair, "times_operator": ratios}
        for peer in timed:
            print(f"{name:10} {peer:24} {per_pair[peer]:9.1f} us a pair  {ratios[peer]:6.1f} x the operator")
    print(write_result("paste", report))


def main() -> None:
    parser = device_parser(__doc__)
    parser.add_argument("--alone", action="store_true", help="on a GPU: without peers, and writes no file")
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        on_gpu(arguments.compiled, arguments.alone)
    else:
        on_cpu()


if __name__ == "__main__":
    main()
