"""Fixtures: folders of good and of broken videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from video_files import ffmpeg, make_video


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    return make_video


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five good videos of different sizes and lengths."""
    root = tmp_path_factory.mktemp("videos")
    make_video(root / "a.mp4", tint=(200, 30, 30))
    make_video(root / "sub" / "b.mp4", tint=(30, 200, 30), width=96, height=54, frames=60)
    make_video(root / "sub" / "c.mp4", tint=(30, 30, 200), width=56, height=80)
    make_video(root / "été, naïve vidéo.mp4", tint=(200, 200, 30), frames=12)
    make_video(root / "one.mp4", tint=(30, 200, 200), frames=1)
    return root


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are no videos, or no longer."""
    root = tmp_path_factory.mktemp("broken")
    whole = make_video(root / "whole.tmp.mp4", options=("-movflags", "+faststart"))
    content = whole.read_bytes()
    (root / "truncated.mp4").write_bytes(content[: len(content) * 9 // 10])
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("this is no video\n" * 40)
    (root / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20000))
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", str(root / "sound.mp4"))
    whole.unlink()
    return root
