"""What a list of videos is worth: which cannot be read, and how fast the others are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from tubeletx_train.common.files import writable_file, write_json
from tubeletx_train.common.limits import require_at_least, require_positive, require_seed
from tubeletx_train.common.machine import processor_name
from tubeletx_train.data.bad_videos import BadVideo
from tubeletx_train.data.check import check_videos
from tubeletx_train.data.decode_rate import DecodeRate, measure_decode_rate
from tubeletx_train.data.readers import READERS, require_reader
from tubeletx_train.data.record import VideoRecord
from tubeletx_train.data.videos import load_videos


@dataclass(frozen=True)
class CheckConfig:
    """What is checked and measured.

    Attributes:
        videos: A manifest (CSV) or a folder of videos.
        split: Keep only the manifest's rows of this split.
        readers: What decodes video files: decord, pyav, torchcodec; the first checks, each is timed.
        num_frames: Frames of a clip.
        strides: Frame strides; each clip draws one.
        decode_size: Short side that frames are decoded at, pixels; null keeps the file's own.
        clips: Clips timed for each reader; 0 times none.
        seed: Seed that draws them.
        num_workers: Processes that check; the timing is of one process.
        check_timeout: Seconds that the check waits for one video.
        output: File for the findings (JSON); null writes none.
    """

    videos: str
    split: str | None = None
    readers: tuple[str, ...] = ("decord",)
    num_frames: int = 16
    strides: tuple[int, ...] = (1, 2, 3, 4)
    decode_size: int | None = 128
    clips: int = 100
    seed: int = 0
    num_workers: int = 2
    check_timeout: float = 60.0
    output: str | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.readers if name not in READERS]
        if unknown or not self.readers:
            raise ValueError(f"readers: got {', '.join(unknown) or 'none'}, needs some of {', '.join(READERS)}")
        require_at_least(self, 1, "num_frames", "num_workers", "decode_size")
        require_at_least(self, 0, "clips")
        require_positive(self, "check_timeout")
        require_seed(self)
        if not self.strides or min(self.strides) < 1:
            raise ValueError(f"strides: got {self.strides}, needs one or more whole numbers of 1 or more")


def examine(config: CheckConfig) -> int:
    """Check videos and time readers, say what was found, and write it down; returns 2 where a video cannot be read."""
    for reader in config.readers:
        require_reader(reader)  # before the check, which takes its time
    if config.output is not None:
        writable_file(config.output)
    good, bad = check_videos(
        load_videos(config.videos, config.split),
        reader=config.readers[0],
        workers=config.num_workers,
        timeout=config.check_timeout,
        again=True,
    )
    for video in bad:
        print(video)
    print(_summary(good, bad))
    rates = []
    if good and config.clips:
        rates = [
            measure_decode_rate(
                good,
                reader,
                clips=config.clips,
                num_frames=config.num_frames,
                strides=config.strides,
                decode_size=config.decode_size,
                seed=config.seed,
            )
            for reader in config.readers
        ]
        print(format_rates(rates))
    if config.output is not None:
        findings = {
            "processor": processor_name(torch.device("cpu")),
            "good": len(good),
            "bad": [asdict(video) for video in bad],
            "decode_rates": [asdict(rate) for rate in rates],
        }
        write_json(config.output, findings)
    return 2 if bad else 0


def _summary(good: Sequence[VideoRecord], bad: Sequence[BadVideo]) -> str:
    """Counts, and what is usual among the good ones."""
    line = f"{len(good)} readable, {len(bad)} not"
    if not good:
        return line
    # Checked records know all of these.
    frames = [record.num_frames or 0 for record in good]
    sides = [min(record.width or 0, record.height or 0) for record in good]
    seconds = sum((record.num_frames or 0) / (record.fps or 1.0) for record in good)
    return (
        f"{line}; {min(frames)} to {max(frames)} frames, short side {min(sides)} to {max(sides)} pixels, "
        f"{seconds / 3600:.2g} hours"
    )


def format_rates(rates: Sequence[DecodeRate]) -> str:
    """The rates as a table."""
    header = f"{'reader':12} {'clips/s':>8} {'frames/s':>9} {'ms a clip':>10} {'95 % below':>11} {'failed':>7}"
    return "\n".join(
        [
            header,
            *(
                f"{rate.reader:12} {rate.clips_per_second:8.1f} {rate.frames_per_second:9.0f} "
                f"{rate.median_ms:10.1f} {rate.slowest_ms:11.1f} {rate.failed:7}"
                for rate in rates
            ),
        ]
    )
