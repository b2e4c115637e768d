"""Time of exact point tracks and flow, a clip of 16 x 112 x 112 with two tubelets, beside the same in batched torch.

Tracks follow the centres of 14 x 14 cells from the first frame through all 16, flow those of each frame to the next;
3136 places to find either way. The torch version works on whole tensors, hard and soft edges and paint order included.
"""

from __future__ import annotations

import time

import torch
from harness import device_parser, measure, measure_gpu, write_result
from torch import Tensor

from tubeletx import TubeletConfig, Tubelets, TubeletSampler
from tubeletx.tracks import cell_centers

BATCH, FRAMES, SIDE, GRID = 32, 16, 112, (14, 14)


def strengths(tubelets: Tubelets, places: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """Mask times opacity of every tubelet at places (B, N, 2) of frames (B, N): (B, M, N), and where in the patches."""
    index = frame[:, None, :, None].expand(-1, tubelets.num_tubelets, -1, 2)
    inverse = torch.linalg.inv(tubelets.linear).gather(2, index[..., None].expand(-1, -1, -1, -1, 2))
    moved = places[:, None] - tubelets.centers.gather(2, index)
    patch_place = torch.einsum("bmnij,bmnj->bmni", inverse, moved)
    u, v = (patch_place / (0.5 * tubelets.patch_size)[:, :, None]).abs().unbind(-1)
    distances = torch.stack((torch.maximum(u, v), torch.hypot(u, v), u + v))
    distance = distances.gather(0, tubelets.shape.long()[None, :, :, None].expand(1, *u.shape))[0]
    soft = ((1 - distance) / tubelets.edge.clamp(min=1e-9)[:, :, None]).clamp(0, 1)
    mask = torch.where(tubelets.edge[:, :, None] > 0, soft, (distance < 1).float())
    return mask * tubelets.opacity.gather(2, index[..., 0]), patch_place


def flow_in_torch(tubelets: Tubelets) -> tuple[Tensor, Tensor]:
    """Displacement and visibility, as `Tubelets.flow`, by whole tensors."""
    places = cell_centers(GRID, SIDE, SIDE, tubelets.device).repeat(FRAMES - 1, 1).expand(tubelets.batch_size, -1, -1)
    frame = torch.arange(FRAMES - 1, device=tubelets.device).repeat_interleave(GRID[0] * GRID[1])
    frame = frame.expand(tubelets.batch_size, -1)
    beneath = tubelets.order[:, :, None] < tubelets.order[:, None, :]  # (B, M, M)
    strength, patch_place = strengths(tubelets, places, frame)
    through = torch.where(beneath[..., None], 1 - strength[:, None], 1).prod(2)
    shares = torch.cat((strength * through, (1 - strength).prod(1, keepdim=True)), dim=1)
    owner = shares.argmax(1, keepdim=True)
    later = frame + 1
    index = later[:, None, :, None].expand(-1, tubelets.num_tubelets, -1, 2)
    linear = tubelets.linear.gather(2, index[..., None].expand(-1, -1, -1, -1, 2))
    moved = tubelets.centers.gather(2, index) + torch.einsum("bmnij,bmnj->bmni", linear, patch_place)
    choices = torch.cat((moved, places[:, None]), dim=1)
    ends = choices.gather(1, owner[..., None].expand(-1, -1, -1, 2))[:, 0]
    strength, _ = strengths(tubelets, ends, later)
    through = torch.where(beneath[..., None], 1 - strength[:, None], 1).prod(2)
    shares = torch.cat((strength * through, (1 - strength).prod(1, keepdim=True)), dim=1)
    inside = ((ends >= 0) & (ends < SIDE)).all(-1)
    return ends - places, shares.gather(1, owner)[:, 0] * inside


def main() -> None:
    device = device_parser(__doc__).parse_args().device
    torch.set_num_threads(1)
    sampler = TubeletSampler(TubeletConfig.preset("released"))
    ids = torch.arange(BATCH, device=device)
    tubelets = sampler(ids, num_frames=FRAMES, height=SIDE, width=SIDE)
    exact, plain = tubelets.flow(GRID), flow_in_torch(tubelets)
    ours = exact.visibility[:, :-1].flatten(1)
    agree = ((ours - plain[1]).abs() < 1e-3).float().mean().item()
    assert agree > 0.99, f"the two sides agree on {agree:.1%} of the places"

    calls = {
        "tracks": lambda: tubelets.tracks(GRID),
        "flow": lambda: tubelets.flow(GRID),
        "flow, torch": lambda: flow_in_torch(tubelets),
        "speed of 8 x 7 x 7 cells": lambda: tubelets.speed((2, 16, 16)),
    }
    seconds = measure_gpu(calls, repeats=10) if device == "cuda" else measure(calls, repeats=20, clock=time.thread_time)
    clip = {name: value / BATCH * 1e6 for name, value in seconds.items()}
    ratio = seconds["flow, torch"] / seconds["flow"]
    for name, value in clip.items():
        print(f"{name:26} {value:8.1f} us a clip")
    print(f"flow: torch / ours         {ratio:8.1f} x")
    name = "cuda/track_points" if device == "cuda" else "track_points"
    print(write_result(name, {"microseconds_a_clip": clip, "ratios": {"flow: torch / ours": ratio}}))


if __name__ == "__main__":
    main()
