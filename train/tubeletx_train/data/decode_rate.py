"""How fast one process decodes clips."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from tubeletx_train.data.clips import clip_generator, draw_frame_indices
from tubeletx_train.data.errors import VideoError
from tubeletx_train.data.frames import FileFrames, Sources
from tubeletx_train.data.record import VideoRecord


@dataclass(frozen=True)
class DecodeRate:
    """What was measured of one reader.

    Attributes:
        reader: Its name.
        clips: Clips decoded.
        clips_per_second: Of one process, opening the video included.
        frames_per_second: Frames delivered; those decoded only on the way to them do not count.
        median_ms: Time of one clip, milliseconds.
        slowest_ms: Time that 95 of 100 clips stay below, milliseconds.
        failed: Clips that could not be decoded.
    """

    reader: str
    clips: int
    clips_per_second: float
    frames_per_second: float
    median_ms: float
    slowest_ms: float
    failed: int


def measure_decode_rate(
    videos: Sequence[VideoRecord],
    reader: str,
    *,
    clips: int,
    num_frames: int,
    strides: Sequence[int],
    decode_size: int | None,
    seed: int = 0,
    progress: bool = True,
) -> DecodeRate:
    """Decode clips as pretraining draws them, in this process, one after the other.

    Args:
        videos: As `check_videos` returned them.
        reader: What decodes video files.
        clips: Clips to decode; each is of a video drawn anew.
        num_frames: Frames of a clip.
        strides: Frame strides; each clip draws one.
        decode_size: Short side that frames are decoded at, pixels; None keeps the file's own.
        seed: Seed of the draws: the same clips for every reader.
        progress: Show a progress bar (on a terminal).
    """
    sources = Sources(videos, None)
    frames = FileFrames(reader, decode_size)
    draws = []
    for clip in range(clips):
        rng = clip_generator(seed, 0, clip, 0, 0)
        source = sources[int(rng.integers(len(sources)))]
        draws.append((source, draw_frame_indices(rng, source.num_frames, num_frames, strides)))
    with contextlib.suppress(VideoError):
        frames.read(*draws[0])  # loads the decoder
    times = []
    for source, indices in tqdm(draws, f"decoding by {reader}", unit="clip", disable=None if progress else True):
        started = time.perf_counter()
        try:
            frames.read(source, indices)
        except VideoError:
            continue
        times.append(time.perf_counter() - started)
    total = sum(times)
    rate = len(times) / total if total else 0.0
    median, slowest = np.quantile(times, [0.5, 0.95]).tolist() if times else (0.0, 0.0)
    return DecodeRate(
        reader=reader,
        clips=len(times),
        clips_per_second=rate,
        frames_per_second=rate * num_frames,
        median_ms=1000 * median,
        slowest_ms=1000 * slowest,
        failed=clips - len(times),
    )
