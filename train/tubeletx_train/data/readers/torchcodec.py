"""Videos through TorchCodec, an optional package that needs FFmpeg's libraries on the system."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch.nn.functional import interpolate
from torchcodec.decoders import VideoDecoder

from tubeletx_train.data.errors import VideoError
from tubeletx_train.data.readers.media import Media
from tubeletx_train.data.readers.protocol import BaseReader, damaged, scaled_size, usable_rate


class TorchCodecReader(BaseReader):
    """TorchCodec on the CPU, single-threaded, in its exact mode; frames are resized after they are decoded.

    Of MP4, Matroska and WebM files it gives the frames that PyAV gives. Of H.264 of intra refresh, AVI with B-frames,
    time stamps below zero and MPEG program streams TorchCodec 0.13 gives others; at transport streams it fails.
    """

    def __init__(self, media: Media, short_side: int | None, size: tuple[int, int] | None) -> None:
        super().__init__(media.path)
        del size  # found in the file's head at no cost
        self._short_side = short_side
        try:
            self._video = VideoDecoder(
                media.path if media.content is None else media.content,
                dimension_order="NCHW",
                num_ffmpeg_threads=1,
                seek_mode="exact",
            )
            self._num_frames = int(self._video.metadata.num_frames or 0)
        except (RuntimeError, ValueError) as error:
            what = "holds no video stream" if "stream" in str(error).lower() else "cannot be opened as a video"
            raise VideoError(self._path, what) from None
        if self._num_frames < 1:
            raise VideoError(self._path, "holds no frames")

    @property
    def num_frames(self) -> int:
        """Frames in the file."""
        return self._num_frames

    @property
    def fps(self) -> float:
        """Average frames per second."""
        return usable_rate(self._video.metadata.average_fps)

    @property
    def decoder(self) -> str:
        """This one."""
        return "torchcodec"

    def _decode(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        try:
            frames = self._video.get_frames_at(indices=indices.tolist()).data
        except (RuntimeError, IndexError, ValueError):
            raise VideoError(self._path, damaged(indices)) from None
        height, width = frames.shape[2:]
        new_width, new_height = scaled_size(width, height, self._short_side)
        if (new_width, new_height) != (width, height):
            frames = interpolate(frames, (new_height, new_width), mode="bilinear", antialias=True)
        pixels: npt.NDArray[np.uint8] = frames.permute(0, 2, 3, 1).contiguous().numpy()
        return pixels
