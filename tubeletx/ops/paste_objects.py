"""Drawing tubelets and pasting images of objects in one call, with no tensor of patches between."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments
from tubeletx.ops.paste_tubelets import paste_tubelets_
from tubeletx.ops.sample_and_paste import check_sampled_clips
from tubeletx.ops.sample_tubelets import fake as fake_sample
from tubeletx.ops.sample_tubelets import sample_packed

__all__ = ["choose_objects", "fit_objects", "paste_objects_"]

_operator = operator("paste_objects_")


def paste_objects_(
    clips: Sequence[Tensor],
    sample_ids: Tensor,
    settings: Sequence[float],
    texels: Tensor,
    sizes: Tensor,
    first_row: Tensor,
    *,
    seed: int = 0,
    epoch: int | Tensor = 0,
) -> None:
    """Draws the tubelets of each sample and an object for each of them, and pastes these onto all clips, in place.

    Args:
        clips: V clips, 1 to 8, of one shape (B, 3, T, H, W) and device, uint8; any strides, fastest as
            `torch.channels_last_3d`.
        sample_ids: What tells the samples apart; (B,) int64.
        settings: As `sample_tubelets` takes them.
        texels: Images of N objects in L sizes each, (N R + S, S * 4) uint8: rows of S RGBA texels, R for an object.
        sizes: Width and height of each of them, the largest first, pixels; (N, L, 2) int32.
        first_row: Of each level among the R rows of an object; (L,) int64.
        seed: Any 64-bit integer, signed or not.
        epoch: From 0 to 2^32 - 1, or a tensor of one such integer, int64.

    Raises:
        ValueError: An argument has the wrong shape, dtype, device or, on the CPU, value; the message names it.
        TypeError: An argument has another type.
    """
    clips = list(clips)
    arguments.require_list("clips", clips)
    arguments.require_tensors(sample_ids=sample_ids, texels=texels, sizes=sizes, first_row=first_row)
    epoch_tensor, epoch = (epoch, 0) if isinstance(epoch, Tensor) else (None, arguments.require_integer(epoch, "epoch"))
    _operator(
        clips, sample_ids, arguments.signed_seed(seed), epoch, settings, texels, sizes, first_row,
        epoch_tensor,
    )  # fmt: skip


def choose_objects(
    sample_ids: Tensor, num_tubelets: int, num_objects: int, *, seed: int = 0, epoch: int | Tensor = 0
) -> Tensor:
    """An object for each tubelet, each with the same chance; (B, M) int64."""
    arguments.require_tensors(sample_ids=sample_ids)
    seed = _mix(arguments.require_seed(seed) % _INT64)
    key: int | Tensor
    if isinstance(epoch, Tensor):
        arguments.check_samples(sample_ids, 0, epoch)
        key = _mix_tensor(epoch.reshape(()) + _signed((seed + _GOLDEN) % _INT64))
    else:
        epoch = arguments.require_integer(epoch, "epoch")
        arguments.check_samples(sample_ids, epoch, None)
        if type(epoch) is int:
            key = _signed(_mix(seed + epoch))
        else:
            key = _mix_tensor(torch.full((), epoch, dtype=torch.int64) + _signed((seed + _GOLDEN) % _INT64))
    places = torch.arange(num_tubelets, device=sample_ids.device) * _signed(_GOLDEN)
    bits = _mix_tensor(sample_ids[:, None] * _signed(_MULTIPLIERS[0]) + (places + key))
    # The high half of a product of 31 bits and the count: even to one part in 2^31 / count.
    return (_shift(bits, 33) * num_objects) >> 31


def fit_objects(
    texels: Tensor, sizes: Tensor, first_row: Tensor, objects: Tensor, patch_size: Tensor
) -> tuple[Tensor, Tensor]:
    """The images of some objects, each in the smallest size that need not be enlarged, else in the largest.

    Args:
        texels: As `paste_objects_` takes them, like `sizes` and `first_row`.
        sizes: (N, L, 2).
        first_row: (L,).
        objects: Which objects; (B, M) int64.
        patch_size: Width and height that they are to fill, pixels; (B, M, 2) int32.

    Returns:
        RGBA patches, (B, M, 4, S, S) uint8, and the size of each image in them, (B, M, 2) int32.
    """
    side = texels.shape[1] // 4
    rows_per_object = (len(texels) - side) // len(sizes)
    of_object = sizes[objects]
    level = (of_object[:, :, 1:] >= patch_size[:, :, None]).all(-1).sum(-1)
    size = of_object.take_along_dim(level[..., None, None], dim=2)[:, :, 0]
    first = objects * rows_per_object + first_row[level]
    rows = first[..., None] + torch.arange(side, device=first.device)
    found = texels.index_select(0, rows.flatten())
    return found.view(*objects.shape, side, side, 4).permute(0, 1, 4, 2, 3), size


def _check_objects(clips: list[Tensor], sample_ids: Tensor, texels: Tensor, sizes: Tensor, first_row: Tensor) -> None:
    check_sampled_clips(clips, sample_ids)
    if clips[0].shape[1] != 3:
        raise ValueError(f"clips: got {clips[0].shape[1]} channels, needs 3 for objects of RGBA")
    for name, tensor, dtype, dimensions in (
        ("texels", texels, torch.uint8, 2),
        ("sizes", sizes, torch.int32, 3),
        ("first_row", first_row, torch.int64, 1),
    ):
        arguments.check_device(tensor, name, sample_ids, "sample_ids")
        arguments.check_dtype(tensor, name, dtype)
        if tensor.dim() != dimensions:
            raise ValueError(f"{name}: got shape {tuple(tensor.shape)}, needs {dimensions} axes")


def _fake(
    clips: list[Tensor],
    sample_ids: Tensor,
    seed: int,
    epoch: int,
    settings: Sequence[float],
    texels: Tensor,
    sizes: Tensor,
    first_row: Tensor,
    epoch_tensor: Tensor | None = None,
) -> None:
    _check_objects(clips, sample_ids, texels, sizes, first_row)
    num_frames, height, width = clips[0].shape[2:]
    fake_sample(sample_ids, seed, epoch, num_frames, height, width, settings, epoch_tensor)


def _one_after_the_other(
    clips: list[Tensor],
    sample_ids: Tensor,
    seed: int,
    epoch: int,
    settings: Sequence[float],
    texels: Tensor,
    sizes: Tensor,
    first_row: Tensor,
    epoch_tensor: Tensor | None = None,
) -> None:
    _check_objects(clips, sample_ids, texels, sizes, first_row)
    num_frames, height, width = clips[0].shape[2:]
    at = epoch if epoch_tensor is None else epoch_tensor
    packed = sample_packed(sample_ids, settings, num_frames, height, width, seed, at)
    centers, linear, _, patch_box, shape, edge, opacity, order = packed.fields()
    objects = choose_objects(sample_ids, centers.shape[1], len(sizes), seed=seed, epoch=at)
    outline = patch_box[..., 2:] - patch_box[..., :2]
    patches, size = fit_objects(texels, sizes, first_row, objects, outline)
    fitted = linear * (outline / size)[:, :, None, None]
    paste_tubelets_(clips, patches, size, centers, fitted, shape, edge, opacity, order)


torch.library.register_fake("tubeletx::paste_objects_", _fake)
torch.library.register_kernel("tubeletx::paste_objects_", "cuda", _one_after_the_other)


# The finaliser of SplitMix64 (Steele, Lea, Flood 2014): exact integer arithmetic, so the same objects on every device.
_INT64 = 1 << 64
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)


def _mix(value: int) -> int:
    value = (value + _GOLDEN) % _INT64
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        value = ((value ^ (value >> shift)) * multiplier) % _INT64
    return value


def _mix_tensor(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, _SHIFTS[0])) * _signed(_MULTIPLIERS[0])
    value = (value ^ _shift(value, _SHIFTS[1])) * _signed(_MULTIPLIERS[1])
    return value ^ _shift(value, _SHIFTS[2])


def _shift(value: Tensor, bits: int) -> Tensor:
    """Shifts right and fills with zeros, which int64 does not by itself."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - _INT64 if value >= _INT64 // 2 else value
