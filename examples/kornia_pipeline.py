"""Tubelets between kornia's augmentations, and the time of the same pasting by kornia's warp_affine.

Run: python examples/kornia_pipeline.py [toy]
"""

import sys
import time

import torch
from kornia.augmentation import ColorJiggle, RandomHorizontalFlip, VideoSequential
from kornia.geometry.transform import warp_affine
from torch import Tensor, nn

from tubeletx import PasteTubelets, TubeletConfig, Tubelets

CONFIG = TubeletConfig.preset("paper", shape_probabilities=(1, 0, 0))  # rectangles, for the sake of the comparison


def paste_by_kornia(clips: Tensor, tubelets: Tubelets) -> Tensor:
    """Every frame is covered by a warped patch and its warped mask, tubelet by tubelet."""
    batch, _, num_frames, height, width = clips.shape
    patches, size = tubelets.crop(clips), tubelets.patch_size
    rows, columns = (torch.arange(extent, device=clips.device) for extent in patches.shape[-2:])
    masks = (columns < size[..., 0, None, None]) & (rows[:, None] < size[..., 1, None, None])
    sources = torch.cat((patches, masks[:, :, None]), dim=2)
    frames, sample = clips.transpose(1, 2).flatten(0, 1), torch.arange(batch, device=clips.device)
    for layer in tubelets.order.argsort(1).unbind(1):
        linear, centers = tubelets.linear[sample, layer], tubelets.centers[sample, layer]
        middle = (size[sample, layer, None] - 1) / 2
        shift = centers - 0.5 - (linear @ middle[..., None])[..., 0]
        matrix = torch.cat((linear, shift[..., None]), dim=-1).flatten(0, 1)
        warped = warp_affine(sources[sample, layer].repeat_interleave(num_frames, 0), matrix, (height, width))
        frames = frames * (1 - warped[:, 3:]) + warped[:, :3]
    return frames.unflatten(0, (batch, num_frames)).transpose(1, 2)


def main(toy: bool) -> float:
    """Runs the pipeline, prints both times and returns the mean difference of the two kinds of pasting."""
    torch.manual_seed(0)
    batch, side = (2, 32) if toy else (16, 112)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clips = torch.rand(batch, 3, 8, side, side, device=device).contiguous(memory_format=torch.channels_last_3d)
    sample_ids = torch.arange(batch, device=device)
    paste = PasteTubelets(CONFIG, seed=0, inplace=False)
    pipeline = nn.Sequential(
        VideoSequential(ColorJiggle(0.4, 0.4, 0.4, 0.1), data_format="BCTHW"),
        paste,  # takes all of (B, C, T, H, W); as a child of a VideoSequential it would need layout="(BT)CHW"
        VideoSequential(RandomHorizontalFlip(), data_format="BCTHW"),
    )
    with paste.samples(sample_ids):  # a sequence hands on one tensor, so the ids come from here
        print("augmented:", tuple(pipeline(clips).shape))

    tubelets = paste.sampler(sample_ids, num_frames=8, height=side, width=side)
    calls = {"tubeletx": lambda: paste(clips, sample_ids), "kornia": lambda: paste_by_kornia(clips, tubelets)}
    results = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        results[name] = call()
        if device == "cuda":
            torch.cuda.synchronize()
        print(f"{name}: {(time.perf_counter() - start) * 1e3:.2f} ms for {batch} clips")
    return (results["tubeletx"] - results["kornia"]).abs().mean().item()


if __name__ == "__main__":
    main(toy="toy" in sys.argv[1:])
