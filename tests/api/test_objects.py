import builtins
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch.utils.data import DataLoader, Dataset

from tubeletx import ObjectPatches, TubeletConfig, TubeletSampler

GENERATOR = np.random.default_rng(0)


def solid(width, height, color=(255, 0, 0, 255)):
    return np.full((height, width, 4), color, np.uint8)


def tubelets_of(ids, **overrides):
    sampler = TubeletSampler(TubeletConfig.preset("smile", **overrides))
    return sampler(ids, num_frames=4, height=224, width=224)


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(solid(30, 20)).save(tmp_path / "b, red.png")
    Image.fromarray(GENERATOR.integers(0, 256, (20, 25, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(GENERATOR.integers(0, 256, (9, 7), dtype=np.uint8)).convert("P").save(tmp_path / "ü.png")
    return tmp_path


def test_capital_suffixes_count_and_what_is_left_out_is_named(folder):
    Image.fromarray(solid(4, 4)).save(folder / "C.PNG")
    (folder / "more").mkdir()
    (folder / "photo.jpg").touch()
    (folder / ".hidden").touch()
    with pytest.warns(UserWarning, match=r"holds what is no PNG, and left out: more, photo\.jpg$"):
        objects = ObjectPatches(folder)
    assert objects.names == ["C.PNG", "a.png", "b, red.png", "ü.png"]


def test_reads_png_files_of_any_mode_in_order(folder):
    objects = ObjectPatches(folder, size=32)
    assert objects.names == ["a.png", "b, red.png", "ü.png"]
    assert len(objects) == 3
    assert "3 objects, size=32" in repr(objects)
    ids = torch.arange(50)
    patches, fitted = objects.draw(tubelets_of(ids, patch_scales=(100,)), ids)
    assert patches.shape == (50, 2, 4, 32, 32)
    assert patches.dtype == torch.uint8
    red = objects.choose(ids, 2) == 1
    assert red.any()
    assert (fitted.patch_size[red] == torch.tensor([30, 20])).all()
    expected = torch.zeros(4, 32, 32, dtype=torch.uint8)
    expected[0, :20, :30] = expected[3, :20, :30] = 255
    for patch in patches[red]:
        assert torch.equal(patch[:, :20, :30], expected[:, :20, :30])
    assert (patches[objects.choose(ids, 2) == 0][:, 3, :20, :25] == 255).all()  # no alpha channel: opaque


def test_what_an_image_does_not_show_is_cut_off():
    image = np.zeros((40, 50, 4), np.uint8)
    image[10:30, 20:25] = GENERATOR.integers(1, 256, (20, 5, 4))
    ids = torch.tensor([0])
    patches, fitted = ObjectPatches.from_images([image], size=64).draw(tubelets_of(ids, patch_scales=(200,)), ids)
    assert fitted.patch_size[0, 0].tolist() == [5, 20]
    np.testing.assert_array_equal(patches[0, 0, :, :20, :5].permute(1, 2, 0), image[10:30, 20:25])


def test_small_tubelets_take_small_images():
    objects = ObjectPatches.from_images([solid(128, 96)], size=128)
    ids = torch.arange(40)
    seen = set()
    for scale in (12, 20, 40, 70, 100, 200):
        tubelets = tubelets_of(ids, patch_scales=(scale,))
        _, fitted = objects.draw(tubelets, ids)
        size, wanted = fitted.patch_size, tubelets.patch_size
        seen |= set(map(tuple, size.flatten(0, 1).tolist()))
        enlarged = (size < wanted).any(-1)
        assert (size[enlarged] == torch.tensor([128, 96])).all()
        halves = torch.div(size + 1, 2, rounding_mode="floor")
        smallest = size.amax(-1) == 16
        assert ((halves < wanted).any(-1) | smallest | enlarged).all()
    assert seen == {(128, 96), (64, 48), (32, 24), (16, 12)}


def test_colours_beyond_the_edge_do_not_bleed_in_when_shrunk():
    image = solid(64, 64, (0, 255, 0, 0))
    image[:, 21:] = (255, 0, 0, 255)
    image[0, 0, 3] = 1  # keeps the transparent side
    ids = torch.tensor([0])
    patches, fitted = ObjectPatches.from_images([image], size=16).draw(tubelets_of(ids), ids)
    assert fitted.patch_size[0, 0].tolist() == [16, 16]
    red, green, alpha = patches[0, 0, [0, 1, 3]]
    assert ((alpha > 0) & (alpha < 255)).any()
    assert (green[1:][alpha[1:] > 0] == 0).all()
    assert (red[1:][alpha[1:] > 0] >= 254).all()


def test_boxes_and_coverage_stay_those_of_the_tubelets():
    ids = torch.arange(8)
    tubelets = tubelets_of(ids)
    _, fitted = ObjectPatches.from_images([solid(31, 57), solid(200, 90)]).draw(tubelets, ids)
    torch.testing.assert_close(fitted.boxes(), tubelets.boxes(), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(fitted.coverage(), tubelets.coverage(), rtol=0, atol=0.02)
    assert not torch.equal(fitted.linear, tubelets.linear)


def test_an_opaque_object_covers_its_tubelet():
    ids = torch.arange(3)
    tubelets = tubelets_of(ids)
    patches, fitted = ObjectPatches.from_images([solid(31, 57)]).draw(tubelets, ids)
    clip = torch.zeros(3, 3, 4, 224, 224, dtype=torch.uint8)
    (pasted,) = fitted.paste([clip], patches)
    covered = tubelets.coverage((1, 1, 1)) == 1
    assert abs((pasted[:, 0] == 255).float().mean() - covered.float().mean()) < 1e-3
    assert not pasted[:, 1:].any()


def test_objects_are_even_and_independent_of_each_other():
    objects = ObjectPatches.from_images([solid(4, 4)] * 7)
    chosen = objects.choose(torch.arange(20_000), 2)
    for m in range(2):
        assert stats.chisquare(chosen[:, m].bincount(minlength=7)).pvalue > 1e-4
    pairs = (chosen[:, 0] * 7 + chosen[:, 1]).bincount(minlength=49)
    assert stats.chisquare(pairs).pvalue > 1e-4
    following = (chosen[:-1, 0] * 7 + chosen[1:, 0]).bincount(minlength=49)
    assert stats.chisquare(following).pvalue > 1e-4


def test_objects_depend_on_seed_sample_and_epoch_alone():
    objects = ObjectPatches.from_images([solid(4, 4)] * 1000)
    ids = torch.tensor([5, -3, 2**62, 11])
    chosen = objects.choose(ids, 3, seed=-1, epoch=2)
    assert torch.equal(objects.choose(ids[[3, 1]], 3, seed=-1, epoch=2), chosen[[3, 1]])
    assert torch.equal(objects.choose(ids, 1, seed=-1, epoch=2), chosen[:, :1])
    others = [objects.choose(ids, 3, seed=seed, epoch=epoch) for seed, epoch in ((-1, 3), (2, 2), (-2, 2), (2**40, 0))]
    assert all((other != chosen).sum() > 8 for other in others)


def test_choice_is_splitmix():
    mask = 2**64 - 1

    def mix(value):
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        return value ^ (value >> 31)

    golden = 0x9E3779B97F4A7C15
    objects = ObjectPatches.from_images([solid(4, 4)] * 13)
    seed, epoch, ids = -7, 3, [0, 5, -9, 2**63 - 1]
    key = mix((mix((seed + golden) & mask) + epoch + golden) & mask)
    expected = [
        [((mix((key + i * 0xBF58476D1CE4E5B9 + m * golden) & mask) >> 33) * 13) >> 31 for m in range(4)] for i in ids
    ]
    assert objects.choose(torch.tensor(ids), 4, seed=seed, epoch=epoch).tolist() == expected
    assert objects.choose(torch.tensor(ids), 4, seed=seed, epoch=torch.tensor([epoch])).tolist() == expected
    assert objects.choose(torch.tensor(ids), 4, seed=seed % 2**64, epoch=epoch).tolist() == expected


class Texels(Dataset):
    def __init__(self, objects):
        self.objects = objects

    def __len__(self):
        return 2

    def __getitem__(self, index):
        self.objects._texels[index, 0] = 77 + index
        return self.objects._texels.is_shared()


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_share_the_cache(context):
    objects = ObjectPatches.from_images([solid(4, 4)])
    assert all(DataLoader(Texels(objects), num_workers=1, multiprocessing_context=context))
    assert objects._texels[:2, 0].tolist() == [77, 78]  # what the worker wrote


def test_moves_with_its_module():
    assert ObjectPatches.from_images([solid(4, 4)]).to("meta")._texels.is_meta


def test_refuses_folders(tmp_path):
    with pytest.raises(ValueError, match=r"^folder: .*nowhere is no folder"):
        ObjectPatches(tmp_path / "nowhere")
    Image.fromarray(GENERATOR.integers(0, 256, (40, 40, 4), dtype=np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for broken in (b"", b"no image", content[:40], content[: len(content) // 2]):
        (tmp_path / "z.png").write_bytes(broken)
        with pytest.raises(ValueError, match=r"^folder: .*z\.png cannot be read"):
            ObjectPatches(tmp_path)
    Image.fromarray(solid(8, 8, (9, 9, 9, 0))).save(tmp_path / "z.png")
    with pytest.raises(ValueError, match=r"z\.png: shows nothing"):
        ObjectPatches(tmp_path)


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        ([], 8, "images: got none"),
        ([solid(4, 4)[..., :3]], 8, "images[0]: got uint8 of shape (4, 4, 3), needs"),
        ([solid(4, 4), solid(4, 4).astype(float)], 8, "images[1]: got float64"),
        ([solid(0, 4)], 8, "images[0]: shows nothing"),
        ([solid(4, 4)], 0, "size: got 0, needs"),
    ],
)
def test_refuses_images(images, size, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        ObjectPatches.from_images(images, size)


def test_draws_for_samples_of_int64_alone():
    """Others would be multiplied in 32 bits, and choose other objects."""
    objects = ObjectPatches.from_images([solid(8, 8)] * 5)
    for ids in (torch.arange(3, dtype=torch.int32), torch.zeros((2, 3), dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"^sample_ids: got"):
            objects.choose(ids, 2)
    with pytest.raises(TypeError, match=r"^sample_ids: got list"):
        objects.choose([1], 2)
    with pytest.raises(ValueError, match=r"^epoch: got -1"):
        objects.choose(torch.arange(3), 2, epoch=-1)
    with pytest.raises(TypeError, match=r"^epoch: got 1.5"):
        objects.choose(torch.arange(3), 2, epoch=1.5)
    with pytest.raises(TypeError, match=r"^seed: got 1.5"):
        objects.choose(torch.arange(3), 2, seed=1.5)
    tubelets = TubeletSampler()(torch.arange(2), num_frames=4, height=32, width=32)
    with pytest.raises(ValueError, match=r"^sample_ids: got shape \(3,\)"):
        objects.draw(tubelets, torch.arange(3))


def test_refuses_images_and_sizes_of_other_types():
    with pytest.raises(TypeError, match=r"^images\[0\]: got list"):
        ObjectPatches.from_images([[[1]]])
    with pytest.raises(TypeError, match=r"^size: got 16.0"):
        ObjectPatches.from_images([solid(8, 8)], size=16.0)


def test_without_pillow_says_what_to_install(folder, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.split(".")[0] == "PIL":
            raise ImportError("No module named 'PIL'")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install pillow"):
        ObjectPatches(folder)
