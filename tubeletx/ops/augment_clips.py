"""One pass from decoded bytes to what a network takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments

__all__ = ["augment_clips_"]

_operator = operator("augment_clips_")

_OUTPUTS = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
_NUM_FIELDS = 8


def augment_clips_(
    outputs: Sequence[Tensor],
    clips: Sequence[Tensor],
    windows: Tensor | None = None,
    flips: Tensor | None = None,
    color: Tensor | None = None,
    normalization: Sequence[float] = (0, 0, 0, 1, 1, 1),
    tubelets: Sequence[Tensor] = (),
    largest_patch: Sequence[int] = (),
) -> None:
    """Cuts, resizes, mirrors, pastes tubelets, jitters colours and normalises, into tensors that are given.

    1. The window of a clip is resized to the output: bilinear with antialiasing, as Pillow and torch's
       ``interpolate(antialias=True)`` do it, in integers (``csrc/core/resize_bytes.h``), within 0.55 levels of float64
       up to an eightfold reduction. Where `flips` say so, it is mirrored left to right.
    2. Patches are cropped from the first clip as it is then, and pasted onto all, as `sample_and_paste_` does.
    3. Brightness, contrast about the mean grey of the clip, saturation, hue, normalisation: one affine map of the
       bytes, computed in float32 without fused multiply-adds. Nothing is clamped between the steps.

    Bytes and floats are the same bits on every processor and device. `AugmentClips` draws the arguments, and calls
    this.

    Args:
        outputs: V clips, 1 to 8, that are written; of one shape (B, 3, T, H, W), dtype and device. uint8, the clips
            after step 2; or float32, bfloat16 or float16. The frames must be dense in the order of
            `torch.channels_last_3d`.
        clips: What they are made of, uint8: V of (B, 3, T, any height, any width); or, of sizes of their own,
            B times V of (1, 3, T, any height, any width), those of the first sample first. Any strides, fastest as
            `torch.channels_last_3d`.
        windows: x0, y0, x1, y1 of what is shown of each, half open, inside the clip; (B, V, 4) int32. None: all of it.
        flips: Which are mirrored; (B, V) bool. None: none.
        color: Factors of brightness, contrast, saturation, and turns of the hue; (B, V, 4) float32. None: 1, 1, 1, 0.
        normalization: What is subtracted from red, green, blue in [0, 1], then what they are divided by.
        tubelets: None, or `centers`, `linear`, `patch_frame`, `patch_box`, `shape`, `edge`, `opacity`, `order` as
            `sample_tubelets` gives them for H x W.
        largest_patch: (Hp, Wp) that hold any patch. Devices whose values cannot be looked at make room for it.

    Raises:
        ValueError: An argument has the wrong shape, dtype, device or value; the message names it. On a GPU the values
            in tensors are not looked at: windows and boxes are moved inside.
        TypeError: An argument has another type.
    """
    outputs, clips, tubelets = list(outputs), list(clips), list(tubelets)
    arguments.require_list("outputs", outputs)
    arguments.require_list("clips", clips)
    for name, tensor in (("windows", windows), ("flips", flips), ("color", color)):
        if tensor is not None:
            arguments.require_tensors(**{name: tensor})
    arguments.require_list("tubelets", tubelets)
    for name, tensor in (("color", color), *(("outputs", output) for output in outputs)):
        arguments.refuse_tangents("augment_clips_", **{name: tensor})
        arguments.refuse_gradient("augment_clips_", **{name: tensor})
    for field in tubelets:
        arguments.refuse_tangents("augment_clips_", tubelets=field)
        arguments.refuse_gradient("augment_clips_", tubelets=field)
    largest = arguments.require_integers(largest_patch, "largest_patch")
    _operator(outputs, clips, windows, flips, color, normalization, tubelets, largest)


def _fake(
    outputs: list[Tensor],
    clips: list[Tensor],
    windows: Tensor | None,
    flips: Tensor | None,
    color: Tensor | None,
    normalization: Sequence[float],
    tubelets: list[Tensor],
    largest_patch: Sequence[int],  # noqa: ARG001
) -> None:
    if not 0 < len(outputs) <= arguments.MAX_CLIPS:
        raise ValueError(f"outputs: got {len(outputs)} clips, needs 1 to {arguments.MAX_CLIPS}")
    first, count = outputs[0], len(outputs)
    arguments.check_dtype(first, "outputs", *_OUTPUTS)
    arguments.check_shape(first, "outputs", (None, 3, None, None, None), "(B, 3, T, H, W)")
    batch, _, num_frames = first.shape[:3]
    for output in outputs:
        arguments.check_dtype(output, "outputs", first.dtype)
        arguments.check_shape(output, "outputs", first.shape, "the shape of the first output")
        arguments.check_device(output, "outputs", first, "the first output")
    if len(clips) not in (count, batch * count):
        raise ValueError(
            f"clips: got {len(clips)} clips, needs one for each of {count} outputs, or one for each of {batch} samples "
            "of each"
        )
    of_each = batch if len(clips) == count else 1
    for clip in clips:
        arguments.check_dtype(clip, "clips", torch.uint8)
        arguments.check_shape(clip, "clips", (of_each, 3, num_frames, None, None), "(B or 1, 3, T, height, width)")
        arguments.check_device(clip, "clips", first, "outputs")
    wanted = {
        "windows": (windows, torch.int32, (batch, count, 4), "(B, V, 4)"),
        "flips": (flips, torch.bool, (batch, count), "(B, V)"),
        "color": (color, torch.float32, (batch, count, 4), "(B, V, 4)"),
    }
    for name, (tensor, dtype, expected, meaning) in wanted.items():
        if tensor is not None:
            arguments.check_tensor(tensor, name, dtype, expected, meaning, first, "outputs")
    if color is not None and first.dtype == torch.uint8:
        raise ValueError("color: is given, needs outputs of floats; bytes stay as they are")
    if len(normalization) != 6:
        raise ValueError(f"normalization: got {len(normalization)} numbers, needs 6")
    if not tubelets:
        return
    if len(tubelets) != _NUM_FIELDS:
        raise ValueError(f"tubelets: got {len(tubelets)} tensors, needs {_NUM_FIELDS} or none")
    if tubelets[0].dim() != 4:
        raise ValueError(f"centers: got shape {tuple(tubelets[0].shape)}, needs (B, M, T, 2)")
    centers, linear, patch_frame, patch_box, shape, edge, opacity, order = tubelets
    each = (batch, centers.shape[1])
    lies_with = (first, "outputs")
    arguments.check_tensor(patch_frame, "patch_frame", torch.int32, each, "(B, M)", *lies_with)
    arguments.check_tensor(patch_box, "patch_box", torch.int32, (*each, 4), "(B, M, 4)", *lies_with)
    arguments.check_geometry(*each, num_frames, centers, linear, shape, edge, opacity, order, *lies_with)


torch.library.register_fake("tubeletx::augment_clips_", _fake)
