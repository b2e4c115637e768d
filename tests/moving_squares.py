"""Tiny data sets of moving squares, laid out as the real ones: what a small network learns in a few dozen steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from video_files import ffmpeg

SIDE = 32
FPS = 16
# Colour and direction of the square of each class.
CLASSES = {
    "MoveRight": ((230, 40, 40), (2, 0)),
    "MoveDown": ((40, 230, 40), (0, 2)),
    "StandStill": ((60, 60, 240), (0, 0)),
}
CODEC = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "10", "-pix_fmt", "yuv444p")


def square_frames(kinds: list[str], frames: int, seed: int) -> np.ndarray:
    """(frames, SIDE, SIDE, 3) uint8: a square that moves from a drawn place on grey; each frame shows one of `kinds`.

    Frames are shared out among the kinds in order, so that several actions follow each other in one video.
    """
    rng = np.random.default_rng(seed)
    images = np.full((frames, SIDE, SIDE, 3), rng.integers(90, 130), np.uint8)
    for index in range(frames):
        kind = kinds[index * len(kinds) // frames]
        color, velocity = CLASSES[kind]
        x, y = (
            (rng_start + index * step) % (SIDE - 12) for rng_start, step in zip((seed % 9, 3), velocity, strict=True)
        )
        images[index, y : y + 12, x : x + 12] = color
    return images


def write_squares(path: Path, kinds: list[str], *, frames: int = 12, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{SIDE}x{SIDE}", "-r", str(FPS), "-i", "-")
    ffmpeg(*raw, *CODEC, str(path), stdin=square_frames(kinds, frames, seed).tobytes())
    return path


def write_ucf101(root: Path, *, train: int = 8, test: int = 3) -> Path:
    """UCF101's layout: Class/v_Class_g01_c01.avi, trainlist01.txt, testlist01.txt; groups of two clips."""
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for number, name in enumerate(CLASSES):
        for index in range(train + test):
            split = "train" if index < train else "test"
            video = f"{name}/v_{name}_g{index // 2 + 1:02d}_c{index % 2 + 1:02d}.avi"
            write_squares(root / video, [name], seed=100 * number + index, frames=8 + 2 * (index % 3))
            lists[split].append(f"{video} {number + 1}" if split == "train" else video)
    for split, lines in lists.items():
        (root / f"{split}list01.txt").write_text("\n".join(lines) + "\n")
    return root


def write_charades(root: Path, *, train: int = 12, test: int = 6) -> Path:
    """Charades' layout: ID.mp4 and two CSV files of timed actions; every video holds one or two of the classes."""
    names = list(CLASSES)
    for split, count in (("train", train), ("test", test)):
        rows = ["id,subject,actions"]
        for index in range(count):
            kinds = [names[index % 3]] if index % 2 else [names[index % 3], names[(index + 1) % 3]]
            video = f"{split.upper()[:2]}{index:03d}"
            write_squares(root / f"{video}.mp4", kinds, frames=16, seed=index)
            length = 1 / len(kinds)
            actions = ";".join(
                f"c{names.index(kind):03d} {place * length:.2f} {(place + 1) * length - 0.07:.2f}"
                for place, kind in enumerate(kinds)
            )
            rows.append(f"{video},S1,{actions}")
        (root / f"Charades_v1_{split}.csv").write_text("\n".join(rows) + "\n")
    return root
