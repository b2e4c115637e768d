import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, default_collate

import tubeletx
from tubeletx import ObjectPatches, PasteTubelets, TubeletConfig

CONFIG = TubeletConfig.preset("paper", transforms=("rotation", "scale"))
SHAPE = (6, 40, 48, 3)


def frames_of(sample_id, dtype=np.uint8):
    frames = np.random.default_rng(sample_id).integers(0, 256, SHAPE, dtype=np.uint8)
    return frames if dtype == np.uint8 else (frames / 255).astype(dtype)


def expected(sample_id, epoch=0, seed=0):
    """The pasted frames, by the functions beneath."""
    clip = torch.from_numpy(frames_of(sample_id)).permute(3, 0, 1, 2)[None]
    ids = torch.tensor([sample_id])
    tubelets = tubeletx.TubeletSampler(CONFIG, seed)(ids, num_frames=6, height=40, width=48, epoch=epoch)
    (pasted,) = tubelets.paste([clip], tubelets.crop(clip))
    return pasted[0].permute(1, 2, 3, 0).numpy()


def objects(count=5):
    generator = np.random.default_rng(9)
    sides = generator.integers(5, 60, (count, 2))
    return [generator.integers(1, 256, (*side, 4), dtype=np.uint8) for side in sides]


def test_a_numpy_sample_is_written_in_place():
    frames = frames_of(3)
    address = frames.ctypes.data
    assert PasteTubelets(CONFIG)(frames, 3) is frames
    assert frames.ctypes.data == address
    np.testing.assert_array_equal(frames, expected(3))


def test_a_view_of_a_larger_array_is_written_through():
    video = np.zeros((20, 50, 60, 3), np.uint8)
    window = video[2:14:2, 4:44, 5:53]
    window[:] = frames_of(3)
    PasteTubelets(CONFIG)(window, 3)
    np.testing.assert_array_equal(video[2:14:2, 4:44, 5:53], expected(3))
    video[2:14:2, 4:44, 5:53] = 0
    assert not video.any()


def test_a_tensor_sample_shares_its_memory_with_what_it_came_from():
    frames = frames_of(3)
    tensor = torch.from_numpy(frames)
    pasted = PasteTubelets(CONFIG)(tensor, 3)
    assert pasted.data_ptr() == frames.ctypes.data
    np.testing.assert_array_equal(frames, expected(3))


@pytest.mark.parametrize("layout", ["BCTHW", "BTCHW", "BTHWC", "TBCHW", None])
def test_a_batch_equals_its_samples_in_every_layout(layout):
    batch = torch.from_numpy(np.stack([frames_of(i) for i in range(4)]))
    arranged = batch.permute(["BTHWC".index(axis) for axis in layout or "BCTHW"])
    assert PasteTubelets(CONFIG, layout=layout)(arranged, torch.arange(4)) is arranged
    np.testing.assert_array_equal(batch.numpy(), np.stack([expected(i) for i in range(4)]))


@pytest.mark.parametrize("layout", ["TCHW", "BTCHW", "CTHW"])
def test_a_sample_in_other_layouts(layout):
    frames = torch.from_numpy(frames_of(3))
    arranged = frames.permute(["THWC".index(axis) for axis in layout.replace("B", "")])
    PasteTubelets(CONFIG, layout=layout)(arranged, 3)
    np.testing.assert_array_equal(frames.numpy(), expected(3))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_out_of_place_leaves_the_clips_alone(dtype):
    frames = frames_of(3, dtype)
    before = frames.copy()
    pasted = PasteTubelets(CONFIG, inplace=False)(frames, 3)
    np.testing.assert_array_equal(frames, before)
    np.testing.assert_allclose(pasted * (1 if dtype == np.uint8 else 255), expected(3), atol=0.51)
    assert (pasted != before).any()


def test_several_clips_get_the_patches_of_the_first():
    first, second = (torch.from_numpy(frames_of(i)).permute(3, 0, 1, 2)[None] for i in (3, 4))
    pair = tubeletx.TubeletPair(CONFIG)(first, second, torch.tensor([3]))
    pasted = PasteTubelets(CONFIG, inplace=False)([first, second], [3])
    assert isinstance(pasted, list)
    for got, want in zip(pasted, pair[:2], strict=True):
        assert torch.equal(got, want)
    clips = (first, second)
    assert PasteTubelets(CONFIG)(clips, 3)[0] is first
    assert torch.equal(first, pair[0])


@pytest.mark.parametrize(
    "ids", [3, np.int64(3), [3], np.array([3], np.int32), torch.tensor(3), torch.tensor([3]).int()]
)
def test_sample_ids_of_any_integer_kind(ids):
    np.testing.assert_array_equal(PasteTubelets(CONFIG)(frames_of(3), ids), expected(3))


def test_seed_and_epoch_decide():
    paste = PasteTubelets(CONFIG, seed=7)
    np.testing.assert_array_equal(paste(frames_of(3), 3), expected(3, seed=7))
    np.testing.assert_array_equal(paste(frames_of(3), 3, epoch=2), expected(3, seed=7, epoch=2))
    assert (expected(3, seed=7, epoch=2) != expected(3, seed=7)).any()
    paste.set_epoch(2)
    assert paste.epoch == 2
    np.testing.assert_array_equal(paste(frames_of(3), 3), expected(3, seed=7, epoch=2))
    np.testing.assert_array_equal(paste(frames_of(3), 3, epoch=0), expected(3, seed=7))


# Containers


class Compose(nn.Module):
    """What torchvision.transforms.v2.Compose does with its inputs."""

    def __init__(self, transforms):
        super().__init__()
        self.transforms = transforms

    def forward(self, *inputs):
        several = len(inputs) > 1
        for transform in self.transforms:
            outputs = transform(*inputs)
            inputs = outputs if several else (outputs,)
        return outputs


def test_in_a_compose_the_sample_carries_its_id():
    def invert(sample):
        return {**sample, "video": 255 - sample["video"]}

    sample = {"video": 255 - frames_of(3), "sample_id": 3, "label": 1}
    made = Compose([invert, PasteTubelets(CONFIG), invert])(sample)
    np.testing.assert_array_equal(255 - made["video"], expected(3))
    assert made["label"] == 1
    assert made["sample_id"] == 3


def test_a_mapping_by_other_keys():
    paste = PasteTubelets(CONFIG, video_key="clips", id_key="index")
    first, second = frames_of(3), frames_of(4)
    made = paste({"clips": [first, second], "index": 3})
    assert made["clips"][0] is first
    np.testing.assert_array_equal(first, expected(3))
    with pytest.raises(ValueError, match=r"^clips: got a mapping with the keys \['video'\], needs 'clips'"):
        paste({"video": first})


def test_around_a_sequential_the_context_carries_the_ids():
    paste = PasteTubelets(CONFIG)
    clips = torch.from_numpy(np.stack([frames_of(3), frames_of(8)])).permute(0, 4, 1, 2, 3)
    pipeline = nn.Sequential(nn.Identity(), paste)
    with paste.samples(torch.tensor([3, 8])):
        made = pipeline(clips)
    assert made is clips
    np.testing.assert_array_equal(made.permute(0, 2, 3, 4, 1).numpy(), np.stack([expected(3), expected(8)]))
    with pytest.raises(ValueError, match=r"^sample_ids: got none"):
        pipeline(clips)


def test_flattened_frames_as_kornia_hands_them_to_its_children():
    paste = PasteTubelets(CONFIG, layout="(BT)CHW")
    flat = torch.from_numpy(np.concatenate([frames_of(3), frames_of(8)])).permute(0, 3, 1, 2)
    with paste.samples([3, 8]):
        made = paste(flat)
    np.testing.assert_array_equal(made.permute(0, 2, 3, 1).numpy(), np.concatenate([expected(3), expected(8)]))
    with pytest.raises(ValueError, match=r"^clips: got shape \(12, 3, 40, 48\), needs \(B T, C, H, W\) with B = 5"):
        paste(flat, range(5))


# Workers


class Samples(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.transform(frames_of(index), index)


class WithoutIds(Samples):
    def __getitem__(self, index):
        try:
            return self.transform(frames_of(index))
        except ValueError as error:
            return str(error)


def to_tensor(samples):
    return default_collate([torch.from_numpy(sample) for sample in samples])


def test_persistent_workers_give_the_same_pixels_and_follow_the_epoch():
    paste = PasteTubelets(CONFIG)
    loader = DataLoader(Samples(paste), 2, num_workers=2, persistent_workers=True, collate_fn=to_tensor)
    for epoch in (0, 3):
        paste.set_epoch(epoch)
        made = torch.cat(list(loader)).numpy()
        np.testing.assert_array_equal(made, np.stack([expected(i, epoch) for i in range(6)]))


def test_a_worker_without_a_sample_id_says_what_is_missing():
    for message in DataLoader(WithoutIds(PasteTubelets(CONFIG)), num_workers=1, batch_size=None):
        assert message.startswith("sample_ids: got none in loader worker 0, needs the sample's id")


@pytest.mark.parametrize("patches", [None, "objects"])
def test_copies_are_independent_and_pickles_equal(patches):
    paste = PasteTubelets(CONFIG, seed=4, patches=ObjectPatches.from_images(objects()) if patches else None)
    paste.set_epoch(2)
    pickled, copied = pickle.loads(pickle.dumps(paste)), copy.deepcopy(paste)
    want = paste(frames_of(3), 3)
    for other in (pickled, copied):
        assert other._epoch.is_shared()
        np.testing.assert_array_equal(other(frames_of(3), 3), want)
        other.set_epoch(9)
    assert paste.epoch == 2
    assert paste.state_dict() == {}


# Objects


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_objects_are_drawn_and_stretched_to_the_tubelets(dtype):
    patches = ObjectPatches.from_images(objects(), size=32)
    config = TubeletConfig.preset("smile", reference_size=100)
    paste = PasteTubelets(config, seed=5, patches=patches)
    frames = frames_of(3, dtype)
    clip = torch.from_numpy(frames.copy()).permute(3, 0, 1, 2)[None]
    made = paste(frames, 3, epoch=1)
    ids = torch.tensor([3])
    tubelets = paste.sampler(ids, num_frames=6, height=40, width=48, epoch=1)
    drawn, fitted = patches.draw(tubelets, ids, seed=5, epoch=1)
    drawn = drawn if dtype == np.uint8 else drawn.float() / 255
    (want,) = fitted.paste([clip], drawn)
    np.testing.assert_array_equal(made, want[0].permute(1, 2, 3, 0).numpy())
    assert (made != frames_of(3, dtype)).any()


# Errors


@pytest.mark.parametrize("layout", ["HWC", "BCTHWC", "BCTH", "bcthw", "", "TCHWW"])
def test_refuses_layouts(layout):
    with pytest.raises(ValueError, match=r"^layout: got "):
        PasteTubelets(layout=layout)


def read_only():
    frames = frames_of(0)
    frames.flags.writeable = False
    return frames


@pytest.mark.parametrize(
    ("clips", "ids", "error", "message"),
    [
        (frames_of(0), None, ValueError, "sample_ids: got none, needs"),
        (frames_of(0), [1, 2], ValueError, "sample_ids: got 2, needs one for each of 1"),
        (frames_of(0), 1.5, ValueError, "sample_ids: got torch.float32, needs integers"),
        (frames_of(0), True, ValueError, "sample_ids: got torch.bool, needs integers"),
        (frames_of(0), "a", ValueError, "sample_ids: got 'a', needs integers"),
        (frames_of(0), 1 << 70, ValueError, f"sample_ids: got {1 << 70}, needs integers of 64 bits"),
        (read_only(), 0, ValueError, "clips: got a read-only array"),
        (frames_of(0)[::-1], 0, ValueError, "clips: got an array with a negative stride"),
        (frames_of(0)[0], 0, ValueError, "clips: got shape .* needs the axes THWC"),
        (frames_of(0).tolist(), 0, TypeError, "clips: got list, needs"),
        ("frames", 0, TypeError, "clips: got str, needs"),
        ([], 0, ValueError, "clips: got an empty list"),
        (torch.zeros(6, 3, 40, 48, dtype=torch.uint8), 0, ValueError, "clips: got shape .* needs layout='TCHW'"),
        (torch.zeros(3, 6, 40, 48, dtype=torch.uint8), 0, ValueError, "clips: got shape .* needs layout='CTHW'"),
        (torch.zeros(3, 3, 40, 48, dtype=torch.uint8), 0, ValueError, "clips: .* layout='TCHW' or 'CTHW'"),
        (torch.zeros(1, 6, 3, 40, 48, dtype=torch.uint8), 0, ValueError, "clips: got shape .* needs layout='BTCHW'"),
        (torch.zeros(1, 6, 40, 48, 3, dtype=torch.uint8), 0, ValueError, "clips: got shape .* needs layout='BTHWC'"),
        (np.zeros((6, 40, 48, 7), np.uint8), 0, ValueError, "clips: got shape .* needs `layout`, the order"),
        (torch.zeros(2, 3, 4, 5, 6).int(), [0, 1], ValueError, "clip: got dtype Int"),
        (torch.zeros(1, 3, 4, 5, 6, requires_grad=True), 0, ValueError, "clips: requires a gradient"),
    ],
)
def test_refuses(clips, ids, error, message):
    with pytest.raises(error, match=f"^{message}"):
        PasteTubelets(CONFIG)(clips, ids)


def test_a_given_layout_takes_any_number_of_channels():
    frames = np.zeros((6, 40, 48, 7), np.uint8)
    assert PasteTubelets(CONFIG, layout="THWC")(frames, 3) is frames


@pytest.mark.parametrize("spoil", [read_only, lambda: frames_of(0)[::-1]])
def test_what_cannot_be_written_is_copied_out_of_place(spoil):
    frames = spoil()
    before = frames.copy()
    made = PasteTubelets(CONFIG, inplace=False)(frames, 3)
    np.testing.assert_array_equal(frames, before)
    np.testing.assert_array_equal(made, PasteTubelets(CONFIG)(before.copy(), 3))


@pytest.mark.parametrize(
    ("epoch", "error"), [(-5, ValueError), (2**32, ValueError), (1.7, TypeError), ("1", TypeError), (None, TypeError)]
)
def test_refuses_epochs(epoch, error):
    paste = PasteTubelets(CONFIG)
    with pytest.raises(error, match=r"^epoch: got .*, needs an integer"):
        paste.set_epoch(epoch)
    assert paste.epoch == 0


def test_threads_name_samples_for_themselves():
    paste = PasteTubelets(CONFIG)
    made, entered = {}, threading.Barrier(2)

    def work(sample_id):
        frames = frames_of(sample_id)
        with paste.samples(sample_id):
            entered.wait()
            made[sample_id] = paste(frames)
            entered.wait()

    threads = [threading.Thread(target=work, args=(sample_id,)) for sample_id in (3, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sample_id in (3, 8):
        np.testing.assert_array_equal(made[sample_id], expected(sample_id))


def test_an_empty_batch_stays_empty():
    clips = torch.zeros(0, 3, 4, 32, 32, dtype=torch.uint8)
    assert PasteTubelets(CONFIG)(clips, []) is clips


def test_gradients_flow_out_of_place():
    clips = torch.rand(1, 3, 4, 32, 32, requires_grad=True)
    PasteTubelets(CONFIG, inplace=False)(clips, 0).sum().backward()
    assert clips.grad is not None
    assert clips.grad.any()


@pytest.mark.parametrize("channels", [1, 4])
def test_objects_go_onto_clips_of_three_channels(channels: int) -> None:
    """With four, the objects' alpha would pass for a colour."""
    objects = ObjectPatches.from_images([np.full((9, 9, 4), 200, np.uint8)])
    clips = torch.zeros(1, channels, 4, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match=f"^clips: got {channels} channels, needs 3"):
        PasteTubelets(patches=objects)(clips, 0)
    assert not clips.any()


@pytest.mark.parametrize("dtype", [">f4", "<i2", "<u2", "O", "?"])
def test_refuses_arrays_of_other_dtypes(dtype):
    for inplace in (False, True):
        with pytest.raises(ValueError, match=r"^clips: got dtype"):
            PasteTubelets(inplace=inplace)(np.zeros((4, 32, 32, 3), dtype), 0)


def test_a_field_of_records_is_copied_out_of_place():
    records = np.zeros((4, 32, 32, 3), [("flag", "u1"), ("value", "f4")])
    records["value"] = np.random.default_rng(0).random(records.shape)
    with pytest.raises(ValueError, match=r"^clips: got an array whose elements stand"):
        PasteTubelets()(records["value"], 0)
    pasted = PasteTubelets(inplace=False)(records["value"], 0)
    np.testing.assert_array_equal(pasted, PasteTubelets()(records["value"].copy(), 0))


def test_ids_of_uint64_do_not_wrap():
    ids = np.array([2**63 + 5], np.uint64)
    with pytest.raises(ValueError, match=r"^sample_ids: got integers beyond"):
        PasteTubelets()(frames_of(0), ids)
    np.testing.assert_array_equal(
        PasteTubelets()(frames_of(0), np.array([5], np.uint64)), PasteTubelets()(frames_of(0), 5)
    )


def test_overlapping_parts_of_a_video_are_not_pasted_onto_in_place():
    video = np.zeros((6, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match=r"^clips: clips 0 and 1 share memory"):
        PasteTubelets()([video[:4], video[2:]], 0)
    assert not video.any()
