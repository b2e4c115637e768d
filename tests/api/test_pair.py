import pytest
import torch

from tubeletx.config import TubeletConfig
from tubeletx.pair import TubeletPair
from tubeletx.paste import PasteTubelets
from tubeletx.sampler import TubeletSampler

IDS = torch.tensor([5, 6, 7])


def clips(dtype=torch.uint8, shape=(3, 3, 8, 40, 48)):
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(2)]
    return drawn if dtype == torch.uint8 else [clip.to(dtype) / 255 for clip in drawn]


def test_the_same_tubelets_lie_on_both_clips():
    config = TubeletConfig.preset("paper", transforms=("rotation", "shear", "scale"))
    clip_1, clip_2 = clips()
    before = clip_1.clone(), clip_2.clone()
    made_1, made_2, tubelets = TubeletPair(config, seed=2)(clip_1, clip_2, IDS, epoch=3)
    assert torch.equal(clip_1, before[0])
    assert torch.equal(clip_2, before[1])
    covered = (tubelets.coverage((1, 1, 1)) > 0)[:, None].expand_as(clip_1)
    assert covered.any()
    assert torch.equal(made_1[covered], made_2[covered])  # hard pastes hide what lies beneath
    assert torch.equal(made_1[~covered], clip_1[~covered])
    assert torch.equal(made_2[~covered], clip_2[~covered])
    expected = TubeletSampler(config, seed=2)(IDS, num_frames=8, height=40, width=48, epoch=3)
    assert torch.equal(tubelets.centers, expected.centers)


def test_the_patches_come_from_clip_1():
    clip_1, clip_2 = clips()
    config = TubeletConfig(num_tubelets=1, transforms=(), shape_probabilities=(1, 0, 0), motion="static", inside=True)
    _, made, tubelets = TubeletPair(config)(clip_1, clip_2, IDS)
    for b in range(3):
        # Whole pixel steps leave colours as they are: move the tubelet to one.
        tubelets.centers[b] = tubelets.centers[b].floor() + 0.5 * (tubelets.patch_size[b, :, None] % 2)
    (made,) = tubelets.paste([clip_2], tubelets.crop(clip_1))
    for b in range(3):
        x0, y0, x1, y1 = tubelets.patch_box[b, 0].tolist()
        left, top = (tubelets.centers[b, 0, 0] - tubelets.patch_size[b, 0] / 2).int().tolist()
        patch = clip_1[b, :, tubelets.patch_frame[b, 0], y0:y1, x0:x1]
        top_cut, left_cut = max(0, -top), max(0, -left)
        pasted = made[b, :, 4, max(top, 0) : top + y1 - y0, max(left, 0) : left + x1 - x0]
        expected = patch[:, top_cut : top_cut + pasted.shape[1], left_cut : left_cut + pasted.shape[2]]
        assert torch.equal(pasted, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_in_place_equals_out_of_place(dtype):
    clip_1, clip_2 = clips(dtype)
    config = TubeletConfig.preset("released")
    copy_1, copy_2, _ = TubeletPair(config)(clip_1, clip_2, IDS)
    same_1, same_2, _ = TubeletPair(config, inplace=True)(clip_1, clip_2, IDS)
    assert same_1 is clip_1
    assert same_2 is clip_2
    assert torch.equal(copy_1, clip_1)
    assert torch.equal(copy_2, clip_2)


def test_a_sample_does_not_depend_on_its_batch():
    clip_1, clip_2 = clips()
    pair = TubeletPair(seed=1)
    together = pair(clip_1, clip_2, IDS)
    for b in range(3):
        alone = pair(clip_1[b : b + 1], clip_2[b : b + 1], IDS[b : b + 1])
        assert torch.equal(alone[0][0], together[0][b])
        assert torch.equal(alone[1][0], together[1][b])


def test_another_epoch_is_another_pair():
    clip_1, clip_2 = clips()
    pair = TubeletPair()
    assert not torch.equal(pair(clip_1, clip_2, IDS, epoch=0)[0], pair(clip_1, clip_2, IDS, epoch=1)[0])


def test_channels_last_gives_the_same():
    clip_1, clip_2 = clips(torch.float32)
    pair = TubeletPair()
    plain = pair(clip_1, clip_2, IDS)
    last = pair(*(clip.contiguous(memory_format=torch.channels_last_3d) for clip in (clip_1, clip_2)), IDS)
    assert torch.equal(plain[0], last[0])
    assert torch.equal(plain[1], last[1])


def test_gradients_reach_the_clips():
    clip_1, clip_2 = (clip.requires_grad_() for clip in clips(torch.float32))
    made_1, made_2, tubelets = TubeletPair()(clip_1, clip_2, IDS)
    (made_1.sum() + made_2.sum()).backward()
    outside = (tubelets.coverage((1, 1, 1)) == 0)[:, None].expand_as(clip_2)
    assert (clip_2.grad[outside] == 1).all()
    assert (clip_2.grad[~outside] == 0).all()


def test_has_no_state_and_a_readable_name():
    pair = TubeletPair(TubeletConfig(sigma=4.5))
    assert pair.state_dict() == {}
    assert "sigma=4.5" in repr(pair)


def test_empty_batch():
    clip = torch.zeros(0, 3, 8, 40, 48)
    made_1, _, tubelets = TubeletPair()(clip, clip.clone(), IDS[:0])
    assert made_1.shape == clip.shape
    assert tubelets.batch_size == 0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("clip_1", lambda a, b, i: (a[0], b, i)),
        ("clip_2", lambda a, b, i: (a, b[:2], i)),
        ("sample_ids", lambda a, b, i: (a, b, i[:2])),
        ("sample_ids", lambda a, b, i: (a, b, i[:, None])),
        ("sample_ids", lambda a, b, i: (a, b, i.int())),
    ],
)
def test_refuses(name, change):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        TubeletPair()(*change(*clips(), IDS))


@pytest.mark.parametrize("inplace", [False, True])
def test_other_layouts(inplace):
    clip_1, clip_2 = clips()
    expected = TubeletPair()(clip_1, clip_2, IDS)
    frames = [clip.transpose(1, 2).contiguous() for clip in (clip_1, clip_2)]
    made = TubeletPair(inplace=inplace, layout="BTCHW")(*frames, IDS)
    for index in range(2):
        assert torch.equal(made[index].transpose(1, 2), expected[index])
        assert (made[index] is frames[index]) == inplace


def test_a_batch_that_is_not_the_first_axis():
    clip_1, clip_2 = clips()
    expected = TubeletPair()(clip_1, clip_2, IDS)
    first, second = (clip.permute(1, 2, 0, 3, 4).contiguous() for clip in (clip_1, clip_2))
    made = TubeletPair(layout="CTBHW")(first, second, IDS)
    assert all(torch.equal(made[index].permute(2, 0, 1, 3, 4), expected[index]) for index in range(2))


def test_frames_before_channels_need_a_layout():
    """As torchcodec and torchvision decode them: another axis would pass for the channels."""
    frames = [clip.transpose(1, 2) for clip in clips()]
    with pytest.raises(ValueError, match=r"^clip_1: got shape .* of 8 channels .*; needs layout='BTCHW'"):
        TubeletPair()(*frames, IDS)
    TubeletPair()(*(clip.float() for clip in frames), IDS)  # features may have any number
    with pytest.raises(ValueError, match=r"^layout: got 'TCHW', needs an order of the letters BCTHW"):
        TubeletPair(layout="TCHW")


def test_what_autograd_saved_cannot_be_overwritten():
    clip_1, clip_2 = clips(torch.float32)
    weight = torch.ones((), requires_grad=True)
    loss = (weight * clip_1).sum()
    TubeletPair(inplace=True)(clip_1, clip_2, IDS)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_sample_ids_are_needed():
    with pytest.raises(TypeError, match="sample_ids"):
        TubeletPair()(*clips())
    with pytest.raises(TypeError, match=r"^sample_ids: got list, needs a tensor"):
        TubeletPair()(*clips(), IDS.tolist())


def test_compiles_without_breaks():
    clip_1, clip_2 = clips()
    pair = TubeletPair()
    compiled = torch.compile(pair, fullgraph=True, backend="aot_eager")
    for epoch in range(2):
        got, want = compiled(clip_1, clip_2, IDS, epoch), pair(clip_1, clip_2, IDS, epoch)
        assert torch.equal(got[0], want[0])
        assert torch.equal(got[1], want[1])
        assert torch.equal(got[2].centers, want[2].centers)


@pytest.mark.parametrize("name", ["clip_1", "clip_2"])
def test_refuses_what_is_no_tensor(name):
    clip = torch.zeros(2, 3, 4, 32, 32, dtype=torch.uint8)
    for other in ([1], clip.numpy(), None):
        with pytest.raises(TypeError, match=f"^{name}: got"):
            TubeletPair()(**{"clip_1": clip, "clip_2": clip, "sample_ids": torch.arange(2), name: other})


def test_names_the_clip_of_another_dtype():
    clip = torch.zeros(2, 3, 4, 32, 32)
    with pytest.raises(ValueError, match=r"^clip_2: got dtype torch.uint8"):
        TubeletPair()(clip, clip.byte(), torch.arange(2))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_overlapping_parts_of_a_video_are_not_pasted_onto_in_place(dtype):
    video = torch.zeros(2, 3, 6, 32, 32, dtype=dtype)
    clips = video[:, :, :4], video[:, :, 2:]
    with pytest.raises(ValueError, match=r"^clips: clips 0 and 1 share memory"):
        TubeletPair(inplace=True)(*clips, torch.arange(2))
    expected = TubeletPair()(clips[0].clone(), clips[1].clone(), torch.arange(2))
    assert all(map(torch.equal, TubeletPair()(*clips, torch.arange(2))[:2], expected[:2]))


@pytest.mark.parametrize("make", [TubeletPair, PasteTubelets])
def test_a_layout_is_a_string(make):
    with pytest.raises(TypeError, match=r"^layout: got 5"):
        make(layout=5)
