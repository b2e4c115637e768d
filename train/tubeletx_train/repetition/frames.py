"""Frames as the counting network sees them: whole, small and square."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from tubeletx_train.data import VideoRecord, open_record

# Frames decoded at once: bounds what a long video holds at its own size.
_CHUNK = 256


def letterbox(frames: npt.NDArray[np.uint8], size: int) -> Tensor:
    """Bring the longer side to a size and fill the rest with black.

    Args:
        frames: (T, H, W, 3) uint8.
        size: Side S, pixels.

    Returns:
        (T, S, S, 3) uint8, the picture in the middle.
    """
    height, width = frames.shape[1:3]
    scale = size / max(height, width)
    new_height, new_width = max(round(height * scale), 1), max(round(width * scale), 1)
    planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    small = interpolate(planes, (new_height, new_width), mode="bilinear", antialias=True)
    left, top = (size - new_width) // 2, (size - new_height) // 2
    framed = pad(small, (left, size - new_width - left, top, size - new_height - top))
    return framed.permute(0, 2, 3, 1).contiguous()


def read_letterboxed(
    record: VideoRecord, size: int, reader: str, first: int = 0, stop: int | None = None, stride: int = 1
) -> Tensor:
    """Frames of a video, every `stride`-th from `first` to `stop` (exclusive, the end by default).

    Returns:
        (T, S, S, 3) uint8.

    Raises:
        VideoError: It cannot be read, or ends before.
    """
    known = (record.width, record.height) if record.width and record.height else None
    short_side = None if known is None else max(round(size * min(known) / max(known)), 1)
    video = open_record(record, short_side, reader)
    wanted = range(first, video.num_frames if stop is None else stop, stride)
    parts = [wanted[start : start + _CHUNK] for start in range(0, len(wanted), _CHUNK)]
    return torch.cat([letterbox(video.read(part), size) for part in parts])
