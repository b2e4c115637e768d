"""The whole pretraining step, against the same step in the plain form, in the same run.

Plain: float32, clips and weights in PyTorch's default layout, logits written out and concatenated for the
cross-entropy, the momentum update and the optimiser a loop over parameters. Ours is what the trainer runs: the
precision that is right on this machine, channels last, queue InfoNCE, fused updates; also with float32, which tells
what is due to precision. All start from the same weights, read the same pairs and draw the same tubelets; their first
losses are compared.

With `--synthetic` the clips are drawn instead of decoded: "data" is then the copy to the device alone.

Sizes: "paper" (R(2+1)D-18, 16 x 112 x 112, queue of 16384; batch 32 on a GPU, fewer pairs on a CPU) and "demo", without
the demo's tracks, which the plain form would have to predict by our own head.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import write_result
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from tubeletx_train.common.seeding import seed_everything
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.data import EpochSampler, PairBatch, PairDataset, build_loader, prepare_videos
from tubeletx_train.engine.optimization import Optimization
from tubeletx_train.engine.task import checked_samples
from tubeletx_train.pretrain.build import build_moco, channels_last
from tubeletx_train.pretrain.views import PairViews

# Name: recipe, pairs a step on a CPU, rounds on a CPU.
SIZES = {"paper": ("pretrain/mini_kinetics", 2, 3), "demo": ("demo", 64, 10)}
GPU_ROUNDS = 20
NUM_VIDEOS = 8
PARTS = ("data", "views", "momentum", "forward", "backward", "optimiser", "enqueue")


class Clock:
    """Adds up the seconds of the parts of a step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def now(self) -> float:
        """Seconds, once the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is inside as a part."""
        since = self.now()
        yield
        self.seconds[name] += self.now() - since


class Form(ABC):
    """A way to run the step of a configuration."""

    def __init__(self, config: PretrainConfig, batches: Iterator[PairBatch], device: torch.device) -> None:
        self.config = config
        self.batches = batches
        self.device = device
        self.clock = Clock(device)
        seed_everything(config.run.seed)
        self.moco = build_moco(config).to(device).train()
        self.views = PairViews(config.contrast, config.tubelets, config.color, seed=config.run.seed).to(device)

    def __call__(self) -> tuple[dict[str, float], float]:
        """One step: seconds of its parts and of all, and the loss."""
        clock = self.clock
        clock.seconds.clear()
        since = clock.now()
        with clock.part("data"):
            batch = next(self.batches).to(self.device)
        with clock.part("views"):
            query, key = self._look(batch)
        with clock.part("momentum"):
            self._update_key_net()
        with clock.part("forward"):
            loss, keys = self._compare(query, key)
        with clock.part("backward"):
            self._backward(loss)
        with clock.part("optimiser"):
            self._update()
        with clock.part("enqueue"):
            self._enqueue(keys)
        return {**{part: clock.seconds[part] for part in PARTS}, "step": clock.now() - since}, loss.item()

    @abstractmethod
    def _look(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """The two clips of every pair, as the network takes them."""

    @abstractmethod
    def _update_key_net(self) -> None:
        """Move the key network."""

    @abstractmethod
    def _compare(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss, and the keys."""

    @abstractmethod
    def _backward(self, loss: Tensor) -> None:
        """Make the gradient."""

    @abstractmethod
    def _update(self) -> None:
        """Clip and update the query network."""

    @abstractmethod
    def _enqueue(self, keys: Tensor) -> None:
        """Put keys into the queue."""


class Ours(Form):
    """As the trainer runs it."""

    def __init__(self, config: PretrainConfig, batches: Iterator[PairBatch], device: torch.device) -> None:
        super().__init__(config, batches, device)
        channels_last(self.moco)
        self.optimization = Optimization(
            self.moco.query_net, config.optim, total_steps=1000, steps_per_epoch=1000, device=device
        )
        first = next(self.batches)
        self.batches = itertools.chain([first], self.batches)
        rows = self.views(first.to(device)).rows(slice(checked_samples(config.optim.batch_size)))
        self.optimization.settle_precision(self.moco, lambda: lambda: self.moco.compare(*rows).loss.mean())

    def _look(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        views = self.views(batch)
        return views.query, views.key

    def _update_key_net(self) -> None:
        self.moco.update_key_net()

    def _compare(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        with self.optimization.autocast():
            output = self.moco.compare(query, key)
        return output.loss.mean(), output.key

    def _backward(self, loss: Tensor) -> None:
        self.optimization.backward(loss)

    def _update(self) -> None:
        self.optimization.step()

    def _enqueue(self, keys: Tensor) -> None:
        self.moco.enqueue(keys)


class Plain(Form):
    """What one writes first."""

    def __init__(self, config: PretrainConfig, batches: Iterator[PairBatch], device: torch.device) -> None:
        super().__init__(config, batches, device)
        optim = config.optim
        parameters = self.moco.query_net.parameters()
        self.optimizer: torch.optim.Optimizer
        if optim.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(
                parameters, optim.lr, optim.momentum, weight_decay=optim.weight_decay, foreach=False
            )
        else:
            betas = (optim.momentum, 0.999)
            self.optimizer = torch.optim.AdamW(
                parameters, optim.lr, betas, weight_decay=optim.weight_decay, foreach=False
            )
        self.queue = self.moco.contrast.queue.T.contiguous()
        self.pointer = 0

    def _look(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        views = self.views(batch)
        return views.query.contiguous(), views.key.contiguous()

    def _update_key_net(self) -> None:
        momentum = self.config.contrast.momentum
        with torch.no_grad():
            for key, query in zip(self.moco.key_net.parameters(), self.moco.query_net.parameters(), strict=True):
                key.data = key.data * momentum + query.data * (1 - momentum)

    def _compare(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        queries = self.moco.query_net(query)
        with torch.no_grad():
            keys = self.moco.key_net(key)
        logits = [torch.einsum("nc,nc->n", queries, keys)[:, None]]
        if self.config.contrast.queue_size:
            logits.append(torch.einsum("nc,ck->nk", queries, self.queue.clone()))
        if self.config.contrast.batch_negatives:
            own = torch.eye(len(keys), dtype=torch.bool, device=keys.device)
            logits.append((queries @ keys.T).masked_fill(own, float("-inf")))
        scores = torch.cat(logits, 1) / self.config.contrast.temperature
        target = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
        return F.cross_entropy(scores, target), keys

    def _backward(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()

    def _update(self) -> None:
        if self.config.optim.clip_norm is not None:
            clip_grad_norm_(self.moco.query_net.parameters(), self.config.optim.clip_norm, foreach=False)
        self.optimizer.step()

    def _enqueue(self, keys: Tensor) -> None:
        size = self.queue.shape[1]
        if size:
            self.queue[:, self.pointer : self.pointer + len(keys)] = keys.T
            self.pointer = (self.pointer + len(keys)) % size


def make_videos(folder: Path) -> None:
    """Videos of Kinetics' usual size, ten seconds each."""
    import imageio_ffmpeg  # large, and of no use with drawn clips

    for index in range(NUM_VIDEOS):
        source = f"testsrc2=size=340x256:rate=25:duration=10,hue=h={40 * index}"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", source]
        subprocess.run([*command, "-pix_fmt", "yuv420p", str(folder / f"{index}.mp4")], check=True)


def decoded(config: PretrainConfig, pin_memory: bool) -> Iterator[PairBatch]:
    """Batches as the trainer reads them."""
    with tempfile.TemporaryDirectory() as folder:
        videos, _ = prepare_videos(config.data, index=Path(folder) / "videos.json")
    dataset = PairDataset(videos, config.data, seed=config.run.seed, mode=config.contrast.mode)
    sampler = EpochSampler(len(dataset), config.optim.batch_size, seed=config.run.seed, stop=1000)
    return iter(build_loader(dataset, sampler, pin_memory=pin_memory))


def drawn(config: PretrainConfig, pin_memory: bool, different: int = 4) -> Iterator[PairBatch]:
    """Batches of noise in the layout of decoded ones, over and over."""
    generator = torch.Generator().manual_seed(config.run.seed)
    batch, side = config.optim.batch_size, config.data.crop_size

    def clip() -> Tensor:
        pixels = (batch, config.data.num_frames, side, side, 3)
        return torch.randint(0, 256, pixels, dtype=torch.uint8, generator=generator).permute(0, 4, 1, 2, 3)

    batches = []
    for turn in range(different):
        ids = torch.arange(batch) + turn * batch
        pairs = PairBatch(clip(), clip(), sample_ids=ids, epoch=0, sources=torch.stack([ids, ids + 1], 1), bad=[])
        batches.append(pairs.pin_memory() if pin_memory else pairs)
    return itertools.cycle(batches)


def compare(name: str, videos: Path, arguments: argparse.Namespace) -> dict[str, object]:
    recipe, batch, rounds = SIZES[name]
    device = torch.device(arguments.device)
    if device.type == "cuda":
        batch, rounds = (batch if name == "demo" else 32), GPU_ROUNDS
    rounds = arguments.rounds or rounds
    configure = functools.partial(configuration, recipe, videos, arguments.batch or batch, arguments)
    config = configure("float32")
    read = functools.partial(drawn if arguments.synthetic else decoded, config, device.type == "cuda")
    forms: dict[str, Form] = {
        "plain": Plain(config, read(), device),
        "tubeletx, float32": Ours(config, read(), device),
        "tubeletx": (ours := Ours(configure("auto"), read(), device)),
    }
    taken: dict[str, list[dict[str, float]]] = {form: [] for form in forms}
    for turn in range(rounds + 1):
        losses = {}
        for form, step in forms.items():
            seconds, losses[form] = step()
            if turn:
                taken[form].append(seconds)
        if turn == 0:
            for loss in losses.values():
                assert abs(loss - losses["plain"]) < 0.03 * losses["plain"], losses
    medians = {
        form: {part: statistics.median(step[part] for step in steps) for part in (*PARTS, "step")}
        for form, steps in taken.items()
    }
    return report(name, config.optim.batch_size, rounds, medians) | {"precision": str(ours.optimization.settled)}


def configuration(
    recipe: str, videos: Path, batch: int, arguments: argparse.Namespace, precision: str
) -> PretrainConfig:
    options = {
        "data.videos": videos,
        "data.samples_per_video": 64,
        "data.num_workers": arguments.workers,
        "optim.batch_size": batch,
        "optim.precision": precision,
        "tracks.weight": 0,
    }
    return parse_config(
        PretrainConfig,
        ["--config", recipe, *(f"--{name}={value}" for name, value in options.items())],
        prog="benchmark",
    )


def report(name: str, batch: int, rounds: int, seconds: dict[str, dict[str, float]]) -> dict[str, object]:
    print(f"{name}, {batch} pairs a step, median of {rounds} steps")
    print(f"  {'ms':10}" + "".join(f"{form:>20}" for form in seconds))
    for part in (*PARTS, "step"):
        print(f"  {part:10}" + "".join(f"{1e3 * parts[part]:20.1f}" for parts in seconds.values()))
    speed = {form: batch / parts["step"] for form, parts in seconds.items()}
    ratio = {form: value / speed["plain"] for form, value in speed.items()}
    share = seconds["tubeletx"]["views"] / seconds["tubeletx"]["step"]
    print("  pairs/s   " + "".join(f"{value:20.3f}" for value in speed.values()))
    print("  to plain  " + "".join(f"{value:20.2f}" for value in ratio.values()))
    print(f"  tubelets, colours and normalisation are {100 * share:.2f} % of our step")
    return {
        "size": name,
        "batch": batch,
        "rounds": rounds,
        "seconds": seconds,
        "pairs_per_second": speed,
        "ratio_to_plain": ratio,
        "share_of_views": share,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, help="decoding processes: none on a CPU, 8 for a GPU, unless given")
    parser.add_argument("--synthetic", action="store_true", help="draw the clips instead of decoding videos")
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=list(SIZES))
    parser.add_argument("--batch", type=int, help="pairs a step, at every size")
    parser.add_argument("--rounds", type=int, help="timed steps of each form")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.workers is None:
        arguments.workers = 8 if arguments.device == "cuda" else 0
    stem = "train_step" if arguments.device == "cpu" else "cuda/train_step"
    results = []
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.synthetic:
            make_videos(Path(folder))
        for name in arguments.sizes:
            results.append(compare(name, Path(folder), arguments))
            record = {"device": arguments.device, "synthetic": arguments.synthetic, "results": results}
            written = write_result(stem, record)
    print("written:", written)


if __name__ == "__main__":
    main()
