"""From decoded clips to what a network takes, as a step of a data pipeline."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tubeletx._layout import axes_of, check_layout
from tubeletx._settings import check_flag, check_number, check_numbers, check_range, make_plain
from tubeletx.config import TubeletConfig
from tubeletx.ops._arguments import require_integers, require_seed
from tubeletx.ops.augment_clips import augment_clips_
from tubeletx.ops.sample_augmentation import sample_augmentation
from tubeletx.sampler import TubeletSampler
from tubeletx.tubelets import Tubelets

__all__ = ["AugmentClips", "AugmentConfig", "Augmentation"]

_SMALLEST, _LARGEST = 1e-6, 1e6
_OUTPUTS = (torch.float32, torch.bfloat16, torch.float16, torch.uint8)

Pair = tuple[float, float]
Triple = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """The law that augmentations are drawn from; a range (a, b) is uniform.

    Attributes:
        area: Share of the frame that a window covers, as in torchvision's RandomResizedCrop; None shows whole frames.
        ratio: Width / height of a window; its logarithm is uniform.
        flip: Probability that a clip is mirrored left to right.
        jitter: Probability of each of the next four; all frames of a clip have the same colours.
        brightness: Factor drawn from [max(0, 1 - b), 1 + b].
        contrast: Likewise, about the mean grey of the clip.
        saturation: Likewise.
        hue: Rotation drawn from [-h, h] turns, h up to 0.5.
        grayscale: Probability that a clip loses its colours.
        same_color: Whether all clips of a sample have the colours of the first.
        mean: Subtracted from red, green and blue in [0, 1].
        std: What they are then divided by.
    """

    area: Pair | None = (0.08, 1)
    ratio: Pair = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grayscale: float = 0
    same_color: bool = False
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        make_plain(self)
        if self.area is not None:
            check_range("area", self.area, _SMALLEST, 1)
        check_range("ratio", self.ratio, _SMALLEST, _LARGEST)
        for name in ("flip", "jitter", "grayscale"):
            check_number(name, getattr(self, name), 0, 1)
        for name in ("brightness", "contrast", "saturation"):
            check_number(name, getattr(self, name), 0, _LARGEST)
        check_number("hue", self.hue, 0, 0.5)
        check_flag("same_color", self.same_color)
        check_numbers("mean", self.mean, 3, 3, -_LARGEST, _LARGEST, "three numbers")
        check_numbers("std", self.std, 3, 3, _SMALLEST, _LARGEST, "three positive numbers")

    def settings(self) -> list[float]:
        """The list of settings that `tubeletx.ops.sample_augmentation` takes."""
        return [
            *map(float, self.area or (0, 0)),
            *map(float, self.ratio),
            float(self.flip),
            float(self.jitter),
            float(self.brightness),
            float(self.contrast),
            float(self.saturation),
            float(self.hue),
            float(self.grayscale),
            float(self.same_color),
        ]


@dataclasses.dataclass
class Augmentation:
    """What was drawn for a batch; may be logged, edited and passed in again.

    Attributes:
        windows: (B, V, 4) int32, x0, y0, x1, y1 of what is shown of each clip, half open, pixels of the clip.
        flips: (B, V) bool, whether a clip is mirrored.
        color: (B, V, 4) float32, factors of brightness, contrast, saturation, and turns of the hue.
        tubelets: What is pasted, at the size of the output; patches come from the first clip as it is shown.
    """

    windows: Tensor
    flips: Tensor
    color: Tensor
    tubelets: Tubelets | None = None


class AugmentClips(nn.Module):
    """Makes network input of decoded clips: window, antialiased resize, mirroring, tubelets, colours, normalisation.

    All of it is one operator on the CPU and on CUDA (`tubeletx.ops.augment_clips_`), without intermediate clips of
    floats. What a sample gets depends on (seed, sample id, epoch) alone: not on batch, position, device or workers.

    Example:
        >>> augment = AugmentClips(112, tubelets=TubeletConfig.preset("paper"), seed=0, dtype=torch.bfloat16)
        >>> (query, key), drawn = augment([clip_1, clip_2], sample_ids, epoch)  # uint8 (B, 3, T, any height and width)

    For evaluation, `AugmentConfig(area=None, flip=0, jitter=0)` resizes and normalises whole frames; other windows are
    passed in.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 112,
        config: AugmentConfig | None = None,
        *,
        tubelets: TubeletConfig | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        layout: str | None = None,
    ) -> None:
        """Makes the augmentation.

        Args:
            size: Of the output, pixels: the side of a square, or (H, W).
            config: The law of windows, mirroring and colours; None is `AugmentConfig()`.
            tubelets: The law of the tubelets; None pastes none.
            seed: Any 64-bit integer, signed or not.
            dtype: Of the output: float32, bfloat16, float16; or uint8, which leaves colours as they are.
            layout: Axes of the clips, an order of the letters BCTHW such as "BTHWC"; None is "BCTHW", and "THWC" for
                clips without a batch.

        Raises:
            ValueError: An argument is out of range; the message names it.
            TypeError: An argument has another type.
        """
        super().__init__()
        check_layout(layout)
        sides = require_integers(size if isinstance(size, tuple | list) else (size, size), "size")
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"size: got {size}, needs a positive number of pixels, or two, (H, W)")
        self.size = (sides[0], sides[1])
        if dtype not in _OUTPUTS:
            raise ValueError(f"dtype: got {dtype}, needs {' or '.join(map(str, _OUTPUTS))}")
        self.config = AugmentConfig() if config is None else config
        if not isinstance(self.config, AugmentConfig):
            raise TypeError(f"config: got {config!r}, needs an AugmentConfig or None")
        self.sampler = None if tubelets is None else TubeletSampler(tubelets, seed)
        self.seed = require_seed(seed)
        self.dtype = dtype
        self.layout = layout
        self._settings = self.config.settings()

    def draw(
        self, sample_ids: Tensor, sizes: Sequence[tuple[int, int]], num_frames: int, epoch: int | Tensor = 0
    ) -> Augmentation:
        """Draws without augmenting.

        Args:
            sample_ids: What tells the samples apart; (B,) int64.
            sizes: (height, width) of each of the V clips, pixels.
            num_frames: T.
            epoch: From 0 to 2^32 - 1, or a tensor of one such integer, int64.

        Returns:
            What calling the module on clips of these sizes draws.
        """
        drawn = self._draw_augmentation(sample_ids, sizes, epoch)
        return Augmentation(*drawn, self._draw_tubelets(sample_ids, num_frames, epoch))

    @torch.no_grad()
    def forward(
        self,
        clips: Sequence[Tensor | Sequence[Tensor]],
        sample_ids: Tensor,
        epoch: int | Tensor = 0,
        *,
        augmentation: Augmentation | None = None,
        out: Sequence[Tensor] | None = None,
    ) -> tuple[list[Tensor], Augmentation]:
        """Augments the V clips of each sample.

        Args:
            clips: V clips, 1 to 8, the patches of the tubelets come from the first. Each is a batch of one size,
                (B, 3, T, any height, any width) or as `layout` says, or a sequence of B clips of any sizes, without the
                axis B; uint8.
            sample_ids: What tells the samples apart; (B,) int64 on the device of the clips.
            epoch: From 0 to 2^32 - 1, or a tensor of one such integer, int64.
            augmentation: What to do instead of drawing.
            out: Tensors to write to instead of new ones; V of (B, 3, T, H, W) in the dtype of the module,
                `torch.channels_last_3d`.

        Returns:
            V clips (B, 3, T, H, W), `torch.channels_last_3d`; and what was drawn.

        Raises:
            ValueError: An argument has another shape, dtype or device than the above; the message names it.
        """
        batch = len(sample_ids)
        if isinstance(clips, Tensor):  # type: ignore[unreachable]
            raise TypeError("clips: got a tensor, needs a list of the clips of each sample, such as [clips] for one")
        if not clips:
            raise ValueError("clips: got none, needs at least one")
        if all(isinstance(clip, Tensor) for clip in clips):
            views = [self._arranged(clip, batch) for clip in clips]  # type: ignore[arg-type]
            rows = [views]
        else:
            for clip in clips:
                if len(clip) != batch:
                    raise ValueError(f"clips: got {len(clip)} clips for {batch} sample_ids, needs one for each")
            rows = [[self._arranged(one, 1) for one in sample] for sample in zip(*clips, strict=True)]
            views = [view for row in rows for view in row]
            if not views:
                raise ValueError("clips: got empty lists, needs clips, or a batch of one size")
        if augmentation is None:
            sizes = [tuple((view.shape[3], view.shape[4]) for view in row) for row in rows]
            augmentation = self._draw_rows(sample_ids, sizes, views[0].shape[2], epoch)
        if out is None:
            out = self._new_outputs(views[0], batch, len(clips))
        self._augment(views, augmentation, out)
        return list(out), augmentation

    def _draw_rows(
        self, sample_ids: Tensor, sizes: list[tuple[tuple[int, int], ...]], num_frames: int, epoch: int | Tensor
    ) -> Augmentation:
        """Draws for samples of sizes of their own, or all of one."""
        if len(set(sizes)) == 1:
            return self.draw(sample_ids, sizes[0], num_frames, epoch)
        # Those of one size are drawn together.
        order = sorted(range(len(sizes)), key=sizes.__getitem__)
        ids = sample_ids[torch.tensor(order).to(sample_ids.device)]
        parts, first = [], 0
        for size, group in itertools.groupby(order, key=sizes.__getitem__):
            last = first + len(list(group))
            parts.append(self._draw_augmentation(ids[first:last], size, epoch))
            first = last
        places = torch.tensor(order).argsort().to(sample_ids.device)
        windows, flips, color = (torch.cat(fields)[places] for fields in zip(*parts, strict=True))
        return Augmentation(windows, flips, color, self._draw_tubelets(sample_ids, num_frames, epoch))

    def _draw_augmentation(
        self, sample_ids: Tensor, sizes: Sequence[tuple[int, int]], epoch: int | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        sides = [side for size in sizes for side in size]
        return sample_augmentation(sample_ids, sides, self._settings, seed=self.seed, epoch=epoch)

    def _draw_tubelets(self, sample_ids: Tensor, num_frames: int, epoch: int | Tensor) -> Tubelets | None:
        if self.sampler is None:
            return None
        height, width = self.size
        return self.sampler(sample_ids, num_frames=num_frames, height=height, width=width, epoch=epoch)

    def _arranged(self, clip: Tensor, batch: int) -> Tensor:
        return axes_of(clip, self.layout, batch).arrange(clip)

    def _new_outputs(self, view: Tensor, batch: int, count: int) -> list[Tensor]:
        shape = (batch, view.shape[2], *self.size, 3)
        return [view.new_empty(shape, dtype=self.dtype).permute(0, 4, 1, 2, 3) for _ in range(count)]

    def _augment(self, views: list[Tensor], augmentation: Augmentation, out: Sequence[Tensor]) -> None:
        floats = self.dtype != torch.uint8
        drawn = augmentation.tubelets
        augment_clips_(
            out,
            views,
            augmentation.windows,
            augmentation.flips,
            augmentation.color if floats else None,
            (*self.config.mean, *self.config.std),
            () if drawn is None else list(drawn.tensors().values()),
            () if drawn is None else drawn.max_patch_size,
        )

    def extra_repr(self) -> str:
        """The settings, for `print`."""
        return f"{self.size}, {self.config!r}, tubelets={self.sampler!r}, dtype={self.dtype}, layout={self.layout!r}"
