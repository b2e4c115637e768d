"""Tracks beside contrast: head and loss written out, what a run of it leaves behind, and that it learns."""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reference import track_points as reference
from tubeletx import TubeletConfig, TubeletSampler
from tubeletx_train.common.checkpoint import load_checkpoint
from tubeletx_train.config.data import ColorConfig, DataConfig, LeavesConfig
from tubeletx_train.config.pretrain import (
    ContrastConfig,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    RunConfig,
    TracksConfig,
)
from tubeletx_train.data.loader import held_out_batches
from tubeletx_train.evaluation.pretrained import load_pretraining, trained_net
from tubeletx_train.models import build_encoder
from tubeletx_train.models.weights import load_encoder
from tubeletx_train.pretrain.build import build_moco
from tubeletx_train.pretrain.task import pretrain
from tubeletx_train.pretrain.tracking import TrackHead
from tubeletx_train.pretrain.views import PairViews

FRAMES, SIDE = 4, 32


def config_of(output, weight=1.0, grid=(4, 4), **optim):
    return PretrainConfig(
        data=DataConfig(
            source="leaves",
            leaves=LeavesConfig(pairs=64, num_leaves=30, radius=(0.1, 0.5)),
            num_frames=FRAMES,
            crop_size=SIDE,
            num_workers=0,
        ),
        tubelets=TubeletConfig(num_tubelets=1, patch_sides=(48, 90), transforms=()),
        color=ColorConfig(probability=0),
        model=ModelConfig(encoder="r2plus1d_10", width=4, dim=8),
        contrast=ContrastConfig(queue_size=0, batch_negatives=True, momentum=0.9, still_background=True),
        tracks=TracksConfig(weight=weight, grid=grid),
        optim=OptimConfig(**{"batch_size": 8, "steps": 3, "optimizer": "adamw", "lr": 0.004} | optim),
        run=RunConfig(output=str(output), device="cpu", log_every=1, tensorboard=False),
    )


def head_of(encoder, grid, num_frames=FRAMES, side=SIDE):
    torch.manual_seed(1)
    return TrackHead(encoder, grid, num_frames=num_frames, side=side)


@pytest.mark.parametrize(
    ("grid", "num_frames", "side", "strides"),
    [
        ((4, 4), 4, 32, (1, 2, 2, 2)),
        ((3, 5), 5, 40, (1, 1, 2, 1)),
        ((7, 1), 9, 17, (1, 1, 1, 1)),
        ((1, 2), 1, 64, (1, 2, 2, 2)),
    ],
)
def test_the_head_reads_each_cell_at_its_place(grid, num_frames, side, strides):
    """Against torch's own interpolation, and a linear layer a cell."""
    encoder = build_encoder("r2plus1d_10", 2, strides)
    features = encoder.eval().feature_map(torch.randn(3, 3, num_frames, side, side)).detach()
    head = head_of(encoder, grid, num_frames, side)
    displacement, seen = head(features)
    at_cells = F.interpolate(features.flatten(1, 2), size=grid, mode="bilinear", align_corners=False)
    for row in range(grid[0]):
        for column in range(grid[1]):
            first = F.linear(at_cells[:, :, row, column], head.features.weight[..., 0, 0], head.features.bias)
            hidden = (first + head.cells[:, row, column]).clamp(min=0)
            tracks = F.linear(hidden, head.tracks.weight[..., 0, 0], head.tracks.bias).view(3, num_frames, 3)
            torch.testing.assert_close(displacement[:, row, column], tracks[..., :2], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(seen[:, row, column], tracks[..., 2], rtol=1e-4, atol=1e-5)


def written_out(head, displacement, seen, tubelets):
    """The loss of each row and its measure, in float64, from the reference's tracks."""
    rows, columns = head.grid
    cell = np.array([head.side / columns, head.side / rows])
    starts = np.array([(column + 0.5, row + 0.5) for row in range(rows) for column in range(columns)]) * cell
    frames = np.tile(np.arange(head.num_frames, dtype=np.int32), (len(starts), 1))
    names = ("patch_size", "centers", "linear", "shape", "edge", "opacity", "order")
    losses, errors, rests = [], 0.0, 0.0
    for b in range(len(tubelets)):
        fields = {name: getattr(tubelets, name)[b].numpy() for name in names}
        fields = {name: v if v.dtype == np.int32 else v.astype(np.float64) for name, v in fields.items()}
        scene = reference.Scene(**fields, height=head.side, width=head.side)
        places, visible, owner, _ = reference.track_points(scene, starts, np.zeros(len(starts), np.int32), frames)
        distance = weight = sight = 0.0
        for n, t in np.ndindex(visible.shape):
            cell_of = (b, *divmod(n, columns), t)
            logit, target = float(seen[cell_of]), visible[n, t]
            sight += np.logaddexp(0, logit) - target * logit
            if owner[n] < 0:
                continue
            moved = (places[n, t] - starts[n]) / cell
            off = displacement[cell_of].numpy() - moved
            huber = np.where(np.abs(off) < 1, off**2 / 2, np.abs(off) - 0.5).sum()
            distance, weight = distance + target * huber, weight + target
            errors, rests = errors + target * np.hypot(*off), rests + target * np.hypot(*moved)
        losses.append(distance / max(weight, 1) + sight / visible.size)
    return losses, errors / rests


@pytest.mark.parametrize(("grid", "preset"), [((4, 4), "paper"), ((3, 5), "released")])
def test_the_loss_against_float64_tracks(grid, preset):
    encoder = build_encoder("r2plus1d_10", 2)
    head = head_of(encoder, grid)
    features = torch.randn(5, encoder.feature_dim, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    sampler = TubeletSampler(TubeletConfig.preset(preset, num_tubelets=3), seed=2)
    tubelets = sampler(torch.arange(5), num_frames=FRAMES, height=SIDE, width=SIDE)
    # A clip whose tubelet is never in the frame: nothing to follow.
    tubelets.centers[0] += 1000
    loss, measured = head.loss(features, tubelets)
    displacement, seen = (part.detach() for part in head(features))
    expected, error = written_out(head, displacement, seen, tubelets)
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-5)
    assert measured["track_error"].item() == pytest.approx(error, rel=1e-4)
    loss.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())


def test_to_predict_rest_is_an_error_of_one():
    encoder = build_encoder("r2plus1d_10", 2)
    head = head_of(encoder, (4, 4))
    nn.init.zeros_(head.tracks.weight)
    nn.init.zeros_(head.tracks.bias)
    tubelets = TubeletSampler(TubeletConfig(), seed=2)(torch.arange(3), num_frames=FRAMES, height=SIDE, width=SIDE)
    _, measured = head.loss(torch.randn(3, encoder.feature_dim, 1, 2, 2), tubelets)
    assert measured["track_error"].item() == pytest.approx(1)


def test_the_loss_of_a_step_is_that_of_contrast_and_tracks(tmp_path):
    config = config_of(tmp_path, weight=0.3)
    torch.manual_seed(0)
    both = build_moco(config).train()
    torch.manual_seed(0)
    plain = build_moco(config_of(tmp_path, weight=0.0)).train()
    for name, value in plain.state_dict().items():  # the head takes no draw from the networks
        assert torch.equal(both.state_dict()[name], value)
    (batch,) = held_out_batches([], config.data, count=6, batch_size=6, seed=0)
    views = PairViews(config.contrast, config.tubelets, config.color, seed=0)(batch)
    expected = plain.compare(views.query, views.key)
    found = both.compare(views.query, views.key, None, views.tubelets)
    features = copy.deepcopy(plain).query_net.encoder.feature_map(views.query)
    track_loss, _ = both.track_head.loss(features, views.tubelets)
    torch.testing.assert_close(found.loss, expected.loss + 0.3 * track_loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.metrics["contrast_loss"], expected.loss.mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.metrics["track_loss"], track_loss.mean(), rtol=1e-4, atol=1e-5)
    assert set(found.metrics) - set(expected.metrics) == {"contrast_loss", "track_loss", "track_error"}
    # In parts it is the mean of the parts, whatever their rows show.
    both.eval()
    whole = both.compare(views.query, views.key, None, views.tubelets).metrics["track_loss"]
    parts = [both.compare(views.query[r], views.key[r], None, views.tubelets[r]) for r in (slice(3), slice(3, 6))]
    torch.testing.assert_close(sum(part.metrics["track_loss"] for part in parts) / 2, whole)
    with pytest.raises(ValueError, match="tubelets: got None, needs those of the query clips"):
        both.compare(views.query, views.key)


def test_a_checkpoint_holds_the_head_and_the_encoder_goes_on_without(tmp_path):
    config = config_of(tmp_path, accumulate=2)
    result = pretrain(config)
    state = load_checkpoint(result.checkpoint)
    heads = {name for name in state["model"] if name.startswith("track_head.")}
    names = ("features.weight", "features.bias", "cells", "tracks.weight", "tracks.bias")
    assert heads == {f"track_head.{name}" for name in names}
    torch.manual_seed(config.run.seed)
    before = build_moco(config).state_dict()
    assert all(not torch.equal(state["model"][name], before[name]) for name in heads)  # it was trained
    encoder = load_encoder(result.checkpoint)
    saved, weights = load_pretraining(result.checkpoint)
    clip = torch.randn(2, 3, FRAMES, SIDE, SIDE)
    torch.testing.assert_close(encoder.eval()(clip), trained_net(saved, weights).encoder.eval()(clip))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["loss"] == pytest.approx(line["contrast_loss"] + line["track_loss"], rel=1e-3)
        assert line["track_error"] > 0


def test_without_tubelets_there_is_nothing_to_predict():
    with pytest.raises(ValueError, match=r'tracks\.weight above 0 needs contrast\.mode "tubelet"'):
        PretrainConfig(DataConfig("v"), contrast=ContrastConfig(mode="temporal"), tracks=TracksConfig(weight=0.5))
    with pytest.raises(ValueError, match="weight: got -1"):
        TracksConfig(weight=-1)
    with pytest.raises(ValueError, match="grid: got"):
        TracksConfig(grid=(0, 4))


def test_tracks_are_learnt():
    """Bright patches on the dark, never the same: the loss falls to far below that of the mean track of each cell."""
    torch.manual_seed(0)
    encoder = build_encoder("r2plus1d_10", 4, (1, 1, 1, 1))
    size = {"num_frames": 3, "height": SIDE, "width": SIDE}
    head = head_of(encoder, (4, 4), num_frames=3)
    law = TubeletConfig(num_tubelets=1, patch_sides=(40, 80), motion="linear", transforms=())
    sampler = TubeletSampler(law, seed=5)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=0.01)
    losses, errors = [], []
    for step in range(100):
        tubelets = sampler(torch.arange(16) + 16 * step, **size)
        patches = torch.ones(16, 1, 3, *tubelets.max_patch_size)
        (clips,) = tubelets.paste([torch.zeros(16, 3, 3, SIDE, SIDE)], patches)
        loss, measured = head.loss(encoder.feature_map(clips - 0.2), tubelets)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        losses.append(loss.mean().item())
        errors.append(measured["track_error"].item())
    # The best that can be said without a look at the clips: a head that sees nothing, fitted to the last of them.
    blind = head_of(encoder, (4, 4), num_frames=3)
    tubelets = sampler(torch.arange(16 * 80, 16 * 100), **size)
    nothing = torch.zeros(len(tubelets), encoder.feature_dim, 3, 2, 2)
    optimizer = torch.optim.Adam(blind.parameters(), lr=0.02)
    for _ in range(100):
        mean, _ = blind.loss(nothing, tubelets)
        optimizer.zero_grad()
        mean.mean().backward()
        optimizer.step()
    assert np.mean(losses[-20:]) < 0.6 * mean.mean().item()
    assert np.mean(errors[-20:]) < 0.6
