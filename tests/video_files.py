"""Writes small real videos whose frames tell their number."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from tubeletx_train.data.readers.decord_or_pyav import HAS_DECORD

NEEDS_DECORD = pytest.mark.skipif(not HAS_DECORD, reason="decord, which has wheels for x86-64 alone, is not installed")

# Grey levels that survive H.264's rounding; the last of a run of 60 frames is still below white.
LEVEL_STEP = 4


def frame_level(index: int) -> int:
    """Grey level of frame `index` of a video that `write_video` makes."""
    return LEVEL_STEP * index + 8


def frame_numbers(frames: np.ndarray) -> list[int]:
    """Which frames these are, read off the left half of their pixels."""
    left = frames[:, :, : frames.shape[2] // 2].mean((1, 2, 3))
    return np.rint((left - 8) / LEVEL_STEP).astype(int).tolist()


def make_video(
    path: Path,
    *,
    frames: int = 40,
    width: int = 64,
    height: int = 48,
    tint: tuple[int, int, int] = (200, 60, 20),
    options: tuple[str, ...] = (),
    codec: tuple[str, ...] = ("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv444p", "-g", "12"),
) -> Path:
    """Write a video: left half grey by frame number, right half of one colour that tells the video apart."""
    images = np.empty((frames, height, width, 3), np.uint8)
    images[:, :, : width // 2] = np.minimum([frame_level(i) for i in range(frames)], 255)[:, None, None, None]
    images[:, :, width // 2 :] = tint
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "10", "-i", "-"]
    ffmpeg(*raw, *codec, *options, str(path), stdin=images.tobytes())
    return path


def make_uneven_video(path: Path) -> Path:
    """Write a video of ten frames at 10 a second and then ten at 2 a second, which show 0 .. 9, 10, 15, .. 55."""
    whole = make_video(path.with_name("whole.mp4"), frames=60)
    keep = "select=lt(n\\,10)+not(mod(n\\,5))"
    coding = ("-fps_mode", "vfr", "-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv444p")
    ffmpeg("-i", str(whole), "-vf", keep, *coding, str(path))
    return path


def ffmpeg(*arguments: str, stdin: bytes = b"") -> None:
    """Run ffmpeg, overwriting its output."""
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments], input=stdin, check=True)
