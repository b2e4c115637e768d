"""Random points to a smooth path."""

from __future__ import annotations

import torch
from torch import Tensor

from tubeletx import _library  # noqa: F401  (loads the operators)

__all__ = ["smooth_path"]


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
            not positive.
    """
    result: Tensor = torch.ops.tubeletx.smooth_path(points, sigma, extent, offset, num_frames)
    return result


@torch.library.register_fake("tubeletx::smooth_path")  # type: ignore[untyped-decorator]
def _(points: Tensor, sigma: float, extent: Tensor | None, offset: Tensor | None, num_frames: int) -> Tensor:  # noqa: ARG001
    return points.new_empty((points.shape[0], num_frames, points.shape[2]))
