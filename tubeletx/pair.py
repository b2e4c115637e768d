"""Two clips into a tubelet-contrastive positive pair."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tubeletx._layout import axes_of, check_layout
from tubeletx.config import TubeletConfig
from tubeletx.ops._arguments import require_tensors
from tubeletx.sampler import TubeletSampler
from tubeletx.tubelets import Tubelets

__all__ = ["TubeletPair"]


class TubeletPair(nn.Module):
    """Pastes the same moving patches, cropped from clip 1, onto two clips of different videos (section 3.1).

    Example:
        >>> pair = TubeletPair(TubeletConfig.preset("paper"), seed=0)
        >>> query_clip, key_clip, tubelets = pair(clip_1, clip_2, sample_ids, epoch=epoch)
    """

    def __init__(
        self, config: TubeletConfig | None = None, seed: int = 0, inplace: bool = False, *, layout: str | None = None
    ) -> None:
        """Makes the pair maker.

        Args:
            config: The law of the tubelets; None is `TubeletConfig.preset("paper")`.
            seed: Any 64-bit integer, signed or not.
            inplace: Whether to write into the given clips instead of copies.
            layout: Axes of the clips, an order of the letters BCTHW such as "BTCHW". None is "BCTHW", where that gives
                uint8 clips 1 to 4 channels; other uint8 clips need a layout.

        Raises:
            ValueError: `layout` is none of the above.
        """
        super().__init__()
        check_layout(layout)
        if layout is not None and set(layout) != set("BCTHW"):
            raise ValueError(f"layout: got {layout!r}, needs an order of the letters BCTHW")
        self.sampler = TubeletSampler(config, seed)
        self.inplace = inplace
        self.layout = layout

    def forward(
        self, clip_1: Tensor, clip_2: Tensor, sample_ids: Tensor, epoch: int | Tensor = 0
    ) -> tuple[Tensor, Tensor, Tubelets]:
        """Makes a positive pair of each two clips.

        Args:
            clip_1: Clips that the patches are cropped from; (B, C, T, H, W), or as `layout` says; uint8 or floating
                point.
            clip_2: Clips of other videos, same shape, dtype and device.
            sample_ids: What tells the samples apart; (B,) int64 on the same device. The tubelets depend on the seed,
                these and the epoch alone.
            epoch: From 0 to 2^32 - 1, or a tensor of one such integer, int64.

        Returns:
            Both clips with the tubelets on them, and the tubelets.

        Raises:
            ValueError: An argument has another shape, dtype or device than the above, or the clips share memory that is
                written; the message names it.
            TypeError: An argument is no tensor.
        """
        require_tensors(clip_1=clip_1, clip_2=clip_2, sample_ids=sample_ids)
        shape = clip_1.shape
        if len(shape) != 5:
            raise ValueError(f"clip_1: got shape {tuple(shape)}, needs (B, C, T, H, W)")
        axes = axes_of(clip_1, self.layout, shape[0], name="clip_1")
        if clip_2.shape != shape:
            raise ValueError(f"clip_2: got shape {tuple(clip_2.shape)}, needs that of clip_1, {tuple(shape)}")
        if clip_2.dtype != clip_1.dtype:
            raise ValueError(f"clip_2: got dtype {clip_2.dtype}, needs that of clip_1, {clip_1.dtype}")
        if sample_ids.shape != (axes.batch,):
            raise ValueError(f"sample_ids: got shape {tuple(sample_ids.shape)}, needs one id a clip, ({axes.batch},)")
        if clip_1.dtype == torch.uint8:
            if not self.inplace:
                clip_1, clip_2 = clip_1.clone(), clip_2.clone()
            tubelets = self.sampler.paste_crops([axes.arrange(clip_1), axes.arrange(clip_2)], sample_ids, epoch=epoch)
            return clip_1, clip_2, tubelets
        view_1, view_2 = axes.arrange(clip_1), axes.arrange(clip_2)
        num_frames, height, width = view_1.shape[2:]
        tubelets = self.sampler(sample_ids, num_frames=num_frames, height=height, width=width, epoch=epoch)
        patches = tubelets.crop(view_1)
        pasted_1, pasted_2 = tubelets.paste([view_1, view_2], patches, inplace=self.inplace)
        if self.inplace:
            return clip_1, clip_2, tubelets
        return axes.restore(pasted_1), axes.restore(pasted_2), tubelets

    def extra_repr(self) -> str:
        """The settings, for `print`."""
        return f"{self.sampler!r}, layout={self.layout!r}, inplace={self.inplace}"
