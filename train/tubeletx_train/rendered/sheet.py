"""A picture of a set: one video of every class, its frames side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tubeletx_train.data import VideoRecord, open_record
from tubeletx_train.figures.sheet import GAP, INK, MARGIN, PAPER, font

_FRAMES = 12
_SIDE = 72  # of a frame, pixels
_COLUMNS = 2
_HEADING = 18
_TEXT = 13


def contact_sheet(path: Path, records: Sequence[VideoRecord]) -> None:
    """Write a PNG with a row of frames, evenly spaced, for each record, below its label."""
    rows = -(-len(records) // _COLUMNS)
    width, height = _FRAMES * _SIDE, _HEADING + _SIDE + GAP
    size = (MARGIN + _COLUMNS * (width + MARGIN), 2 * MARGIN + rows * height)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, record in enumerate(records):
        column, row = divmod(index, rows)
        left, top = MARGIN + column * (width + MARGIN), MARGIN + row * height
        pen.text((left, top), str(record.label), INK, font(_TEXT))
        video = open_record(record, None, "pyav")
        frames = video.read(np.linspace(0, video.num_frames - 1, _FRAMES).round().astype(np.int64))
        for place, frame in enumerate(np.asarray(frames)):
            picture = Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            sheet.paste(picture, (left + place * _SIDE, top + _HEADING))
    sheet.save(path)
