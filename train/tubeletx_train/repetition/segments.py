"""Two neighbouring segments of a video, what the network sees of them, and the anchors their lengths are told by.

A pair of segments is a frame `middle` and two lengths in frames: the left segment is the `length[0]` frames that end
with `middle`, the right one the `length[1]` frames after it. Each should be one repetition.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Lengths relative to a segment's; section 4.3 of the released code's protocol.
ANCHORS = (0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0)
UNIT_ANCHOR = ANCHORS.index(1.0)

_LEAST_OVERLAP = 0.5
# The largest correction of an anchor that counting believes, as a logarithm.
MAX_LOG_SCALE = 0.5


def frame_positions(middles: Tensor, lengths: Tensor, side_frames: int) -> Tensor:
    """The frames that the network sees: each segment and as much again on its far side.

    Args:
        middles: (K,) last frame of the left segment.
        lengths: (K, 2) frames.
        side_frames: Frames seen of each side, S.

    Returns:
        (K, 2 S) int64 frame numbers, in order of time; those before the video or after its end included.
    """
    share = torch.linspace(0, 1, side_frames, dtype=torch.float64)
    left, right = (2 * lengths.double()).unbind(1)
    middle = middles.double()[:, None]
    before = middle - (1 - share) * (left[:, None] - 1)
    after = middle + 1 + share * (right[:, None] - 1)
    return torch.cat([before, after], 1).round().long()


@dataclass(frozen=True)
class AnchorTargets:
    """What the network should say about K pairs of segments, A anchors each.

    Attributes:
        matches: (K, 2, A) int64: whether the anchor fits the true length, -1 where that is unknown.
        log_scales: (K, 2, A) float32 logarithm of true length over anchor; NaN where the anchor does not fit.
    """

    matches: Tensor
    log_scales: Tensor


def anchor_targets(lengths: Tensor, true_lengths: Tensor) -> AnchorTargets:
    """AnchorTargets of segments whose true lengths are known.

    An anchor fits where the shorter of it and the true length is at least half of the longer.

    Args:
        lengths: (K, 2) frames, positive.
        true_lengths: (K, 2) frames, 0 or less where unknown.
    """
    anchors = lengths.double()[..., None] * torch.tensor(ANCHORS, dtype=torch.float64)
    truth = true_lengths.double()[..., None]
    known = truth > 0
    overlap = torch.minimum(truth, anchors) / torch.maximum(truth, anchors)
    fits = known & (overlap >= _LEAST_OVERLAP)
    log_scales = (truth / anchors).log().where(fits, torch.nan)
    return AnchorTargets(fits.long().where(known, -1), log_scales.float())


@dataclass(frozen=True)
class LengthEstimate:
    """What the network says about K pairs of segments.

    Attributes:
        scores: (K, 2, A) probability that the anchor fits.
        log_scales: (K, 2, A) logarithm of length over anchor.
    """

    scores: Tensor
    log_scales: Tensor

    def lengths(self, lengths: Tensor, max_log_scale: float = MAX_LOG_SCALE) -> Tensor:
        """(K, 2) float64 lengths by the anchors that score best, from those that were asked about.

        Args:
            lengths: (K, 2) frames.
            max_log_scale: Larger corrections of an anchor are cut to this.
        """
        best = self.scores.argmax(2, keepdim=True)
        anchors = torch.tensor(ANCHORS, dtype=torch.float64)[best[..., 0]]
        scales = self.log_scales.double().gather(2, best)[..., 0].clamp(-max_log_scale, max_log_scale).exp()
        return lengths.double() * anchors * scales

    def unit_scales(self) -> Tensor:
        """(K,) float64 factors by which the left side corrects the anchor 1."""
        return self.log_scales[:, 0, UNIT_ANCHOR].double().clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE).exp()
