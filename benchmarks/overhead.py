"""What a call costs the host before any pixel is painted, beside torch.add on the same tensors in the same run.

One sample (B = 1), one thread, two clips of 16 frames of 8 x 8, and tubelets of opacity 0: nothing is painted, so that
what is left is Python, dispatch, argument checks, allocation and drawing. A whole step (drawing, cropping, pasting in
place) is to cost 30 us, by `TubeletPair` and by `PasteTubelets`, with objects too; drawing alone 15, pasting 10. The
bounds are those of a machine on which `torch.add` takes 1.4 us.

Run: python benchmarks/overhead.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from harness import measure, write_result

from tubeletx import ObjectPatches, PasteTubelets, TubeletConfig, TubeletPair
from tubeletx.ops import crop_patches, paste_tubelets, paste_tubelets_

FRAMES, SIDE = 16, 8
BOUNDS = {
    "sample_tubelets": 15e-6,
    "paste_tubelets": 10e-6,
    "TubeletPair": 30e-6,
    "PasteTubelets, NumPy frames": 30e-6,
    "PasteTubelets, objects": 30e-6,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200, help="rounds of all candidates")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = TubeletConfig.preset("paper", opacity_range=(0, 0))
    frames = torch.zeros(2, FRAMES, SIDE, SIDE, 3, dtype=torch.uint8)
    clips = [frames[v, None].permute(0, 4, 1, 2, 3) for v in range(2)]
    array = frames[0].numpy()
    ids = torch.zeros(1, dtype=torch.int64)
    copying_pair = TubeletPair(config)
    pair, paste = TubeletPair(config, inplace=True), PasteTubelets(config)
    image = np.full((20, 20, 4), 255, np.uint8)
    paste_objects = PasteTubelets(config, patches=ObjectPatches.from_images([image] * 4))
    tubelets = pair.sampler(ids, num_frames=FRAMES, height=SIDE, width=SIDE)
    patches = tubelets.crop(clips[0])
    geometry = (
        tubelets.patch_size,
        tubelets.centers,
        tubelets.linear,
        tubelets.shape,
        tubelets.edge,
        tubelets.opacity,
        tubelets.order,
    )
    calls: dict[str, Callable[[], object]] = {
        "torch.add": lambda: torch.add(*clips),
        "sample_tubelets": lambda: pair.sampler(ids, num_frames=FRAMES, height=SIDE, width=SIDE),
        "crop_patches": lambda: crop_patches(
            clips[0], tubelets.patch_frame, tubelets.patch_box, tubelets.max_patch_size
        ),
        "paste_tubelets_": lambda: paste_tubelets_(clips, patches, *geometry),
        "paste_tubelets": lambda: paste_tubelets(clips, patches, *geometry),
        "TubeletPair": lambda: pair(*clips, ids),
        "TubeletPair, fresh copies": lambda: copying_pair(*clips, ids),
        "PasteTubelets, NumPy frames": lambda: paste(array, 0),
        "PasteTubelets, objects": lambda: paste_objects(array, 0),
    }
    seconds = measure(calls, repeats=arguments.repeats)
    ratios = {name: value / seconds["torch.add"] for name, value in seconds.items()}
    for name, value in seconds.items():
        bound = f"  (bound {BOUNDS[name] * 1e6:.0f} us)" if name in BOUNDS else ""
        print(f"{name:28} {value * 1e6:6.1f} us a call  {ratios[name]:5.1f} x torch.add{bound}")
    result = {"microseconds": {name: value * 1e6 for name, value in seconds.items()}, "times_torch_add": ratios}
    print(write_result("overhead", result))


if __name__ == "__main__":
    main()
