"""Random points to a smooth path."""

from __future__ import annotations

import torch
from torch import Tensor

from tubeletx._library import operator
from tubeletx.ops import _arguments as arguments

__all__ = ["smooth_path"]

_operator = operator("smooth_path")


def smooth_path(
    points: Tensor,
    sigma: float,
    extent: Tensor | None = None,
    offset: Tensor | None = None,
    *,
    num_frames: int,
) -> Tensor:
    """Smooths N paths of P points with a Gaussian and down-samples them to T frames (the paper's Eq. 6).

    The filter is that of SciPy's `gaussian_filter1d(sigma, mode="reflect", truncate=4)`, summed in double precision.
    With `extent` each axis is then min-max normalised over its P smoothed points and spread over [0, extent]; an axis
    that does not move becomes 0. `offset` is added last. Frame t takes point floor(t (P - 1) / (T - 1) + 1/2).

    Args:
        points: (N, P, D), float32.
        sigma: Standard deviation of the Gaussian, in points, from 0 (no smoothing) to 65536.
        extent: Size of each path's bounding box before down-sampling; (N,) or (N, D), float32. None leaves the
            smoothed path as it is.
        offset: Translation of each path; (N, D), float32.
        num_frames: T, the number of frames.

    Returns:
        (N, T, D) float32.

    Raises:
        ValueError: A shape or dtype differs from the above, `sigma` is negative, NaN or too large, or `num_frames` is
            not positive, or an argument requires a gradient, which there is none.
        TypeError: An argument is no tensor, or `num_frames` no integer.
        NotImplementedError: An argument carries a forward-mode tangent.
    """
    tensors = {"points": points}
    if extent is not None:
        tensors["extent"] = extent
    if offset is not None:
        tensors["offset"] = offset
    arguments.require_tensors(**tensors)
    arguments.refuse_gradient("smooth_path", **tensors)
    arguments.refuse_tangents("smooth_path", **tensors)
    num_frames = arguments.require_integer(num_frames, "num_frames")
    return _operator(points, sigma, extent, offset, num_frames)  # type: ignore[no-any-return]


def _fake(points: Tensor, sigma: float, extent: Tensor | None, offset: Tensor | None, num_frames: int) -> Tensor:
    arguments.check_shape(points, "points", (None, None, None), "(N, P, D)")
    arguments.check_dtype(points, "points", torch.float32)
    rows, count, axes = points.shape
    arguments.check_positive(count, "points' number of points")
    if not 0 <= sigma <= _MAX_SIGMA:
        raise ValueError(f"sigma: got {sigma}, needs a number of points in [0, {_MAX_SIGMA}]")
    if extent is not None:
        expected = (rows,) if extent.dim() == 1 else (rows, axes)
        arguments.check_shape(extent, "extent", expected, "(N,) or (N, D)")
        arguments.check_dtype(extent, "extent", torch.float32)
        arguments.check_device(extent, "extent", points, "points")
    if offset is not None:
        arguments.check_shape(offset, "offset", (rows, axes), "(N, D)")
        arguments.check_dtype(offset, "offset", torch.float32)
        arguments.check_device(offset, "offset", points, "points")
    arguments.check_positive(num_frames, "num_frames")
    return points.new_empty((rows, num_frames, axes))


_MAX_SIGMA = 65536

torch.library.register_fake("tubeletx::smooth_path", _fake)
