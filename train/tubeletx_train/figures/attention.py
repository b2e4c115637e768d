"""Pictures of where networks look: heat maps over the frames, one network beside another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image, ImageDraw
from torch import Tensor

from tubeletx_train.figures.sheet import FAINT, GAP, INK, MARGIN, PAPER, animation_path, even, font, save_animation

_LABEL = 92
# Share of the heat map's colour where it is hottest; the frame shows through, and alone where the map is cold.
_STRENGTH = 0.6
_INPUT = "frames"
_COLORS = (colormaps["turbo"](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.float32)

Frames = npt.NDArray[np.uint8]


def overlay(frames: Frames, maps: npt.NDArray[np.float32]) -> Frames:
    """Lay heat maps over frames.

    Args:
        frames: (..., H, W, 3) uint8.
        maps: (..., H, W) in [0, 1]: 0 shows the frame, darkened, 1 the hottest colour.

    Returns:
        (..., H, W, 3) uint8.
    """
    heat = _COLORS[(np.clip(maps, 0, 1) * 255).round().astype(np.int64)]
    weight = _STRENGTH * np.clip(maps, 0, 1)[..., None]
    blended = (1 - weight) * (0.75 * frames) + weight * heat
    rounded: Frames = blended.round().astype(np.uint8)
    return rounded


def attention_strip(
    path: str | Path,
    clips: Tensor,
    maps: Mapping[str, Tensor],
    *,
    titles: Sequence[str] = (),
    columns: int = 8,
) -> Path:
    """Write a PNG: for each clip a row of frames and below it a row a network, as in Figures 6 and 7 of the paper.

    Args:
        path: Where to; parent folders are made.
        clips: (B, 3, T, H, W) uint8.
        maps: Name of a network to its (B, T, H, W) maps in [0, 1], see `evaluation.attention.activation_maps`.
        titles: What to write above each clip; none by default.
        columns: Frames shown, spread over the clip.

    Returns:
        `path`.

    Raises:
        ValueError: Shapes that do not fit, or nothing to show.
    """
    rows = _rows(clips, maps)
    count, length, height, width = clips.shape[0], *clips.shape[2:]
    shown = np.unique(np.linspace(0, length - 1, columns).round().astype(int)).tolist()
    top = MARGIN + 52
    title_height = 20 if titles else 0
    block = title_height + len(rows) * (height + GAP) + MARGIN
    sheet = Image.new(
        "RGB", (max(2 * MARGIN + _LABEL + len(shown) * (width + GAP), 420), top + count * block + MARGIN), PAPER
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 4), "Class-agnostic activation maps", fill=INK, font=font(20))
    for column, frame in enumerate(shown):
        x = MARGIN + _LABEL + column * (width + GAP)
        draw.text((x + width // 2, top - 8), f"frame {frame + 1}", fill=FAINT, font=font(12), anchor="ms")
    for clip in range(count):
        y = top + clip * block
        if titles:
            draw.text((MARGIN + _LABEL, y + 3), titles[clip], fill=FAINT, font=font(13))
            y += title_height
        for name, pictures in rows.items():
            draw.text((MARGIN, y + height // 2), name, fill=INK, font=font(15), anchor="lm")
            for column, frame in enumerate(shown):
                tile = Image.fromarray(pictures[clip, frame])
                sheet.paste(tile, (MARGIN + _LABEL + column * (width + GAP), y))
            y += height + GAP
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def attention_animation(path: str | Path, clips: Tensor, maps: Mapping[str, Tensor], *, fps: float = 8.0) -> Path:
    """Write a GIF or MP4 (by the extension): a row a clip, its frames and each network's heat map side by side.

    Args:
        path: Where to; parent folders are made.
        clips: (B, 3, T, H, W) uint8.
        maps: Name of a network to its (B, T, H, W) maps in [0, 1].
        fps: Frames per second.

    Returns:
        `path`.

    Raises:
        ValueError: The extension is neither, shapes do not fit, or there is nothing to show.
    """
    path = animation_path(path)
    rows = _rows(clips, maps)
    count, length, height, width = clips.shape[0], *clips.shape[2:]
    top = MARGIN + 20
    size = even(2 * MARGIN + len(rows) * (width + GAP), top + count * (height + GAP) + MARGIN)
    pictures = []
    for frame in range(length):
        picture = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(picture)
        for column, (name, tiles) in enumerate(rows.items()):
            x = MARGIN + column * (width + GAP)
            draw.text((x + width // 2, top - 6), name, fill=INK, font=font(14), anchor="ms")
            for clip in range(count):
                picture.paste(Image.fromarray(tiles[clip, frame]), (x, top + clip * (height + GAP)))
        pictures.append(picture)
    return save_animation(path, pictures, fps)


def _rows(clips: Tensor, maps: Mapping[str, Tensor]) -> dict[str, Frames]:
    """The frames and each network's overlay, (B, T, H, W, 3) each."""
    if clips.dim() != 5 or clips.shape[1] != 3 or not clips.numel():
        raise ValueError(f"clips: got {tuple(clips.shape)}, needs (B, 3, T, H, W) that holds something")
    frames: Frames = clips.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()
    rows = {_INPUT: frames}
    for name, values in maps.items():
        if values.shape != frames.shape[:-1]:
            raise ValueError(f"maps[{name!r}]: got {tuple(values.shape)}, needs (B, T, H, W) {frames.shape[:-1]}")
        rows[name] = overlay(frames, values.float().cpu().numpy())
    return rows
