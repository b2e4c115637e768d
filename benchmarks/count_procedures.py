"""What the original way of training a repetition counter costs or gains beside the refined one, on generated videos.

A square moves up and down, with a period that changes a little from one repetition to the next. An oracle, which
answers as a network would that had learned its targets without error, counts: the only difference is then the target,
the distance between two marks or one frame more. Then walks of training are followed, with estimates that are off by a
random factor: how many of the lengths that they ask about are known, fit one of the anchors, and lie how far into their
window. With --steps small networks are trained on the same videos by the original procedure and by the refined one,
with --each also by the original with one choice at a time as the refined one has it.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics

import numpy as np
import torch
from harness import write_result
from torch import Tensor

from tubeletx_train.models import build_encoder
from tubeletx_train.repetition.count import count_repetitions
from tubeletx_train.repetition.dataset import Window, draw_stretch, draw_window
from tubeletx_train.repetition.metrics import counting_metrics
from tubeletx_train.repetition.model import CycleNet, NetworkEstimator, cycle_loss, segment_clips
from tubeletx_train.repetition.offsets import cycle_offsets
from tubeletx_train.repetition.procedure import ORIGINAL, REFINED, Procedure
from tubeletx_train.repetition.refinement import Refinement
from tubeletx_train.repetition.segments import ANCHORS, LengthEstimate, anchor_targets

_SIZE, _SIDE_FRAMES, _BATCH, _MAX_WINDOW = 16, 8, 8, 150
_WINDOWS_PER_VIDEO = 10

Video = tuple[Tensor, tuple[int, ...]]


def make_video(rng: np.random.Generator) -> Video:
    """Frames (N, S, S, 3) uint8 of 3 to 12 repetitions of about 8 to 24 frames, and the marks between them."""
    lengths = np.maximum(np.rint(rng.uniform(8, 24) * rng.uniform(0.9, 1.1, rng.integers(3, 13))), 4).astype(int)
    marks = np.concatenate([[0], lengths.cumsum()])
    phase = np.interp(np.arange(marks[-1] + 1), marks, np.arange(len(marks)))
    frames = np.tile(rng.integers(0, 120, (_SIZE, _SIZE, 3)).astype(np.uint8), (len(phase), 1, 1, 1))
    left, height = int(rng.integers(1, _SIZE - 6)), rng.uniform(2, 5)
    for frame, top in zip(frames, np.rint(5 + height * np.sin(2 * np.pi * phase)).astype(int), strict=True):
        frame[max(top, 0) : top + 5, left : left + 5] = 230
    return torch.from_numpy(frames), tuple(marks.tolist())


class Oracle:
    """Answers without error with the distance of marks and so many frames more."""

    def __init__(self, videos: list[Video], extra_frames: int) -> None:
        self._offsets = [cycle_offsets(marks) for _, marks in videos]
        self._extra_frames = extra_frames

    def __call__(self, videos: Tensor, middles: Tensor, lengths: Tensor) -> LengthEstimate:
        """See `Estimator`."""
        truth = torch.empty(len(videos), 2, dtype=torch.float64)
        for row, (video, middle) in enumerate(zip(videos.tolist(), middles.tolist(), strict=True)):
            following, previous = self._offsets[video]
            truth[row, 0] = previous[middle]
            truth[row, 1] = following[min(middle + 1, len(following) - 1)]
        # Where there is no such repetition it is longer than the video, as it would have to be.
        truth = (truth + self._extra_frames).where(truth > 0, 1e6)
        ratio = truth[..., None] / (lengths[..., None] * torch.tensor(ANCHORS))
        return LengthEstimate(torch.minimum(ratio, 1 / ratio).float(), ratio.log().float())


def draw_windows(videos: list[Video], procedure: Procedure, seed: int, rng: np.random.Generator) -> list[Window]:
    """A batch of windows, as `RepetitionWindows` cuts them."""
    windows = []
    for place in rng.integers(len(videos), size=_BATCH):
        frames, marks = videos[place]
        if procedure.fixed_windows:
            which = np.random.default_rng((seed, place, rng.integers(_WINDOWS_PER_VIDEO)))
            first, last, repetitions = draw_stretch(which, marks, _MAX_WINDOW)
        else:
            first, last, repetitions = draw_window(rng, marks, _MAX_WINDOW)
        shifted = tuple(mark - first for mark in marks)
        windows.append(Window(frames[first : last + 1], shifted, repetitions, 0, 0, []))
    return windows


def follow_walks(videos: list[Video], procedure: Procedure, batches: int, refinements: int) -> dict[str, float]:
    """Shares of the lengths asked about, where estimates are right but for a factor of up to 1.3 either way."""
    rng = np.random.default_rng(0)
    known, fitting, places, asked = 0, 0, [], 0
    for _ in range(batches):
        windows = draw_windows(videos, procedure, 0, rng)
        refinement = Refinement(windows, procedure, rng)
        for _ in range(1 + refinements):
            lengths, truth = refinement.lengths, refinement.true_lengths()
            targets = anchor_targets(lengths, truth)
            asked += truth.numel()
            known += int((truth > 0).sum())
            fitting += int((targets.matches == 1).any(2).sum())
            places += [
                int(middle) / len(window.frames) for middle, window in zip(refinement.middles, windows, strict=True)
            ]
            factor = torch.from_numpy(1.3 ** rng.uniform(-1, 1, truth.shape))
            estimated = torch.where(truth > 0, truth * factor, lengths * factor)
            ratio = estimated[..., None] / (lengths[..., None] * torch.tensor(ANCHORS))
            refinement.advance(LengthEstimate(torch.minimum(ratio, 1 / ratio), ratio.log()))
    return {
        "known": known / asked,
        "fitting an anchor": fitting / asked,
        "median place in the window": float(np.median(places)),
    }


def train(net: CycleNet, videos: list[Video], procedure: Procedure, steps: int, refinements: int, seed: int) -> None:
    """Adam on windows of the videos, several updates a batch, as `RepetitionTraining` does it."""
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    net.train()
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        windows = draw_windows(videos, procedure, seed, rng)
        refinement = Refinement(windows, procedure, rng)
        for _ in range(1 + refinements):
            middles, lengths = refinement.middles, refinement.lengths
            clips = segment_clips([window.frames for window in windows], middles, lengths, _SIDE_FRAMES)
            logits, scales = net(clips)
            loss = cycle_loss(logits, scales, anchor_targets(lengths, refinement.true_lengths()), 50.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            refinement.advance(LengthEstimate(logits.detach().softmax(3)[..., 1], scales.detach()))


def mean_error(estimator: object, videos: list[Video], procedure: Procedure) -> float:
    """Of counts, as the paper reports it."""
    found = count_repetitions(estimator, [len(frames) for frames, _ in videos], procedure.unit_refinement)  # type: ignore[arg-type]
    return counting_metrics([count.count for count in found], [len(marks) - 1 for _, marks in videos])["mean_error"]


def one_choice_each() -> dict[str, Procedure]:
    """The original with one choice as the refined one has it."""
    return {
        f"original, but {field.name} = {getattr(REFINED, field.name)}": dataclasses.replace(
            ORIGINAL, **{field.name: getattr(REFINED, field.name)}
        )
        for field in dataclasses.fields(Procedure)
        if field.name != "least_repetitions"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=0, help="batches that each network is trained on; 0 trains none")
    parser.add_argument("--refinements", type=int, default=10, help="further updates a batch")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--each", action="store_true", help="try each choice on its own too")
    parser.add_argument("--videos", type=int, default=40, help="training videos, and as many test videos")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    training, test = ([make_video(rng) for _ in range(options.videos)] for _ in range(2))
    oracle = {extra: mean_error(Oracle(test, extra), test, ORIGINAL) for extra in (0, 1)}
    for extra, value in oracle.items():
        print(f"an oracle of lengths and {extra} frames more: mean error {value:.3f}", flush=True)
    procedures = {"original": ORIGINAL, "refined": REFINED} | (one_choice_each() if options.each else {})
    walks = {name: follow_walks(training, procedure, 100, 10) for name, procedure in procedures.items()}
    for name, shares in walks.items():
        print(f"{name}: {', '.join(f'{key} {value:.2f}' for key, value in shares.items())}", flush=True)
    errors: dict[str, list[float]] = {}
    for seed in range(options.seeds if options.steps else 0):
        for name, procedure in procedures.items():
            torch.manual_seed(seed)
            net = CycleNet(build_encoder("r2plus1d_10", 4), _SIDE_FRAMES)
            train(net, training, procedure, options.steps, options.refinements, seed)
            estimator = NetworkEstimator(net, [frames for frames, _ in test])
            errors.setdefault(name, []).append(mean_error(estimator, test, procedure))
            print(f"seed {seed}, {name}: mean error {errors[name][-1]:.3f}", flush=True)
    for name, values in errors.items():
        print(f"{name}: {statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
    payload = {"settings": vars(options), "oracle_mean_error": oracle, "walks": walks, "mean_error": errors}
    print(write_result("count_procedures", payload))


if __name__ == "__main__":
    main()
