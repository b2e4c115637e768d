"""Time to draw tubelets and to smooth paths, on one CPU thread, against NumPy and SciPy pipelines of the same work.

Where the floor lies: a non-linear tubelet of the paper draws 48 points (24 Philox blocks of 10 rounds) and smooths them
with 49 taps on two axes, 48 * 25 * 2 = 2400 products and twice as many sums in double: 7200 operations, 0.4 us
at 20 a nanosecond (one AVX-512 instruction a cycle at 2.5 GHz). The poses of 16 frames need 16 sines and cosines, some
500 operations. The share of a pair that the sampler may take is about 10 us of 100. A single call is bound
by the host instead: a dispatch with 65 settings and two new tensors.

With `--device cuda`: the sampler on a GPU, replayed as CUDA graphs, beside the same law in batched torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from harness import device_parser, measure, measure_gpu, measure_replayed, write_result
from scipy.ndimage import gaussian_filter1d

from tubeletx.config import TubeletConfig
from tubeletx.ops.interpolate_keyframes import interpolate_keyframes
from tubeletx.ops.smooth_path import smooth_path
from tubeletx.sampler import TubeletSampler

FRAMES, SIDE, BATCH, REPEATS, CALLS = 16, 112, 32, 50, 20
CLIP = {"num_frames": FRAMES, "height": SIDE, "width": SIDE}


def numpy_tubelet(generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    """One tubelet by the law of preset `paper`, written the usual way."""
    width, height = generator.integers(16, 65, 2)
    points = generator.uniform(0, SIDE, (48, 2))
    path = gaussian_filter1d(points, 6, axis=0, mode="reflect")
    low = path.min(axis=0)
    path = (path - low) / (path.max(axis=0) - low)
    extent = generator.uniform(20, 90)
    path = path * extent + generator.uniform(0, SIDE - extent, 2)
    centers = path[np.round(np.linspace(0, 47, FRAMES)).astype(int)]
    keys = [0, generator.integers(1, FRAMES - 1), FRAMES - 1]
    angle = np.deg2rad(np.interp(np.arange(FRAMES), keys, [0, *generator.uniform(-90, 90, 2)]))
    cosine, sine = np.cos(angle), np.sin(angle)
    linear = np.stack((cosine, -sine, sine, cosine), axis=-1).reshape(FRAMES, 2, 2)
    shape = generator.choice(3, p=(0.5, 0.35, 0.15))
    left, top = generator.integers(0, SIDE - width + 1), generator.integers(0, SIDE - height + 1)
    box = np.array([left, top, left + width, top + height])
    return centers, linear, box, shape, generator.integers(FRAMES)


def torch_tubelets(batch: int, device: str) -> tuple[torch.Tensor, ...]:
    """Two tubelets a sample by the law of preset `paper`, batched, in plain torch."""
    each = (batch, 2)
    sides = torch.randint(16, 65, (*each, 2), device=device)
    offsets = torch.arange(-24, 25, device=device)
    taps = torch.exp(-0.5 * (offsets / 6.0) ** 2)
    points = torch.rand(2 * 2 * batch, 1, 48, device=device) * SIDE
    padded = torch.cat((points[..., :24].flip(-1), points, points[..., -24:].flip(-1)), dim=-1)
    path = torch.nn.functional.conv1d(padded, (taps / taps.sum())[None, None]).view(*each, 2, 48)
    low, high = path.aminmax(dim=-1, keepdim=True)
    extent = torch.rand(*each, 1, 1, device=device) * 70 + 20
    start = torch.rand(*each, 2, 1, device=device) * (SIDE - extent)
    chosen = torch.linspace(0, 47, FRAMES, device=device).round().long()
    centers = ((path - low) / (high - low) * extent + start)[..., chosen].mT
    middle = torch.randint(1, FRAMES - 1, (*each, 1), device=device)
    angles = torch.rand(*each, 2, device=device) * torch.pi - torch.pi / 2
    time = torch.arange(FRAMES, device=device)
    first = angles[..., :1] * (time / middle)
    second = angles[..., :1] + (angles[..., 1:] - angles[..., :1]) * ((time - middle) / (FRAMES - 1 - middle))
    angle = torch.where(time < middle, first, second)
    cosine, sine = angle.cos(), angle.sin()
    linear = torch.stack((cosine, -sine, sine, cosine), dim=-1).view(*each, FRAMES, 2, 2)
    uniform = torch.rand(each, device=device)
    shape = (uniform >= 0.5).int() + (uniform >= 0.85).int()
    corner = (torch.rand(*each, 2, device=device) * (SIDE + 1 - sides)).long()
    box = torch.cat((corner, corner + sides), dim=-1).int()
    frame = torch.randint(0, FRAMES, each, device=device, dtype=torch.int32)
    order = sides.prod(-1).argsort(dim=-1, descending=True).argsort(dim=-1).int()
    opacity = torch.ones(*each, FRAMES, device=device)
    return centers, linear, frame, box, shape, torch.zeros(each, device=device), opacity, order


def on_gpu(is_compiled: bool) -> None:
    peer = "compiled" if is_compiled else "eager"
    step = torch.compile(torch_tubelets) if is_compiled else torch_tubelets
    stem = "sample_compiled" if is_compiled else "sample"
    samplers = {name: TubeletSampler(TubeletConfig.preset(name)) for name in ("paper", "released", "smile")}
    report = {}
    for batch in (1, BATCH, 1024):
        ids = torch.arange(batch, device="cuda")
        candidates: dict[str, Callable[[], object]] = {
            name: functools.partial(sampler, ids, **CLIP) for name, sampler in samplers.items()
        }
        candidates[peer] = functools.partial(step, batch, "cuda")
        seconds = measure_replayed({name: [call] * CALLS for name, call in candidates.items()}, repeats=10)
        called = measure_gpu(candidates, repeats=10)
        ratios = {"called": called[peer] / called["paper"]}
        if peer in seconds:
            ratios["in a graph"] = seconds[peer] / seconds["paper"]
        times = ", ".join(f"{name} {value * 1e6:.1f}" for name, value in seconds.items())
        print(f"B={batch}: us in a graph: {times}")
        print(f"B={batch}: {peer} / ours: " + ", ".join(f"{value:.1f} {name}" for name, value in ratios.items()))
        report[str(batch)] = {"seconds": seconds, "seconds_called": called, "ratios": ratios}
        written = write_result(f"cuda/{stem}", {"batches": report})
    print("written:", written)


def often(call: Callable[[], object]) -> Callable[[], object]:
    """The call CALLS times over, since most are too short to time once."""

    def repeated() -> None:
        for _ in range(CALLS):
            call()

    return repeated


def numpy_batch() -> list[tuple[np.ndarray, ...]]:
    generator = np.random.default_rng(0)
    return [numpy_tubelet(generator) for _ in range(2 * BATCH)]


def on_cpu() -> None:
    torch.set_num_threads(1)
    one, many = torch.arange(1), torch.arange(BATCH)
    samplers = {name: TubeletSampler(TubeletConfig.preset(name)) for name in ("paper", "released", "smile")}
    points, extent = torch.rand(2 * BATCH, 48, 2), torch.full((2 * BATCH,), 50.0)
    points_array = points.numpy()
    key_frames = torch.tensor([0, 7, 15]).repeat(2 * BATCH, 1)
    key_values = torch.rand(2 * BATCH, 3, 1)
    keys_array, values_array, every_frame = key_frames.numpy(), key_values[..., 0].numpy(), np.arange(FRAMES)

    calls: dict[str, Callable[[], object]] = {
        "torch.add": lambda: torch.add(one, one),
        **{f"{name}, batch of 1": lambda s=s: s(one, **CLIP) for name, s in samplers.items()},
        **{f"{name}, batch of {BATCH}": lambda s=s: s(many, **CLIP) for name, s in samplers.items()},
        "smooth_path": lambda: smooth_path(points, 6, extent, num_frames=FRAMES),
        "smooth_path, scipy": lambda: gaussian_filter1d(points_array, 6, axis=1, mode="reflect"),
        "interpolate_keyframes": lambda: interpolate_keyframes(key_frames, key_values, num_frames=FRAMES),
        "interpolate_keyframes, numpy": lambda: [
            np.interp(every_frame, keys, values) for keys, values in zip(keys_array, values_array, strict=True)
        ],
        f"numpy, batch of {BATCH}": numpy_batch,
    }
    seconds = measure({name: often(call) for name, call in calls.items()}, REPEATS)
    seconds = {name: value / CALLS for name, value in seconds.items()}
    batch = f"batch of {BATCH}"
    ratios = {
        "numpy / ours": seconds[f"numpy, {batch}"] / seconds[f"paper, {batch}"],
        "one call / torch.add": seconds["paper, batch of 1"] / seconds["torch.add"],
        "smooth_path: scipy / ours": seconds["smooth_path, scipy"] / seconds["smooth_path"],
        "interpolate_keyframes: numpy / ours": seconds["interpolate_keyframes, numpy"]
        / seconds["interpolate_keyframes"],
    }
    per_tubelet = {name: seconds[f"{name}, {batch}"] / (2 * BATCH) * 1e6 for name in samplers}
    width = max(map(len, [*seconds, *ratios]))
    for name, value in seconds.items():
        print(f"{name:{width}} {value * 1e6:10.1f} us")
    for name, value in per_tubelet.items():
        print(f"{f'{name}, a tubelet':{width}} {value:10.2f} us")
    for name, value in ratios.items():
        print(f"{name:{width}} {value:10.1f} x")
    print(write_result("sample", {"seconds": seconds, "microseconds_per_tubelet": per_tubelet, "ratios": ratios}))


def main() -> None:
    arguments = device_parser(__doc__).parse_args()
    if arguments.device == "cuda":
        on_gpu(arguments.compiled)
    else:
        on_cpu()


if __name__ == "__main__":
    main()
