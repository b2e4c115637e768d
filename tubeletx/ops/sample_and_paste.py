"""Drawing tubelets and pasting patches of the first clip in one call, with no tensor of patches between."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments
from tubeletx.ops.sample_tubelets import PackedTubelets, TubeletFields
from tubeletx.ops.sample_tubelets import fake as fake_sample

__all__ = ["sample_and_paste_", "sample_and_paste_packed_"]

_operator = operator("sample_and_paste_")


def sample_and_paste_(
    clips: Sequence[Tensor],
    sample_ids: Tensor,
    settings: Sequence[float],
    *,
    largest_patch: tuple[int, int],
    seed: int = 0,
    epoch: int | Tensor = 0,
) -> TubeletFields:
    """Draws the tubelets of each sample, crops their patches from the first clip and pastes them onto all, in place.

    The same bits as `sample_tubelets`, `crop_patches` and `paste_tubelets_` give one after the other. Only for bytes:
    what floats need besides, a gradient, takes the patches.

    Args:
        clips: V clips, 1 to 8, of one shape (B, C, T, H, W) and device, uint8; any strides, fastest as
            `torch.channels_last_3d` with C = 3.
        sample_ids: What tells the samples apart; (B,) int64.
        settings: As `sample_tubelets` takes them.
        largest_patch: (Hp, Wp) that hold any patch, as `TubeletConfig.max_patch_size` gives them; pixels. Devices whose
            values cannot be looked at make room for it.
        seed: Any 64-bit integer, signed or not.
        epoch: From 0 to 2^32 - 1, or a tensor of one such integer, int64.

    Returns:
        The fields of the tubelets, as `sample_tubelets` gives them.

    Raises:
        ValueError: An argument has the wrong shape, dtype, device or value; the message names it.
        TypeError: An argument has another type.
    """
    return sample_and_paste_packed_(clips, sample_ids, settings, largest_patch, seed, epoch).fields()


def sample_and_paste_packed_(
    clips: Sequence[Tensor],
    sample_ids: Tensor,
    settings: Sequence[float],
    largest_patch: tuple[int, int],
    seed: int,
    epoch: int | Tensor,
) -> PackedTubelets:
    """What `sample_and_paste_` does, with fields that are cut out when they are wanted."""
    clips = list(clips)
    arguments.require_list("clips", clips)
    arguments.require_tensors(sample_ids=sample_ids)
    epoch_tensor, epoch = (epoch, 0) if isinstance(epoch, Tensor) else (None, arguments.require_integer(epoch, "epoch"))
    seed, largest = arguments.signed_seed(seed), arguments.require_integers(largest_patch, "largest_patch")
    numbers, integers = _operator(clips, sample_ids, seed, epoch, settings, largest, epoch_tensor)
    return PackedTubelets(numbers, integers, sample_ids.shape[0], int(settings[0]), clips[0].shape[2])


def check_sampled_clips(clips: list[Tensor], sample_ids: Tensor) -> None:
    """What fake kernels refuse of clips that tubelets are drawn for."""
    if not 0 < len(clips) <= arguments.MAX_CLIPS:
        raise ValueError(f"clips: got {len(clips)} clips, needs 1 to {arguments.MAX_CLIPS}")
    for clip in clips:
        arguments.check_dtype(clip, "clips", torch.uint8)
        arguments.check_shape(clip, "clips", (None,) * 5, "(B, C, T, H, W)")
        arguments.check_shape(clip, "clips", clips[0].shape, "the shape of the first clip")
        arguments.check_device(clip, "clips", sample_ids, "sample_ids")
    arguments.check_shape(sample_ids, "sample_ids", clips[0].shape[:1], "one id for each sample")


def _fake(
    clips: list[Tensor],
    sample_ids: Tensor,
    seed: int,
    epoch: int,
    settings: Sequence[float],
    largest_patch: Sequence[int],  # noqa: ARG001
    epoch_tensor: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    check_sampled_clips(clips, sample_ids)
    num_frames, height, width = clips[0].shape[2:]
    return fake_sample(sample_ids, seed, epoch, num_frames, height, width, settings, epoch_tensor)


torch.library.register_fake("tubeletx::sample_and_paste_", _fake)
