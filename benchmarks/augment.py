"""From decoded bytes to network input: window, antialiased resize, flip, colour jitter, normalisation, one CPU thread.

Clips are 16 x 256 x 340 (as Kinetics is often kept) or 16 x 128 x 171 bytes, channels last; windows cover 30 to 100 %
of them, and 16 x 112 x 112 floats come out, channels last. Candidates, each as fast as we could write it:

- operator: AugmentClips, into fresh memory as all others, or into a kept batch.
- torch: interpolate(antialias=True) of bytes, which has vector code of its own, and all colours as one affine map, a
  product with a block diagonal matrix a clip, eight pixels a row: as fast as torch does it, as the trainer found.
- opencv: cv2.resize frame by frame, INTER_AREA where it shrinks (its only antialiasing) and INTER_LINEAR where it does
  not; then the same affine map by cv2.transform.
- kornia: VideoSequential, and albumentations: Compose on `images`, where it is installed, as their pages show it, with
  their own draws from the same law.

Operator, torch and opencv draw with the operator, and do the same to the same clips; the report says how far their
results lie apart. All on one thread, timed by its processor time, which leaves out what else the machine does.
`augment_loader.py` looks at the same in a loader, with decoding and with a training step.

The floor is writing the floats, 2.4 MB a clip.

Run: python benchmarks/augment.py

With `--device cuda`: 64 clips of 16 x 128 x 171 at a time, replayed as CUDA graphs over batches too many for the cache,
beside torch's interpolate and affine map, eager or (`--compiled`) compiled. Those get one window for a whole batch, so
that a call or two suffice; the operator has another for each clip. The floor is the memory: windows read and results
written, once, at the speed of a device copy measured in the same run.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from harness import copy_bandwidth, device_parser, measure, measure_gpu, measure_replayed, write_result
from torch import Tensor
from torch.nn.functional import interpolate

from tubeletx import AugmentClips, AugmentConfig, TubeletConfig
from tubeletx.augment import Augmentation
from tubeletx.ops import augment_clips_

FRAMES, SIDE, BATCH = 16, 112, 4
SOURCES = {"256 x 340": (256, 340), "128 x 171": (128, 171)}
CONFIG = AugmentConfig(area=(0.3, 1))
# Clips a call, batches that a CUDA graph goes through, and calls in it.
GPU_BATCH, GPU_SETS, GPU_CALLS = 64, 3, 6

_PIXELS_A_ROW = 8
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=torch.float64)
_FROM_YIQ = torch.linalg.inv(_TO_YIQ)


def noise(batch: int, height: int, width: int) -> Tensor:
    """Clips (B, 3, T, H, W), channels last, with the smoothness of pictures."""
    coarse = torch.randint(256, (batch * FRAMES, 3, height // 8, width // 8), dtype=torch.uint8)
    clips = interpolate(coarse, (height, width), mode="bilinear", antialias=True).view(batch, FRAMES, 3, height, width)
    return clips.permute(0, 1, 3, 4, 2).contiguous().permute(0, 4, 1, 2, 3)


def color_map(factors: Tensor, mean_grey: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 4) factors and (B,) grey to the affine maps of bytes: (B, 3, 3) and (B, 3)."""
    brightness, contrast, saturation, hue = factors.unbind(-1)
    to_yiq, from_yiq = (matrix.to(factors) for matrix in (_TO_YIQ, _FROM_YIQ))
    mean, std = (torch.tensor(values).to(factors) for values in (CONFIG.mean, CONFIG.std))
    angle = 2 * torch.pi * hue
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], -1).view(-1, 3, 3)
    saturate = saturation[:, None, None] * torch.eye(3).to(factors)
    saturate = saturate + (1 - saturation)[:, None, None] * to_yiq[0].expand(3, 3)
    linear = from_yiq @ turn @ to_yiq @ saturate * (brightness * contrast / 255)[:, None, None]
    offset = ((1 - contrast) * brightness * mean_grey / 255)[:, None]
    return linear / std[:, None], (offset - mean) / std


def with_torch(clips: Tensor, drawn: Augmentation) -> Tensor:
    """Clip by clip."""
    batch = clips.shape[0]
    out = clips.new_empty((batch, FRAMES * SIDE * SIDE // _PIXELS_A_ROW, 3 * _PIXELS_A_ROW), dtype=torch.float32)
    luma = torch.tensor([0.299, 0.587, 0.114])
    for index in range(batch):
        x0, y0, x1, y1 = drawn.windows[index, 0].tolist()
        window = clips[index, :, :, y0:y1, x0:x1].transpose(0, 1)
        shown = interpolate(window, (SIDE, SIDE), mode="bilinear", antialias=True)
        if drawn.flips[index, 0]:
            shown = shown.flip(3)
        rows = shown.permute(0, 2, 3, 1).reshape(-1, 3 * _PIXELS_A_ROW).float()
        linear, offset = color_map(drawn.color[index], (shown.float().mean((0, 2, 3)) @ luma)[None])
        weight = torch.block_diag(*[linear[0].T] * _PIXELS_A_ROW)  # type: ignore[no-untyped-call]
        torch.addmm(offset[0].repeat(_PIXELS_A_ROW), rows, weight, out=out[index])
    return out.view(batch, FRAMES, SIDE, SIDE, 3).permute(0, 4, 1, 2, 3)


def with_opencv(clips: Tensor, drawn: Augmentation) -> Tensor:
    """Frame by frame."""
    batch = clips.shape[0]
    out = np.empty((batch, FRAMES, SIDE, SIDE, 3), np.float32)
    shown = np.empty((FRAMES, SIDE, SIDE, 3), np.uint8)
    frames = clips.permute(0, 2, 3, 4, 1).numpy()
    for index in range(batch):
        x0, y0, x1, y1 = drawn.windows[index, 0].tolist()
        kind = cv2.INTER_AREA if x1 - x0 > SIDE or y1 - y0 > SIDE else cv2.INTER_LINEAR
        for t in range(FRAMES):
            cv2.resize(frames[index, t, y0:y1, x0:x1], (SIDE, SIDE), dst=shown[t], interpolation=kind)
            if drawn.flips[index, 0]:
                cv2.flip(shown[t], 1, dst=shown[t])
        pixels = shown.reshape(-1, SIDE, 3)
        grey = np.dot(cv2.mean(pixels)[:3], [0.299, 0.587, 0.114])
        linear, offset = color_map(drawn.color[index].double(), torch.tensor([grey]))
        matrix = torch.cat([linear[0], offset[0, :, None]], 1).numpy()
        cv2.transform(pixels.astype(np.float32), matrix, dst=out[index].reshape(-1, SIDE, 3))
    return torch.from_numpy(out).permute(0, 4, 1, 2, 3)


def kornia_pipeline() -> Callable[[Tensor], Tensor]:
    kornia: Any = importlib.import_module("kornia.augmentation")  # a GPU machine may lack it
    jitter = (CONFIG.brightness, CONFIG.contrast, CONFIG.saturation, CONFIG.hue)
    steps = kornia.VideoSequential(
        kornia.RandomResizedCrop((SIDE, SIDE), scale=CONFIG.area, ratio=CONFIG.ratio, p=1.0),
        kornia.RandomHorizontalFlip(p=CONFIG.flip),
        kornia.ColorJitter(*jitter, p=CONFIG.jitter),
        kornia.Normalize(torch.tensor(CONFIG.mean), torch.tensor(CONFIG.std)),
        data_format="BCTHW",
        same_on_frame=True,
    )
    return lambda clips: steps(clips.float() / 255)


def albumentations_pipeline() -> Callable[[Tensor], Tensor] | None:
    try:
        library: Any = importlib.import_module("albumentations")
    except ImportError:
        return None
    steps = library.Compose(
        [
            library.RandomResizedCrop((SIDE, SIDE), scale=CONFIG.area, ratio=CONFIG.ratio, p=1.0),
            library.HorizontalFlip(p=CONFIG.flip),
            library.ColorJitter(
                (1 - CONFIG.brightness, 1 + CONFIG.brightness),
                (1 - CONFIG.contrast, 1 + CONFIG.contrast),
                (1 - CONFIG.saturation, 1 + CONFIG.saturation),
                (-CONFIG.hue, CONFIG.hue),
                p=CONFIG.jitter,
            ),
            library.Normalize(CONFIG.mean, CONFIG.std),
        ]
    )

    def augment(clips: Tensor) -> Tensor:
        frames = clips.permute(0, 2, 3, 4, 1).numpy()
        return torch.from_numpy(np.stack([steps(images=clip)["images"] for clip in frames])).permute(0, 4, 1, 2, 3)

    return augment


def on_cpu() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    report: dict[str, object] = {}
    pipelines = {"kornia": kornia_pipeline(), "albumentations": albumentations_pipeline()}
    for name, (height, width) in SOURCES.items():
        clips, ids = noise(BATCH, height, width), torch.arange(BATCH)
        augment = AugmentClips(SIDE, CONFIG, seed=1)
        half = AugmentClips(SIDE, CONFIG, seed=1, dtype=torch.bfloat16)
        (kept,), drawn = augment([clips], ids)
        candidates: dict[str, Callable[[], object]] = {
            "operator": lambda clips=clips, ids=ids, augment=augment: augment([clips], ids),
            "operator, kept": lambda clips=clips, ids=ids, augment=augment, kept=kept: augment(
                [clips], ids, out=[kept]
            ),
            "operator, bfloat16": lambda clips=clips, ids=ids, half=half: half([clips], ids),
            "torch": lambda clips=clips, drawn=drawn: with_torch(clips, drawn),
            "opencv": lambda clips=clips, drawn=drawn: with_opencv(clips, drawn),
        }
        for library, pipeline in pipelines.items():
            if pipeline is not None:
                candidates[library] = lambda clips=clips, pipeline=pipeline: pipeline(clips)
        seconds = measure(candidates, repeats=7, clock=time.thread_time)
        per_clip = {peer: value / BATCH * 1e6 for peer, value in seconds.items()}
        # Levels of a byte, from normalised floats.
        std = torch.tensor(CONFIG.std).view(3, 1, 1, 1) * 255
        difference = {
            peer: float(((call(clips, drawn) - kept) * std).abs().mean())
            for peer, call in (("torch", with_torch), ("opencv", with_opencv))
        }
        report[name] = {
            "microseconds_a_clip": per_clip,
            "times_operator": {peer: value / per_clip["operator"] for peer, value in per_clip.items()},
            "mean_difference_in_levels": difference,
        }
        for peer, value in per_clip.items():
            print(f"{name:10} {peer:20} {value:9.0f} us a clip  {value / per_clip['operator']:6.1f} x the operator")
        print(f"{name:10} mean difference in levels: {difference}")
    print(write_result("augment", report))


def torch_batch(clips: Tensor, window: tuple[int, int, int, int], factors: Tensor, dtype: torch.dtype) -> Tensor:
    """The same for a batch with one window, on a GPU."""
    x0, y0, x1, y1 = window
    batch = clips.shape[0]
    shown = clips[:, :, :, y0:y1, x0:x1].transpose(1, 2).reshape(batch * FRAMES, 3, y1 - y0, x1 - x0).float()
    shown = interpolate(shown, (SIDE, SIDE), mode="bilinear", antialias=True).view(batch, FRAMES, 3, SIDE, SIDE)
    mean = shown.mean((1, 3, 4)) @ torch.tensor([0.299, 0.587, 0.114], device=clips.device)
    linear, offset = color_map(factors, mean)
    mapped = torch.einsum("bij,btjhw->bthwi", linear, shown) + offset[:, None, None, None]
    return mapped.to(dtype).permute(0, 4, 1, 2, 3)


def on_gpu(is_compiled: bool) -> None:
    height, width = SOURCES["128 x 171"]
    sets = [noise(GPU_BATCH, height, width).cuda() for _ in range(GPU_SETS)]
    ids = torch.arange(GPU_BATCH, device="cuda")
    report: dict[str, object] = {}
    bandwidth = copy_bandwidth()
    for dtype in (torch.float32, torch.bfloat16):
        augment = AugmentClips(SIDE, CONFIG, seed=1, dtype=dtype)
        pasting = AugmentClips(SIDE, CONFIG, seed=1, dtype=dtype, tubelets=TubeletConfig())
        outs = [augment([clips], ids)[0] for clips in sets]
        drawn = augment.draw(ids, [(height, width)], FRAMES)
        sides = (drawn.windows[..., 2:] - drawn.windows[..., :2]).long()
        w, h = (int(side) for side in sides.double().mean((0, 1)))
        window = ((width - w) // 2, (height - h) // 2, (width + w) // 2, (height + h) // 2)
        in_torch = functools.partial(torch_batch, window=window, factors=drawn.color[:, 0], dtype=dtype)
        if is_compiled:
            in_torch = torch.compile(in_torch)

        def operator(turn: int, outs: Any = outs, drawn: Augmentation = drawn) -> None:
            normalization = (*CONFIG.mean, *CONFIG.std)
            where = turn % GPU_SETS
            augment_clips_(outs[where], [sets[where]], drawn.windows, drawn.flips, drawn.color, normalization)

        candidates: dict[str, Callable[[int], object]] = {
            "operator": operator,
            "drawn and augmented": lambda turn, outs=outs, augment=augment: augment(
                [sets[turn % GPU_SETS]], ids, turn, out=outs[turn % GPU_SETS]
            ),
            "with tubelets": lambda turn, outs=outs, augment=pasting: augment(
                [sets[turn % GPU_SETS]], ids, turn, out=outs[turn % GPU_SETS]
            ),
            "torch, compiled" if is_compiled else "torch": lambda turn, call=in_torch: call(sets[turn % GPU_SETS]),
        }
        graphs = {
            name: [functools.partial(call, turn) for turn in range(GPU_CALLS)] for name, call in candidates.items()
        }
        seconds = measure_replayed(graphs, repeats=8)
        called = measure_gpu(
            {name: functools.partial(call, 0) for name, call in candidates.items()}, repeats=8, calls=5
        )
        moved = 3 * FRAMES * float(sides.prod(-1).sum()) + outs[0][0].nbytes
        floor = moved / bandwidth
        for name in candidates:
            graph = f"{seconds[name] * 1e6:8.1f}" if name in seconds else f"{'-':>8}"
            print(f"{str(dtype)[6:]:9} {name:20} {graph} us in a graph, {called[name] * 1e6:8.1f} us called")
        share = floor / seconds["operator"]
        print(
            f"{str(dtype)[6:]:9} floor {floor * 1e6:.1f} us: {moved / 1e6:.0f} MB at {bandwidth / 1e12:.2f} TB/s; "
            f"the operator reaches {share:.0%} of that bandwidth"
        )
        ratios = {name: value / seconds["operator"] for name, value in seconds.items()}
        report[str(dtype)[6:]] = {
            "seconds": seconds,
            "seconds_called": called,
            "times_operator": ratios,
            "floor_seconds": floor,
            "share_of_bandwidth": share,
        }
        stem = "augment_compiled" if is_compiled else "augment"
        write_result(f"cuda/{stem}", {"batch": GPU_BATCH, "copy_bytes_a_second": bandwidth, **report})


def main() -> None:
    arguments = device_parser(__doc__).parse_args()
    if arguments.device == "cuda":
        on_gpu(arguments.compiled)
    else:
        on_cpu()


if __name__ == "__main__":
    main()
