"""Draws how clips are augmented."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments

__all__ = ["sample_augmentation"]

_operator = operator("sample_augmentation")

_NUM_SETTINGS = 12


def sample_augmentation(
    sample_ids: Tensor,
    sizes: Sequence[int],
    settings: Sequence[float],
    *,
    seed: int = 0,
    epoch: int | Tensor = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws a window, whether it is mirrored, and colour factors for each of the V clips of each sample.

    The draws are a pure function of (seed, sample id, epoch, settings, sizes), the same on every device, at any batch
    size and position in the batch, and independent of those of the tubelets. Clip v has the same ones however many
    clips there are.

    Args:
        sample_ids: What tells the samples apart, any integers; (B,) int64.
        sizes: Height and width of the first clip, of the second, and so on; pixels.
        settings: As `AugmentConfig.settings()` makes them.
        seed: Key of the random stream, any 64-bit integer, signed or not.
        epoch: From 0 to 2^32 - 1; another epoch draws others. A tensor of one element, int64, as for
            `sample_tubelets`.

    Returns:
        On the device of `sample_ids`:
            windows: (B, V, 4) int32, x0, y0, x1, y1, half open, pixels of the clip.
            flips: (B, V) bool.
            color: (B, V, 4) float32, factors of brightness, contrast, saturation, and turns of the hue.

    Raises:
        ValueError: An argument has the wrong shape, dtype, device or value; the message names it.
        TypeError: An argument has another type.
    """
    arguments.require_tensors(sample_ids=sample_ids)
    sizes = arguments.require_integers(sizes, "sizes")
    epoch_tensor, epoch = (epoch, 0) if isinstance(epoch, Tensor) else (None, arguments.require_integer(epoch, "epoch"))
    return _operator(  # type: ignore[no-any-return]
        sample_ids, arguments.signed_seed(seed), epoch, sizes, settings, epoch_tensor
    )


def _fake(
    sample_ids: Tensor,
    seed: int,  # noqa: ARG001
    epoch: int,
    sizes: Sequence[int],
    settings: Sequence[float],
    epoch_tensor: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    arguments.check_samples(sample_ids, epoch, epoch_tensor)
    if not 0 < len(sizes) <= 2 * arguments.MAX_CLIPS or len(sizes) % 2:
        raise ValueError(
            f"sizes: got {len(sizes)} numbers, needs a height and a width for each of 1 to {arguments.MAX_CLIPS} clips"
        )
    if len(settings) != _NUM_SETTINGS:
        raise ValueError(f"settings: got {len(settings)} numbers, needs {_NUM_SETTINGS}")
    each = (sample_ids.shape[0], len(sizes) // 2)
    return (
        sample_ids.new_empty((*each, 4), dtype=torch.int32),
        sample_ids.new_empty(each, dtype=torch.bool),
        sample_ids.new_empty((*each, 4), dtype=torch.float32),
    )


torch.library.register_fake("tubeletx::sample_augmentation", _fake)
