"""The network: an encoder over the frames of two segments, and a head that scores and corrects anchors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from tubeletx_train.data import normalize
from tubeletx_train.repetition.segments import ANCHORS, AnchorTargets, LengthEstimate, frame_positions


class CycleNet(nn.Module):
    """Tells of both segments of a clip which anchors fit, and by how much each is off.

    Attributes:
        encoder: As `build_encoder` makes it.
        side_frames: Frames of a clip that show each side.
    """

    def __init__(self, encoder: nn.Module, side_frames: int = 16) -> None:
        super().__init__()
        self.encoder = encoder
        self.side_frames = side_frames
        # One layer for the four of the released code (two kinds of output, two sides): the same function.
        self.head = nn.Linear(int(encoder.feature_dim), 2 * len(ANCHORS) * 3)  # type: ignore[arg-type]

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised (K, 3, 2 S, H, W) to (K, 2, A, 2) logits, "does not fit" first, and (K, 2, A) log scales."""
        output = self.head(self.encoder(clips)).unflatten(1, (2, len(ANCHORS), 3)).float()
        return output[..., :2], output[..., 2]


def cycle_loss(logits: Tensor, log_scales: Tensor, targets: AnchorTargets, box_weight: float) -> Tensor:
    """Cross entropy of the anchors plus the weighted smooth L1 distance of their log scales, summed over the sides.

    Anchors of unknown lengths have no part in the first mean; in the second, over all anchors, those that do not fit
    count as right. Zero where nothing is known.

    Args:
        logits: (K, 2, A, 2).
        log_scales: (K, 2, A).
        targets: On the same device.
        box_weight: Weight of the second part.

    Returns:
        The scalar loss.
    """
    total = logits.sum() * 0
    for side in (0, 1):
        matches, wanted = targets.matches[:, side].flatten(), targets.log_scales[:, side]
        entropy = cross_entropy(logits[:, side].flatten(0, 1), matches, ignore_index=-1, reduction="sum")
        total = total + entropy / (matches >= 0).sum().clamp(min=1)
        fits = wanted.isfinite()
        distance = smooth_l1_loss(log_scales[:, side][fits], wanted[fits], reduction="sum")
        total = total + box_weight * distance / wanted.numel()
    return total


def segment_clips(frames: Sequence[Tensor], middles: Tensor, lengths: Tensor, side_frames: int) -> Tensor:
    """What the network sees of pairs of segments.

    Args:
        frames: K videos, (N, H, W, 3) uint8 each, on one device; a video may stand there several times.
        middles: (K,) frame numbers.
        lengths: (K, 2) frames.
        side_frames: Frames of each side, S.

    Returns:
        (K, 3, 2 S, H, W) normalised float32; frames before the video or after its end are zero, the mean colour.
    """
    positions = frame_positions(middles, lengths, side_frames)
    ends = torch.tensor([len(video) for video in frames])[:, None]
    outside = (positions < 0) | (positions >= ends)
    places = positions.clamp(min=0).minimum(ends - 1)
    device = frames[0].device
    clips = torch.stack([video[place.to(device)] for video, place in zip(frames, places, strict=True)])
    seen = normalize(clips.permute(0, 4, 1, 2, 3))
    return seen.masked_fill_(outside.to(device)[:, None, :, None, None], 0.0)


class NetworkEstimator:
    """Asks a network about pairs of segments, many at a time and without gradients.

    Attributes:
        passes: Forward passes made so far.
    """

    def __init__(
        self,
        net: CycleNet,
        frames: Sequence[Tensor],
        *,
        clips_per_pass: int = 32,
        autocast: AbstractContextManager[object] | None = None,
    ) -> None:
        """Puts the network in evaluation mode.

        Args:
            net: On the device of the frames.
            frames: V videos, (N, H, W, 3) uint8 each.
            clips_per_pass: The most clips that one forward pass takes.
            autocast: Context of the forward passes.
        """
        self._net = net.eval()
        self._frames = frames
        self._clips_per_pass = clips_per_pass
        self._autocast = autocast or nullcontext()
        self.passes = 0

    @torch.no_grad()
    def __call__(self, videos: Tensor, middles: Tensor, lengths: Tensor) -> LengthEstimate:
        """See `Estimator`."""
        scores, log_scales = [], []
        for part in torch.split(torch.arange(len(videos)), self._clips_per_pass):
            frames = [self._frames[video] for video in videos[part].tolist()]
            clips = segment_clips(frames, middles[part], lengths[part], self._net.side_frames)
            with self._autocast:
                logits, scales = self._net(clips)
            scores.append(logits.softmax(3)[..., 1].cpu())
            log_scales.append(scales.cpu())
            self.passes += 1
        return LengthEstimate(torch.cat(scores), torch.cat(log_scales))
