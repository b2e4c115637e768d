from __future__ import annotations

import json
from dataclasses import dataclass, replace

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tubeletx_train.figures import animation, contact_sheet, training_curves
from tubeletx_train.figures.curves import smooth


@dataclass
class StubTubelets:
    centers: Tensor

    def boxes(self) -> Tensor:
        return torch.cat([self.centers - 8, self.centers + 8], -1)


@dataclass
class StubPairs:
    clip_1: Tensor
    clip_2: Tensor
    tubelets: StubTubelets | None

    @property
    def key_tubelets(self) -> StubTubelets | None:
        return self.tubelets


def pairs(batch: int = 3, frames: int = 6, size: int = 48, count: int = 2):
    """Black query, white key, paths along the two diagonals."""
    black = torch.zeros(batch, 3, frames, size, size, dtype=torch.uint8)
    along = torch.linspace(8, size - 8, frames)
    paths = torch.stack([torch.stack([along, along], -1), torch.stack([along, size - along], -1)])[:count]
    return StubPairs(black, torch.full_like(black, 255), StubTubelets(paths.expand(batch, -1, -1, -1).clone()))


def test_contact_sheet_shows_both_clips_and_the_paths(tmp_path):
    sheet = np.asarray(Image.open(contact_sheet(tmp_path / "new" / "sheet.png", pairs(), max_pairs=2, columns=3)))
    assert (sheet == 0).all(-1).sum() > 2 * 3 * 150 * 150 * 0.7
    assert (sheet == 255).all(-1).sum() > 2 * 3 * 150 * 150 * 0.7
    orange = (np.abs(sheet.astype(int) - (255, 176, 0)).max(-1) < 12).sum()
    blue = (np.abs(sheet.astype(int) - (86, 200, 255)).max(-1) < 12).sum()
    assert orange > 200
    assert blue > 200


def test_paths_are_drawn_where_they_lead(tmp_path):
    shown = pairs(batch=1, frames=2, size=48, count=1)
    shown.tubelets.centers[:] = torch.tensor([[12.0, 12.0], [36.0, 24.0]])
    plain = replace(shown, tubelets=StubTubelets(shown.tubelets.centers + 1000))
    marked, bare = (
        np.asarray(Image.open(contact_sheet(tmp_path / f"{i}.png", one, columns=2))).astype(int)
        for i, one in enumerate((shown, plain))
    )
    # The query's tiles are 4 x 48 pixels wide, below the heading and right of the labels.
    rows, columns = np.nonzero((bare == 0).all(-1))
    top, left = rows.min(), columns.min()
    difference = np.abs(marked - bare).max(-1)
    assert difference[top + 48, left + 48] > 100  # frame 1, centre (12, 12)
    second = left + 192 + 4
    assert difference[top + 96, second + 144] > 100  # frame 2, centre (36, 24)
    assert difference[top + 72, second + 96] > 100  # half way
    assert difference[top + 170 : top + 190, second : second + 192].max() == 0


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("extension", ["gif", "mp4"])
def test_animation_has_every_frame(tmp_path, extension, batch):
    path = animation(tmp_path / f"pairs.{extension}", pairs(batch=batch), fps=5)
    frames = imageio.mimread(path)
    assert len(frames) == 6
    assert frames[0].shape[0] % 2 == frames[0].shape[1] % 2 == 0
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 60


def test_frames_of_one_sixteenth_size_and_large_ones(tmp_path):
    for size in (16, 224):
        assert contact_sheet(tmp_path / f"{size}.png", pairs(batch=1, size=size)).exists()


def test_pictures_refuse_what_they_cannot_show(tmp_path):
    shown = pairs()
    with pytest.raises(ValueError, match=r"needs one that ends in \.gif or .mp4"):
        animation(tmp_path / "pairs.avi", shown)
    with pytest.raises(ValueError, match="clip_1 and clip_2: got"):
        contact_sheet(tmp_path / "x.png", replace(shown, clip_2=shown.clip_2[:1]))
    with pytest.raises(ValueError, match="needs a pair to show"):
        contact_sheet(tmp_path / "x.png", replace(shown, clip_1=shown.clip_1[:0], clip_2=shown.clip_2[:0]))


def test_curves_read_the_log_a_killed_run_leaves(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [json.dumps({"step": s, "loss": 5 - s / 20, "top1": s / 100}) for s in range(60)]
    lines += [json.dumps({"step": 60, "loss": float("nan")}), '{"event": "saved"}', "[1]", '{"step": 61, "lo']
    log.write_text("\n".join(lines))
    picture = np.asarray(Image.open(training_curves(log, tmp_path / "new" / "curves.png")).convert("RGB"))
    for color in ((196, 78, 82), (47, 111, 176)):
        assert (np.abs(picture.astype(int) - color).max(-1) < 10).sum() > 500


def test_curves_need_a_loss(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match="no line holds both"):
        training_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 1000])
def test_smoothing_keeps_constants_and_length(length):
    np.testing.assert_allclose(smooth(np.full(length, 2.5)), np.full(length, 2.5))


def test_smoothing_lowers_noise():
    noise = np.random.default_rng(0).normal(size=1000)
    assert smooth(noise).std() < 0.2 * noise.std()
