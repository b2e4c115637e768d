"""From bytes to network input in four layers: a transform, in a loader, with decoding, with a training step.

What `augment.py` does to a clip (window, antialiased resize, flip, colour jitter, normalisation: 16 x 112 x 112 floats)
is done here for batches of eight (of two with a step on a CPU) by one worker of a loader, and timed where it is used:

- loader: clips of 16 x 256 x 340 bytes lie in memory; the worker augments them, the main process takes the batches.
- decoding: the worker decodes each clip first, by PyAV, from H.264 of 340 x 256.
- training step: besides, the main process takes a step (forward, backward, SGD) with R(2+1)D-18.

Candidates: the operator as its example shows it (`examples/augment.py`: one call a batch, in memory that
`KeptMemoryLoader` keeps); the operator, and torch, OpenCV, AlbumentationsX and kornia, each as fast as `augment.py` has
them, clip by clip in torch's DataLoader as it is commonly used; and torch's in our loader, which tells what is due to
it. torchvision's `v2` is torch's `interpolate` for its resize, and has no build for this torch.

Times are those of all processors together, of worker and main process: what one core gives. They leave out what else
the machine does, and waiting. With `--device cuda` batches are pinned and copied, and the operator also runs on the
GPU, fed with decoded bytes; times are then those on the wall. The step is in bfloat16.

Run: python benchmarks/augment_loader.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import augment as transforms
import cv2
import numpy as np
import torch
from harness import RESULTS, device_parser, write_result
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tubeletx import AugmentClips, KeptMemoryLoader

FRAMES, SIDE = transforms.FRAMES, transforms.SIDE
HEIGHT, WIDTH = 256, 340
NUM_CLIPS = 4
BATCH, GPU_BATCHES = 8, 12


@dataclass(frozen=True)
class Layer:
    """How much of it is timed on a CPU, and beside whom; kornia takes its time."""

    batch: int
    batches: int
    rounds: int
    peers: tuple[str, ...]


LAYERS = {
    "loader": Layer(BATCH, 3, 5, ("torch", "opencv", "albumentations", "kornia")),
    "decoding": Layer(BATCH, 3, 5, ("torch", "opencv", "albumentations")),
    "training step": Layer(2, 1, 12, ("torch",)),
}


class Clips(Dataset[tuple[int, Tensor]]):
    """Clips (T, H, W, 3) from memory or from videos; augmented one by one where a transform is given."""

    def __init__(self, source: Tensor | list[str], length: int, transform: Callable[[int, Tensor], Tensor] | None):
        self.source, self.length, self.transform = source, length, transform

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        one = self.source[index % len(self.source)]
        clip = decode(one) if isinstance(one, str) else one
        return index, clip if self.transform is None else self.transform(index, clip)


def decode(path: str) -> Tensor:
    """The first frames of a video."""
    import av  # a GPU machine may lack it

    with av.open(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in itertools.islice(container.decode(video=0), FRAMES)]
    return torch.from_numpy(np.stack(frames))


def make_videos(folder: pathlib.Path) -> list[str]:
    """Videos of Kinetics' usual size, a second each."""
    import imageio_ffmpeg

    paths = []
    for index in range(NUM_CLIPS):
        source = f"testsrc2=size={WIDTH}x{HEIGHT}:rate=25:duration=1,hue=h={40 * index}"
        paths.append(str(folder / f"{index}.mp4"))
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", source]
        subprocess.run([*command, "-pix_fmt", "yuv420p", paths[-1]], check=True)
    return paths


class OneByOne:
    """A transform of one clip as a peer has it."""

    def __init__(self, how: str) -> None:
        self.augment = AugmentClips(SIDE, transforms.CONFIG, seed=1, layout="BTHWC")
        self.how = how
        self.pipeline = getattr(transforms, f"{how}_pipeline", lambda: None)()

    def __call__(self, index: int, clip: Tensor) -> Tensor:
        """(T, H, W, 3) to (T, S, S, 3) floats, dense: the memory order of channels_last_3d."""
        ids, batch = torch.tensor([index]), clip[None]
        if self.how == "operator":
            (out,), _ = self.augment([batch], ids)
        elif self.pipeline is not None:
            out = self.pipeline(batch.permute(0, 4, 1, 2, 3))
        else:
            drawn = self.augment.draw(ids, [(clip.shape[1], clip.shape[2])], FRAMES)
            call = transforms.with_torch if self.how == "torch" else transforms.with_opencv
            out = call(batch.permute(0, 4, 1, 2, 3), drawn)
        return out[0].permute(1, 2, 3, 0).contiguous()


class InKeptMemory:
    """The operator for a batch, in the memory that the worker hands over."""

    def __init__(self) -> None:
        self.augment = AugmentClips(SIDE, transforms.CONFIG, seed=1, layout="BTHWC")

    def __call__(self, samples: list[tuple[int, Tensor]]) -> tuple[Tensor, Tensor]:
        """Like torch's collate function: ids, and (B, T, S, S, 3)."""
        ids, clips = zip(*samples, strict=True)
        out = KeptMemoryLoader.empty((len(ids), FRAMES, SIDE, SIDE, 3))
        self.augment([clips], torch.tensor(ids), out=[out.permute(0, 4, 1, 2, 3)])
        return torch.tensor(ids), out


def one_thread(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def loaders(
    source: Tensor | list[str], length: int, batch: int, peers: tuple[str, ...], device: torch.device
) -> dict[str, DataLoader[Any]]:
    common: dict[str, Any] = {
        "batch_size": batch,
        "num_workers": 1,
        "persistent_workers": True,
        "worker_init_fn": one_thread,
        "pin_memory": device.type == "cuda",
    }
    found: dict[str, DataLoader[Any]] = {
        "operator": KeptMemoryLoader(Clips(source, length, None), collate_fn=InKeptMemory(), **common)
    }
    for how in ("operator", *peers):
        try:
            transform = OneByOne(how)
        except ImportError:
            continue
        if how == "albumentations" and transform.pipeline is None:
            continue
        name = "operator, torch's loader" if how == "operator" else how
        found[name] = DataLoader(Clips(source, length, transform), **common)
        if how == "torch":
            found["torch, our loader"] = KeptMemoryLoader(Clips(source, length, transform), **common)
    if device.type == "cuda":
        found["operator on the GPU"] = KeptMemoryLoader(Clips(source, length, None), **common)
    return found


class Consumer:
    """Takes the batches of an epoch, and trains on them where there is a network."""

    def __init__(self, loader: DataLoader[Any], device: torch.device, network: torch.nn.Module | None) -> None:
        self.loader, self.device, self.network = loader, device, network
        self.augment = AugmentClips(SIDE, transforms.CONFIG, seed=1, layout="BTHWC")
        self.optimizer = None if network is None else torch.optim.SGD(network.parameters(), lr=1e-3)

    def __call__(self) -> None:
        """One epoch."""
        for ids, clips in self.loader:
            given = clips.to(self.device, non_blocking=True)
            if given.dtype == torch.uint8:
                (given,), _ = self.augment([given], ids.to(self.device))
            else:
                given = given.permute(0, 4, 1, 2, 3)
            if self.network is not None and self.optimizer is not None:
                with torch.autocast(self.device.type, torch.bfloat16):
                    loss = self.network(given).float().square().mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def processor_seconds() -> float:
    """Of this process and its children."""
    nanoseconds = 0
    for process in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
        for thread in pathlib.Path(f"/proc/{process}/task").iterdir():
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def rounds(consumers: dict[str, Consumer], count: int, clock: Callable[[], float]) -> Iterator[dict[str, float]]:
    """Seconds of an epoch of each, round by round; one before the first is not timed."""
    for number in range(count + 1):
        seconds = {}
        for name, consumer in consumers.items():
            since = clock()
            consumer()
            seconds[name] = clock() - since
        if number:
            yield seconds


def main() -> None:
    parser = device_parser(__doc__)
    parser.add_argument("--layers", nargs="+", choices=tuple(LAYERS), default=list(LAYERS), help="others stay as found")
    arguments: argparse.Namespace = parser.parse_args()
    one_thread(0)
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else processor_seconds
    stem = "cuda/augment_loader" if on_gpu else "augment_loader"
    before = RESULTS / f"{stem}.json"
    found_before = json.loads(before.read_text()) if before.exists() else {}
    report: dict[str, Any] = {layer: found_before[layer] for layer in LAYERS if layer in found_before}
    for layer in report.keys() - set(arguments.layers):
        report[layer].setdefault("measured", {key: found_before[key] for key in ("date", "commit", "versions")})
    with tempfile.TemporaryDirectory() as name:
        videos = make_videos(pathlib.Path(name)) if set(arguments.layers) - {"loader"} else []
        for layer in arguments.layers:
            plan = LAYERS[layer]
            batch, batches = (BATCH, GPU_BATCHES) if on_gpu else (plan.batch, plan.batches)
            clips = batch * batches
            in_memory = transforms.noise(NUM_CLIPS, HEIGHT, WIDTH).permute(0, 2, 3, 4, 1)
            network = None
            if layer == "training step":
                from tubeletx_train.models.build import build_encoder

                network = build_encoder("r2plus1d_18").to(device, memory_format=torch.channels_last_3d)
            found = loaders(in_memory if layer == "loader" else videos, clips, batch, plan.peers, device)
            consumers = {name: Consumer(loader, device, network) for name, loader in found.items()}
            timed = list(rounds(consumers, plan.rounds, clock))
            milliseconds = {name: statistics.median(one[name] for one in timed) / clips * 1e3 for name in consumers}
            ratios = {name: statistics.median(one[name] / one["operator"] for one in timed) for name in consumers}
            report[layer] = {"milliseconds_a_clip": milliseconds, "times_operator": ratios}
            for name, value in milliseconds.items():
                print(f"{layer:14} {name:26} {value:8.2f} ms a clip  {ratios[name]:6.2f} x the operator", flush=True)
            del consumers, found
            path = write_result(stem, report)
    print("written:", path)


if __name__ == "__main__":
    main()
