"""What it saves to test repetition counting in batches: all segments of a level in one pass, without gradients.

The other way, that of the released code, asks about one place (of every video of the batch) at a time and records
gradients: 30 candidates, 4 refinements and 40 places of a tree are 74 passes. Either way the network sees the same
clips, so on a CPU, where the convolutions decide, batching gains the least.
"""

from __future__ import annotations

import argparse

import torch
from harness import measure, write_result
from torch import Tensor

from tubeletx_train.models import build_encoder
from tubeletx_train.repetition.count import count_repetitions
from tubeletx_train.repetition.model import CycleNet, NetworkEstimator, segment_clips
from tubeletx_train.repetition.segments import LengthEstimate


class OneAtATime:
    """Asks about one segment of each video at a time."""

    def __init__(self, net: CycleNet, frames: list[Tensor], gradients: bool) -> None:
        self.net, self.frames, self.gradients = net.eval(), frames, gradients
        self.passes = 0

    def __call__(self, videos: Tensor, middles: Tensor, lengths: Tensor) -> LengthEstimate:
        """See `Estimator`."""
        scores, log_scales = torch.zeros(len(videos), 2, 7), torch.zeros(len(videos), 2, 7)
        earlier = (videos[:, None] == videos) & (torch.arange(len(videos))[:, None] > torch.arange(len(videos)))
        turns = earlier.sum(1)
        for turn in turns.unique().tolist():
            rows = (turns == turn).nonzero()[:, 0]
            clips = segment_clips([self.frames[v] for v in videos[rows]], middles[rows], lengths[rows], 16)
            with torch.set_grad_enabled(self.gradients):
                logits, scales = self.net(clips)
            scores[rows], log_scales[rows] = logits.detach().softmax(3)[..., 1].cpu(), scales.detach().cpu()
            self.passes += 1
        return LengthEstimate(scores, log_scales)


def kept_for_gradients(net: CycleNet, clips: Tensor) -> int:
    """Bytes that a forward pass keeps for a backward pass that never comes, parameters apart."""
    kept: dict[int, int] = {}
    parameters = {parameter.data_ptr() for parameter in net.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(clips)
    return sum(kept.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=8, help="channels of the first stage; 64 is the standard network")
    parser.add_argument("--size", type=int, default=40, help="side of a frame; 112 is the standard")
    parser.add_argument("--videos", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    net = CycleNet(build_encoder("r2plus1d_18", options.width)).to(options.device)
    shape = (200, options.size, options.size, 3)
    frames = [torch.randint(0, 256, shape, dtype=torch.uint8, device=options.device) for _ in range(options.videos)]
    sizes = [len(video) for video in frames]
    one, batched = OneAtATime(net, frames, gradients=True), NetworkEstimator(net, frames, clips_per_pass=1000)
    count_repetitions(one, sizes)
    count_repetitions(batched, sizes)
    passes = {"one at a time": one.passes, "batched": batched.passes}
    candidates = {
        "one at a time, with gradients": lambda: count_repetitions(one, sizes),
        "batched": lambda: count_repetitions(NetworkEstimator(net, frames, clips_per_pass=32), sizes),
    }
    seconds = measure(candidates, options.repeats)
    clips = segment_clips(frames, torch.full((len(frames),), 99), torch.full((len(frames), 2), 20.0), 16)
    megabytes = kept_for_gradients(net, clips) / 1e6
    for name, count in passes.items():
        print(f"{name}: {count} passes")
    for name, value in seconds.items():
        print(f"{name}: {value:.2f} s for {options.videos} videos")
    print(f"a pass of {len(frames)} clips would keep {megabytes:.0f} MB for gradients")
    suffix = "" if options.device == "cpu" else "_cuda"
    settings = vars(options)
    payload = {"settings": settings, "passes": passes, "seconds": seconds, "kept_for_gradients_mb": megabytes}
    print(write_result(f"count{suffix}", payload))


if __name__ == "__main__":
    main()
