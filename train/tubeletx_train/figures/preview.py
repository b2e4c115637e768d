"""Pictures of positive pairs: contact sheets and animations with the tubelets' paths drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from torch import Tensor

from tubeletx_train.figures.sheet import FAINT, GAP, INK, MARGIN, PAPER, animation_path, even, font, save_animation

# Told apart on any background and by most colour-blind eyes (Okabe and Ito).
_COLORS = ((255, 176, 0), (86, 200, 255), (255, 96, 176), (60, 220, 130), (240, 90, 40), (160, 140, 255))

_TILE = 176  # about the side of a frame as shown, pixels
_LABEL = 62
# Overlays are drawn this many times larger and shrunk, which smooths Pillow's jagged lines.
_SMOOTH = 3


class DrawableTubelets(Protocol):
    """What the pictures need of `tubeletx.Tubelets`."""

    @property
    def centers(self) -> Tensor:
        """(B, M, T, 2) x, y in pixels."""
        ...

    def boxes(self) -> Tensor:
        """(B, M, T, 4) x0, y0, x1, y1 in pixels."""
        ...


class DrawablePairs(Protocol):
    """What the pictures need of the views of a step."""

    @property
    def clip_1(self) -> Tensor:
        """(B, 3, T, H, W) uint8, after pasting."""
        ...

    @property
    def clip_2(self) -> Tensor:
        """Likewise."""
        ...

    @property
    def tubelets(self) -> DrawableTubelets | None:
        """Those on clip 1, None where there are none."""
        ...

    @property
    def key_tubelets(self) -> DrawableTubelets | None:
        """Those on clip 2."""
        ...


@dataclass(frozen=True)
class _Pair:
    """One pair as arrays: of each clip its frames (T, H, W, 3) uint8, centres (M, T, 2), boxes (M, T, 4)."""

    clips: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
    centers: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    boxes: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

    @property
    def num_frames(self) -> int:
        return int(self.clips[0].shape[0])


def _arrays(pairs: DrawablePairs, max_pairs: int) -> list[_Pair]:
    clip_1, clip_2 = pairs.clip_1, pairs.clip_2
    if clip_1.dim() != 5 or clip_1.shape[1] != 3 or clip_1.shape != clip_2.shape:
        raise ValueError(
            f"clip_1 and clip_2: got {tuple(clip_1.shape)} and {tuple(clip_2.shape)}, needs (B, 3, T, H, W) both"
        )
    if clip_1.shape[0] < 1 or max_pairs < 1:
        raise ValueError(f"clip_1: got {clip_1.shape[0]} pairs and max_pairs={max_pairs}, needs a pair to show")
    shown = slice(min(max_pairs, clip_1.shape[0]))
    first, second = (clip[shown].permute(0, 2, 3, 4, 1).cpu().numpy() for clip in (clip_1, clip_2))
    drawn = [_drawn(shown_on, clip_1) for shown_on in (pairs.tubelets, pairs.key_tubelets)]
    (centers_1, boxes_1), (centers_2, boxes_2) = ([x[shown].double().cpu().numpy() for x in both] for both in drawn)
    return [
        _Pair((first[i], second[i]), (centers_1[i], centers_2[i]), (boxes_1[i], boxes_2[i])) for i in range(len(first))
    ]


def _drawn(tubelets: DrawableTubelets | None, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and boxes, of no tubelets at all where there are none."""
    if tubelets is None:
        return clip.new_zeros(len(clip), 0, clip.shape[2], 2), clip.new_zeros(len(clip), 0, clip.shape[2], 4)
    return tubelets.centers, tubelets.boxes()


def _scale(pair: _Pair) -> int:
    return max(round(_TILE / int(pair.clips[0].shape[2])), 1)


def _tile(pair: _Pair, which: int, frame: int, *, trail: bool) -> Image.Image:
    """One frame, enlarged, with the paths on it.

    Args:
        pair: The pair.
        which: 0 query, 1 key.
        frame: Frame number.
        trail: Only the path so far, instead of all of it with the part to come drawn thin.
    """
    image = Image.fromarray(np.ascontiguousarray(pair.clips[which][frame]))
    scale = _scale(pair)
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS)
    unit = scale * _SMOOTH
    overlay = Image.new("RGBA", (image.width * _SMOOTH, image.height * _SMOOTH), (0, 0, 0, 0))
    draw = ImageDraw.Draw(overlay)
    for index, (centers, boxes) in enumerate(zip(pair.centers[which] * unit, pair.boxes[which] * unit, strict=True)):
        color = _COLORS[index % len(_COLORS)]
        points = [(float(x), float(y)) for x, y in centers]
        if not trail:
            _polyline(draw, points, (*color, 120), _SMOOTH)
        _polyline(draw, points[: frame + 1], (*color, 255), 2 * _SMOOTH)
        draw.rectangle([float(v) for v in boxes[frame]], outline=(*color, 170), width=_SMOOTH)
        x, y = points[frame]
        radius = 3.5 * _SMOOTH
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            fill=(*color, 255),
            outline=(255, 255, 255, 255),
            width=_SMOOTH,
        )
    image.paste(*2 * (overlay.resize(image.size, Image.Resampling.LANCZOS),))
    return image


def _polyline(
    draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], color: tuple[int, int, int, int], width: int
) -> None:
    if len(points) > 1:
        draw.line(points, fill=color, width=width, joint="curve")


def _legend(draw: ImageDraw.ImageDraw, x: int, y: int, count: int) -> None:
    for index in range(count):
        color = _COLORS[index % len(_COLORS)]
        draw.line((x, y + 8, x + 20, y + 8), fill=color, width=3)
        draw.ellipse((x + 6, y + 4, x + 14, y + 12), fill=color)
        draw.text((x + 26, y), f"tubelet {index + 1}", fill=INK, font=font(13))
        x += 104
    text = "same tubelets on both clips; dot: centre now, box: extent of the patch"
    draw.text((x, y), text if count else "two clips of one video, without tubelets", fill=FAINT, font=font(13))


def contact_sheet(path: str | Path, pairs: DrawablePairs, *, max_pairs: int = 4, columns: int = 8) -> Path:
    """Write a PNG: two rows a pair (query above, key below), `columns` frames spread over the clip.

    Args:
        path: Where to; parent folders are made.
        pairs: As they are trained on, before colour.
        max_pairs: Pairs shown.
        columns: Frames shown of each clip.

    Returns:
        `path`.
    """
    arrays = _arrays(pairs, max_pairs)
    frames = np.unique(np.linspace(0, arrays[0].num_frames - 1, columns).round().astype(int)).tolist()
    height, width = (side * _scale(arrays[0]) for side in arrays[0].clips[0].shape[1:3])
    top = MARGIN + 46
    pair_height = 2 * height + GAP + 18
    sheet = Image.new(
        "RGB",
        (max(2 * MARGIN + _LABEL + len(frames) * (width + GAP), 680), top + len(arrays) * pair_height + 26),
        PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 4), "Positive pairs", fill=INK, font=font(20))
    for column, frame in enumerate(frames):
        x = MARGIN + _LABEL + column * (width + GAP)
        draw.text((x + width // 2, top - 6), f"frame {frame + 1}", fill=FAINT, font=font(13), anchor="ms")
    for row, pair in enumerate(arrays):
        for which, name in enumerate(("query", "key")):
            y = top + row * pair_height + which * (height + GAP)
            draw.text((MARGIN, y + height // 2 - 9), f"pair {row + 1}", fill=FAINT, font=font(13), anchor="lm")
            draw.text((MARGIN, y + height // 2 + 9), name, fill=INK, font=font(15), anchor="lm")
            for column, frame in enumerate(frames):
                tile = _tile(pair, which, frame, trail=False)
                sheet.paste(tile, (MARGIN + _LABEL + column * (width + GAP), y))
    _legend(draw, MARGIN, sheet.height - 28, arrays[0].centers[0].shape[0])
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def animation(path: str | Path, pairs: DrawablePairs, *, max_pairs: int = 4, fps: float = 8.0) -> Path:
    """Write a GIF or MP4 (by the extension): query and key side by side, trails behind the tubelets.

    Args:
        path: Where to; parent folders are made.
        pairs: As they are trained on, before colour.
        max_pairs: Pairs shown.
        fps: Frames per second.

    Returns:
        `path`.

    Raises:
        ValueError: The extension is neither.
    """
    path = animation_path(path)
    arrays = _arrays(pairs, max_pairs)
    return save_animation(path, [_moment(arrays, frame) for frame in range(arrays[0].num_frames)], fps)


def _moment(pairs: Sequence[_Pair], frame: int) -> Image.Image:
    """All pairs at one frame, two pairs a row."""
    height, width = (side * _scale(pairs[0]) for side in pairs[0].clips[0].shape[1:3])
    across = min(len(pairs), 2)
    down = -(-len(pairs) // across)
    cell_width, cell_height = 2 * width + GAP + MARGIN, height + 30
    picture = Image.new("RGB", even(across * cell_width + MARGIN, down * cell_height + MARGIN), PAPER)
    draw = ImageDraw.Draw(picture)
    for index, pair in enumerate(pairs):
        x, y = MARGIN + index % across * cell_width, MARGIN + index // across * cell_height
        for which, name in enumerate(("query", "key")):
            left = x + which * (width + GAP)
            label = f"pair {index + 1}: {name}" if which == 0 else name
            draw.text((left, y + 2), label, fill=INK, font=font(13))
            picture.paste(_tile(pair, which, frame, trail=True), (left, y + 20))
    return picture
