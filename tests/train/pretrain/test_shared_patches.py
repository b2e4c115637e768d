"""Groups of rows with the patches of one, against the NumPy sampler, cropper and paster."""

import dataclasses

import numpy as np
import pytest
import torch

from reference.crop_patches import crop_patches
from reference.paste_bytes import paste_bytes
from reference.sample_tubelets import sample_tubelets
from tubeletx.config import TubeletConfig
from tubeletx_train.config.pretrain import ContrastConfig, PretrainConfig
from tubeletx_train.data import ColorConfig, DataConfig, PairBatch
from tubeletx_train.pretrain.views import PairViews

NO_COLOR = ColorConfig(probability=0.0)
FRAMES, SIDE, SEED, EPOCH = 5, 40, 2**33 + 7, 3
LAW = TubeletConfig(num_tubelets=2, transforms=("rotation", "scale"), soft_edge_probability=0.5, opacity_range=(0.5, 1))
APPEARANCE = ("patch_frame", "patch_box", "shape", "edge", "opacity", "order")


def batch_of(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randint(256, (2, count, 3, FRAMES, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    ids = torch.randperm(1000, generator=generator)[:count]
    return PairBatch(clips[0], clips[1], ids, EPOCH, torch.zeros(count, 2, dtype=torch.int64), [])


def views_of(batch, law=LAW, **contrast):
    return PairViews(ContrastConfig(**contrast), law, NO_COLOR, seed=SEED)(batch)


def numbers(fields):
    return {name: tensor.numpy() for name, tensor in fields.items()}


@pytest.mark.parametrize("shared_place", [False, True])
@pytest.mark.parametrize(("rows", "group"), [(8, 4), (6, 2), (6, 6), (7, 3)])
def test_a_row_moves_as_its_own_sample_in_the_dress_of_its_leader(rows, group, shared_place):
    batch = batch_of(rows)
    views = views_of(batch, shared_patches=group, shared_place=shared_place)
    found = numbers(views.tubelets.tensors())
    leader_of = [row - row % group for row in range(rows)]
    place = {"num_frames": FRAMES, "height": SIDE, "width": SIDE, "seed": SEED, "epoch": EPOCH}
    own = sample_tubelets(LAW, batch.sample_ids.tolist(), **place)
    leaders = sample_tubelets(LAW, batch.sample_ids[leader_of].tolist(), **place)
    for name in APPEARANCE[:-1]:
        np.testing.assert_allclose(found[name], leaders[name], atol=1 if name == "patch_box" else 1e-4, err_msg=name)
    np.testing.assert_allclose(found["linear"], own["linear"], rtol=1e-5, atol=1e-4)
    centers = own["centers"]
    if shared_place:
        centers = centers - centers[:, :, :1] + leaders["centers"][:, :, :1]
    np.testing.assert_allclose(found["centers"], centers, rtol=1e-5, atol=1e-4)

    clips = np.stack([batch.clip_1.numpy(), batch.clip_2.numpy()])
    size = tuple(int(side) for side in (found["patch_box"][..., 2:] - found["patch_box"][..., :2]).max((0, 1))[::-1])
    patches = crop_patches(clips[0][leader_of], found["patch_frame"], found["patch_box"], size)
    patch_size = found["patch_box"][..., 2:] - found["patch_box"][..., :2]
    names = ("centers", "linear", "shape", "edge", "opacity", "order")
    expected = paste_bytes(clips, patches, patch_size, *(found[name] for name in names))
    np.testing.assert_array_equal(views.clip_1.numpy(), expected[0])
    np.testing.assert_array_equal(views.clip_2.numpy(), expected[1])


def test_a_group_of_one_is_the_paper():
    batch = batch_of(5)
    plain = views_of(batch)
    assert torch.equal(views_of(batch, shared_patches=1).clip_2, plain.clip_2)
    # The leader of a group is as it would be alone.
    shared = views_of(batch, shared_patches=3)
    assert torch.equal(shared.clip_2[[0, 3]], plain.clip_2[[0, 3]])
    assert not torch.equal(shared.clip_2[1], plain.clip_2[1])


def test_groups_know_nothing_of_each_other():
    batch = batch_of(8)
    whole = views_of(batch, shared_patches=4, shared_place=True, own_negatives="resampled")
    half = slice(4, 8)
    fields = {name: getattr(batch, name)[half] for name in ("clip_1", "clip_2", "sample_ids", "sources")}
    alone = views_of(
        dataclasses.replace(batch, **fields), shared_patches=4, shared_place=True, own_negatives="resampled"
    )
    assert torch.equal(alone.query, whole.query[half])
    assert torch.equal(alone.own_negative, whole.own_negative[half])


def test_motion_alone_tells_rows_of_a_group_apart():
    """Over many rows: what is shared agrees within each group and nowhere else, paths are as independent as ever."""
    rows, group = 512, 8
    batch = batch_of(rows)
    law = dataclasses.replace(LAW, num_tubelets=1, opacity_range=(1, 1))
    tubelets = views_of(batch, law, shared_patches=group).tubelets
    corners = tubelets.patch_box[:, 0].float().view(-1, group, 4)
    assert torch.equal(corners, corners[:, :1].expand_as(corners))
    assert len(torch.unique(corners[:, 0], dim=0)) > 0.95 * rows / group
    middles = tubelets.centers[:, 0].mean(1)
    own = (middles - middles.mean(0)).view(-1, group, 2)
    within = (own.sum(1).square() - own.square().sum(1)).mean() / (group * (group - 1)) / middles.var(0).mean()
    assert abs(within) < 4 / (rows * (group - 1)) ** 0.5  # correlation of two rows of a group
    placed = views_of(batch, law, shared_patches=group, shared_place=True).tubelets.centers[:, 0, 0].view(-1, group, 2)
    torch.testing.assert_close(placed, placed[:, :1].expand_as(placed))


def test_a_turned_negative_keeps_the_path_and_turns_otherwise():
    batch = batch_of(4)
    law = TubeletConfig(num_tubelets=1, transforms=("rotation",), patch_sides=(40, 60))
    views = views_of(batch, law, own_negatives="turned")
    assert torch.equal(views.key, views_of(batch, law).key)
    changed = (views.own_negative != views.key).any(1)  # (B, T, H, W)
    assert not changed[:, 0].any()  # every transform is the identity in the first frame
    assert changed[:, 1:].flatten(2).any(2).float().mean() > 0.8
    # A rotated patch lies within the circle about its centre.
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    centers = views.tubelets.centers[:, 0, :, :, None, None]
    radius = ((x - centers[:, :, 0]) ** 2 + (y - centers[:, :, 1]) ** 2).sqrt()
    diagonal = views.tubelets.patch_size[:, 0].float().norm(dim=1)[:, None, None, None] / 2
    assert not (changed & (radius > diagonal + 1)).any()


def test_what_does_not_go_together_is_refused():
    for settings in ({"shared_patches": 0}, {"shared_patches": 2, "mode": "temporal"}, {"shared_place": True}):
        with pytest.raises(ValueError, match=r"shared_"):
            ContrastConfig(**settings)
    with pytest.raises(ValueError, match=r'shared_patches above 1 needs mode "tubelet" and patches "shared"'):
        ContrastConfig(shared_patches=2, patches="per_clip")
    with pytest.raises(ValueError, match=r"needs tubelets\.transforms"):
        PretrainConfig(DataConfig("v"), TubeletConfig(transforms=()), contrast=ContrastConfig(own_negatives="turned"))
