"""Whether the data of a pretraining keep up with its network: both are timed apart, before the run."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.files import writable_file, write_json
from tubeletx_train.common.limits import require_positive
from tubeletx_train.common.machine import processor_name
from tubeletx_train.config.data import ReaderName
from tubeletx_train.config.pretrain import EvaluationConfig, PretrainConfig
from tubeletx_train.data import (
    BadVideoTracker,
    DataConfig,
    DataError,
    NoUsableVideos,
    PairBatch,
    VideoError,
    VideoRecord,
    check_videos,
    load_videos,
    pair_dataset,
)
from tubeletx_train.data.bad_videos import BadVideo, name_some
from tubeletx_train.data.bank import DecodedClipDataset
from tubeletx_train.data.check import with_finding
from tubeletx_train.data.drawn import DrawnDataset
from tubeletx_train.data.readers import require_reader
from tubeletx_train.data.transcode import EXTENSION, TranscodeConfig, transcode
from tubeletx_train.engine.run import open_run
from tubeletx_train.pretrain.task import Pretraining

# What each part may take of the time: the network, the list as it is, another reader, encoding videos, reading them.
_NETWORK, _AT_HAND, _OTHER_READER, _TRANSCODING, _TIMING_TRANSCODED = 0.35, 0.2, 0.1, 0.15, 0.1
_SAMPLE = 64  # videos that are looked at
_FEWEST, _MOST_STEPS = 3, 30
_SPARE = 1.1  # workers beyond what is needed on average, as videos differ
_REUSES = (4, 16)  # shown


@dataclass(frozen=True)
class ThroughputConfig(PretrainConfig):
    """A pretraining, whose data and network are timed apart.

    Attributes:
        data: What is read and how clips are drawn.
        tubelets: How tubelets look and move.
        color: Colour augmentation.
        model: The network.
        contrast: What is contrasted with what.
        tracks: Whether tracks are predicted too.
        optim: Optimisation.
        evaluation: Has no use here.
        run: How it is run; nothing is written to its folder.
        transcoded: Manifest of the same videos as `tubeletx-train shards --transcode.short_side 128` packs them; null
            encodes some of them for the measurement.
        seconds: About how long to measure.
        findings: File for what was measured (JSON); null writes none.
    """

    transcoded: str | None = None
    seconds: float = 50.0
    findings: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "seconds")


@dataclass(frozen=True)
class Demand:
    """What the network takes.

    Attributes:
        pairs_per_second: Of training steps whose batches are there.
        pairs: Of the steps that were timed.
        precision: That they were made in.
        device: By name.
    """

    pairs_per_second: float
    pairs: int
    precision: str
    device: str


@dataclass(frozen=True)
class Supply:
    """What one core delivers in some way.

    Attributes:
        name: The way.
        pairs_per_second: Of one worker that has a core for itself.
        settings: What to set for it, beside the number of workers; empty for the settings at hand.
    """

    name: str
    pairs_per_second: float
    settings: str = ""


@dataclass(frozen=True)
class Throughput:
    """What was measured, and what follows.

    Attributes:
        demand: Of the network.
        supplies: The settings at hand, then others, the lesser change first.
        cores: That this process may use.
        num_workers: Of the settings at hand.
        advice: What to set.
    """

    demand: Demand
    supplies: list[Supply]
    cores: int
    num_workers: int
    advice: str


def measure_throughput(config: ThroughputConfig) -> Throughput:
    """Time the network's steps on drawn batches, and the ways to make batches of the videos in one process.

    Args:
        config: The pretraining.

    Raises:
        UsageError: The input cannot be used, or several processes were started.
        NoUsableVideos: Not two of the videos that were tried can be read.
    """
    if config.data.source != "videos":
        raise UsageError('data.source: got "leaves", needs "videos": drawn clips need no decoding')
    if config.findings is not None:
        writable_file(config.findings)
    videos = _sample(config.data, config.data.videos)
    demand = _demand(config, videos)
    supplies = _supplies(config, videos)
    cores = len(os.sched_getaffinity(0))
    advice = advise(demand.pairs_per_second, supplies, config.data.num_workers, cores)
    found = Throughput(demand, supplies, cores, config.data.num_workers, advice)
    if config.findings is not None:
        write_json(config.findings, dataclasses.asdict(found))
    return found


def _sample(data: DataConfig, path: str) -> list[VideoRecord]:
    """Some of a list's videos, checked."""
    records = load_videos(path, data.split)
    chosen = np.random.Generator(np.random.Philox(key=0)).permutation(len(records))[:_SAMPLE]
    good, bad = check_videos(
        records.select(np.sort(chosen)),
        reader=data.reader,
        workers=max(data.num_workers, 1),
        timeout=data.check_timeout,
    )
    if len(good) < 2 and data.segment_seconds is None:
        found = f"; unreadable:\n{name_some(bad)}" if bad else ""
        raise NoUsableVideos(f"{path}: pairs need two readable videos{found}")
    return list(good)


# ---- the network


def _demand(config: ThroughputConfig, videos: Sequence[VideoRecord]) -> Demand:
    part = config.optim.batch_size // config.optim.accumulate
    steps = config.optim.warmup_steps + 1000  # more than are taken
    with tempfile.TemporaryDirectory() as folder:
        sections = {item.name: getattr(config, item.name) for item in dataclasses.fields(PretrainConfig)}
        sections["data"] = dataclasses.replace(
            config.data, num_workers=0, reuse=1, cache_frames=False, samples_per_video=-(-part // len(videos))
        )
        sections["model"] = dataclasses.replace(config.model, init_from=None)
        sections["optim"] = dataclasses.replace(config.optim, batch_size=part, accumulate=1, steps=steps)
        sections["evaluation"] = EvaluationConfig()
        sections["run"] = dataclasses.replace(
            config.run, output=folder, resume="never", tracker="none", evaluate_every=None, evaluate_every_epochs=None
        )
        timed = PretrainConfig(**sections)
        with open_run(timed.run) as run:
            if run.ranks.world_size > 1:
                raise UsageError(
                    "throughput is measured by one process: start it without torchrun, and give optim.batch_size as "
                    "the share of one process"
                )
            task = Pretraining(timed, videos, run, BadVideoTracker(len(videos), 1.0), lambda _: {})
            seconds, pairs = _time_steps(task, part, _NETWORK * config.seconds)
            return Demand(pairs / seconds, pairs, str(task.optimization.settled), processor_name(run.device))


def _time_steps(task: Pretraining, part: int, budget: float) -> tuple[float, int]:
    """Median seconds of a step, and its pairs: all of a part, or as many as the time allows."""
    began = time.perf_counter()
    pairs = part if task.config.run.compile else min(2, part)
    task.settle_precision(_drawn_batch(task, pairs))
    task.train_step(_drawn_batch(task, pairs))
    while True:
        times = []
        for _ in range(_MOST_STEPS):
            batch = _drawn_batch(task, pairs)
            since = time.perf_counter()
            task.train_step(batch)
            times.append(time.perf_counter() - since)
            left = budget - (time.perf_counter() - began)
            if len(times) >= _FEWEST and (left < 0 or pairs < part):
                break
        larger = min(4 * pairs, part)
        expected = (_FEWEST + 1) * statistics.median(times) * larger / pairs
        if pairs == part or expected > budget - (time.perf_counter() - began):
            return statistics.median(times), pairs
        pairs = larger
        task.train_step(_drawn_batch(task, pairs))  # chooses algorithms, takes memory


def _drawn_batch(task: Pretraining, pairs: int) -> PairBatch:
    """A batch of noise, where the loader would have put it."""
    data = task.config.data
    shape = (2, pairs, data.num_frames, data.crop_size, data.crop_size, 3)
    clips = torch.randint(256, shape, dtype=torch.uint8, device=task.device).permute(0, 1, 5, 2, 3, 4)
    ids = torch.arange(pairs, device=task.device)
    return PairBatch(clips[0], clips[1], ids, epoch=0, sources=torch.stack([ids, ids], 1), bad=[])


# ---- the data


def _supplies(config: ThroughputConfig, videos: Sequence[VideoRecord]) -> list[Supply]:
    data, mode = dataclasses.replace(config.data, num_workers=0, cache_frames=False), config.contrast.mode

    def rates(records: Sequence[VideoRecord], share: float) -> tuple[float, float]:
        """Pairs decoded a second, and those of clips that a bank would take."""
        pairs, clips = pair_dataset(records, data, mode=mode), DecodedClipDataset(records, data)
        return _rate(pairs, share / 2 * config.seconds), _rate(clips, share / 2 * config.seconds) / 2

    with _one_thread(), tempfile.TemporaryDirectory() as folder:
        decoded, banked = rates(videos, _AT_HAND)
        supplies = [Supply(f"decoded by {_decoders(videos, data.reader)}", decoded, "--data.reuse 1")]
        if data.reuse > 1:
            supplies.insert(0, Supply(f"bank, reuse {data.reuse}", data.reuse * banked))
        else:
            supplies[0] = dataclasses.replace(supplies[0], settings="")
        for reader in _other_readers(videos, data.reader):
            records = [dataclasses.replace(record, reader=None) for record in videos]
            other = pair_dataset(records, dataclasses.replace(data, reader=reader), mode=mode)
            supplies.append(
                Supply(f"decoded by {reader}", _rate(other, _OTHER_READER * config.seconds), f"--data.reader {reader}")
            )
        ways = [("", banked, "")]
        records, name = _transcoded(config, videos, Path(folder))
        if records:
            decoded, banked = rates(records, _TIMING_TRANSCODED)
            packed = f"--data.videos {config.transcoded or 'SHARDS/manifest.csv'}"
            supplies.append(Supply(name, decoded, packed))
            ways.append(("transcoded, ", banked, f"{packed} "))
        supplies += [
            Supply(f"{way}bank, reuse {reuse}", reuse * rate, f"{settings}--data.reuse {reuse}")
            for way, rate, settings in ways
            for reuse in _REUSES
            if reuse != data.reuse and mode == "tubelet"
        ]
    return supplies


def _decoders(videos: Sequence[VideoRecord], reader: str) -> str:
    return " and ".join(sorted({record.reader or reader for record in videos}))


def _other_readers(videos: Sequence[VideoRecord], reader: ReaderName) -> Iterator[ReaderName]:
    """Readers that are installed, and would read otherwise than now."""
    names: tuple[ReaderName, ...] = ("decord", "pyav", "torchcodec")
    for other in names:
        if _decoders(videos, reader) == other:
            continue
        try:
            require_reader(other)
        except DataError:
            continue
        yield other


def _transcoded(config: ThroughputConfig, videos: Sequence[VideoRecord], folder: Path) -> tuple[list[VideoRecord], str]:
    """The videos encoded anew, as they are packed, or some of them encoded now; none where they are that small."""
    if config.transcoded is not None:
        return _sample(config.data, config.transcoded), "transcoded"
    short_side = config.data.decode_size or config.data.crop_size
    if all(min(record.width or 0, record.height or 0) <= short_side for record in videos):
        return [], ""
    settings = TranscodeConfig(short_side=short_side + short_side % 2)
    made: list[VideoRecord] = []
    until = time.perf_counter() + _TRANSCODING * config.seconds
    for place, record in enumerate(tqdm(videos, "transcoding some", unit="video", leave=False, disable=None)):
        if len(made) >= 2 and time.perf_counter() > until:
            break
        try:
            result = transcode(record.path, settings, record.fps, lambda: None)
        except VideoError:
            continue
        path = folder / f"{place}.{EXTENSION}"
        path.write_bytes(result.content)
        seen = with_finding(dataclasses.replace(record, path=str(path)), result.finding)
        if not isinstance(seen, BadVideo):
            made.append(seen)
    if len({record.path for record in made}) < 2:
        return [], ""
    return made, f"transcoded to {settings.short_side}, gop {settings.gop} (by {len(made)} videos)"


def _rate(dataset: DrawnDataset[Any], seconds: float) -> float:
    """Samples a second, in this process; the first loads what there is to load."""
    dataset[0, 0]
    began = time.perf_counter()
    for count in itertools.count(1):
        dataset[count // len(dataset), count % len(dataset)]
        passed = time.perf_counter() - began
        if count >= _FEWEST and passed > seconds:
            return count / passed
    raise AssertionError("unreachable")


@contextmanager
def _one_thread() -> Iterator[None]:
    """As a worker has it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# ---- what follows


def advise(demand: float, supplies: Sequence[Supply], num_workers: int, cores: int) -> str:
    """Which settings feed a network, in one line.

    Args:
        demand: Pairs a second that it takes.
        supplies: The settings at hand, then others, the lesser change first.
        num_workers: Of the settings at hand.
        cores: One of them is left to the training process.

    Returns:
        The first way that needs no more workers than there are cores for, with that number; else the best there is.
    """
    most = max(cores - 1, 1)
    at_hand = supplies[0]
    if num_workers * at_hand.pairs_per_second >= demand and num_workers <= most:
        return f"nothing to set: {num_workers} workers deliver {num_workers * at_hand.pairs_per_second:.0f} pairs/s"
    for supply in supplies:
        workers = _workers(demand, supply)
        if workers is not None and workers <= most:
            return f"set {supply.settings} --data.num_workers {workers}".replace("  ", " ")
    best = max(supplies, key=lambda supply: supply.pairs_per_second)
    share = 1 - most * best.pairs_per_second / demand
    return (
        f"set {best.settings} --data.num_workers {most}, and the network still waits {share:.0%} of the time; it takes "
        f"{_workers(demand, best)} cores, or a higher --data.reuse"
    ).replace("  ", " ")


def _workers(demand: float, supply: Supply) -> int | None:
    """Workers that deliver what the network takes, None where no number of them does."""
    if not supply.pairs_per_second:
        return None
    return math.ceil(round(_SPARE * demand / supply.pairs_per_second, 6))


def format_throughput(found: Throughput) -> str:
    """The measurement as a short table, and what to set."""
    demand = found.demand
    width = max(len(supply.name) for supply in found.supplies)
    header = f"{'':{width}} {'pairs/s a core':>14} {f'{found.cores} cores':>9} {'workers needed':>14}"
    steps = f"{demand.precision}, {demand.pairs} pairs a step, {demand.device}"
    lines = [f"the network takes {demand.pairs_per_second:.1f} pairs/s ({steps})", header]
    for supply in found.supplies:
        rate = supply.pairs_per_second
        needed = _workers(demand.pairs_per_second, supply) or "-"
        lines.append(f"{supply.name:{width}} {rate:14.1f} {rate * max(found.cores - 1, 1):9.0f} {needed:>14}")
    shards = any("SHARDS/" in supply.settings for supply in found.supplies) and "SHARDS/" in found.advice
    made = "; SHARDS are made by `tubeletx-train shards --output SHARDS --transcode.short_side ...`" if shards else ""
    return "\n".join([*lines, found.advice + made])
