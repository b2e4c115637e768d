"""Time to draw clips of moving "dead leaves", 500 of them in 16 x 224 x 224, on one CPU thread.

Beside it: a scene by the same laws painted by OpenCV, a leaf after the other from the back to the front, each in one
colour, without a texture. Drawing is to take less than 40 ms a clip.

With `--device cuda`: a batch of 32 on a GPU, and the share of the memory's bandwidth that writing the clips takes.
"""

from __future__ import annotations

import time

import cv2
import numpy as np
import torch
from harness import copy_bandwidth, device_parser, measure, measure_gpu, write_result

from tubeletx.ops import draw_leaves

FRAMES, SIDE, LEAVES, BATCH = 16, 224, 500, 32
CLIP = {"num_frames": FRAMES, "height": SIDE, "width": SIDE}


def in_opencv() -> np.ndarray:
    """A clip of as many leaves by the same laws of size, place and turning, in plain colours."""
    generator = np.random.default_rng(0)
    smallest, largest = 0.02 * SIDE, 0.4 * SIDE
    radius = (smallest**-2 - generator.uniform(size=LEAVES) * (smallest**-2 - largest**-2)) ** -0.5
    ratio = np.exp(generator.uniform(-0.5, 0.5, LEAVES))
    half = np.stack((radius * ratio, radius / ratio), axis=-1)
    start, end = generator.uniform(-0.125 * SIDE, 1.125 * SIDE, (2, LEAVES, 2))
    end = start + 0.1 * (end - start)
    angle, turn = generator.uniform(0, 360, LEAVES), generator.uniform(-90, 90, LEAVES)
    colours = generator.integers(0, 256, (LEAVES, 3)).tolist()
    shapes = generator.integers(0, 3, LEAVES)
    clip = np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8)
    for frame, share in enumerate(np.linspace(0, 1, FRAMES)):
        for leaf in range(LEAVES - 1, -1, -1):
            center = start[leaf] + share * (end[leaf] - start[leaf])
            degrees = float(angle[leaf] + share * turn[leaf])
            box = (tuple(center.tolist()), tuple((2 * half[leaf]).tolist()), degrees)
            if shapes[leaf] == 1:
                cv2.ellipse(clip[frame], box, colours[leaf], -1)
            else:
                cv2.fillConvexPoly(clip[frame], cv2.boxPoints(box).astype(np.int32), colours[leaf])
    return clip


def on_cpu() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    ids = torch.arange(1)
    calls = {
        "500 leaves": lambda: draw_leaves(ids, **CLIP),
        "500 leaves of 16 x 112 x 112": lambda: draw_leaves(ids, num_frames=FRAMES, height=112, width=112),
        "2000 leaves": lambda: draw_leaves(ids, num_leaves=2000, **CLIP),
        "OpenCV, 500 plain shapes": in_opencv,
    }
    seconds = measure(calls, repeats=15, clock=time.thread_time)
    ratio = seconds["OpenCV, 500 plain shapes"] / seconds["500 leaves"]
    for name, value in seconds.items():
        print(f"{name:30} {value * 1e3:8.1f} ms a clip")
    print(f"OpenCV / ours                  {ratio:8.1f} x")
    print(
        write_result("draw_leaves", {"milliseconds_a_clip": {k: v * 1e3 for k, v in seconds.items()}, "ratio": ratio})
    )


def on_gpu() -> None:
    ids = torch.arange(BATCH, device="cuda")
    seconds = measure_gpu({f"500 leaves, batch of {BATCH}": lambda: draw_leaves(ids, **CLIP)}, repeats=10, calls=5)
    written = BATCH * FRAMES * SIDE * SIDE * 3 / copy_bandwidth()
    clip = {name: value / BATCH * 1e6 for name, value in seconds.items()}
    share = written / next(iter(seconds.values()))
    for name, value in clip.items():
        print(f"{name:30} {value:8.1f} us a clip; writing it alone would take {share:.0%} of that")
    print(write_result("cuda/draw_leaves", {"microseconds_a_clip": clip, "share_of_bandwidth": share}))


if __name__ == "__main__":
    if device_parser(__doc__).parse_args().device == "cuda":
        on_gpu()
    else:
        on_cpu()
