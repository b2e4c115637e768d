import json
import math

import pytest
import torch

from fixed_network import Fixed, noise_batches
from tubeletx_train.cli import main
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.machine import processor_name
from tubeletx_train.config.labelled import LabelledDataConfig
from tubeletx_train.config.pretrain import ContrastConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig
from tubeletx_train.data import DataConfig, DataError, check_videos, scan_folder
from tubeletx_train.data.labelled import ViewDataset
from tubeletx_train.evaluation.ceiling import supervised_ceiling
from tubeletx_train.evaluation.labelled import read_labelled
from tubeletx_train.evaluation.motion_probe import ProbeTask, draw_probe_task, motion_probe
from tubeletx_train.evaluation.motions import MOTION_NAMES, MOTION_PAIRS, motion_tubelets
from tubeletx_train.evaluation.probe import with_frames
from tubeletx_train.evaluation.readout import read_out, read_out_by_group
from tubeletx_train.figures.confusion import confusion_picture
from tubeletx_train.models import build_encoder
from tubeletx_train.pretrain.task import pretrain

T, S = 8, 32
EACH = 40  # clips of a motion


@pytest.fixture(scope="module")
def motions():
    """Path (EACH, T, 2) relative to its first frame and axes (EACH, T, 2, 2), by name."""
    labels = torch.arange(len(MOTION_NAMES)).repeat(EACH)
    tubelets = motion_tubelets(labels, num_frames=T, height=S, width=2 * S, generator=torch.Generator().manual_seed(0))
    path = (tubelets.centers - tubelets.centers[:, :, :1])[:, 0]
    rows = {name: labels == index for index, name in enumerate(MOTION_NAMES)}
    return {name: (path[chosen], tubelets.linear[chosen, 0]) for name, chosen in rows.items()}


@pytest.fixture(scope="module")
def checkpoint(videos, tmp_path_factory):
    config = PretrainConfig(
        data=DataConfig(videos=str(videos), num_frames=4, crop_size=16, decode_size=32, num_workers=0),
        model=ModelConfig(encoder="r2plus1d_10", width=2, dim=8),
        contrast=ContrastConfig(queue_size=8),
        optim=OptimConfig(batch_size=4, steps=2),
        run=RunConfig(output=str(tmp_path_factory.mktemp("probed")), device="cpu", tensorboard=False),
    )
    return pretrain(config).checkpoint


def test_there_are_twenty_motions_and_pairs_of_them():
    assert len(MOTION_NAMES) == len(set(MOTION_NAMES)) == 20
    assert {name for pair in MOTION_PAIRS for name in pair} == set(MOTION_NAMES) - {"zig-zag", "still"}


@pytest.mark.parametrize(("name", "axis", "sign"), [("right", 0, 1), ("left", 0, -1), ("down", 1, 1), ("up", 1, -1)])
def test_straight_motions_are_uniform(motions, name, axis, sign):
    path, _ = motions[name]
    end = sign * path[:, -1, axis]
    assert (end > S / 3 - 1e-3).all()
    assert (end < 2 * S / 3 + 1e-3).all()
    torch.testing.assert_close(path[..., axis], path[:, -1:, axis] * torch.linspace(0, 1, T))
    assert path[..., 1 - axis].abs().max() < 1e-4


def test_accelerating_and_decelerating_mirror_each_other_in_time(motions):
    time = torch.linspace(0, 1, T)
    for name, progress in (("accelerating", time**3), ("decelerating", 1 - (1 - time) ** 3)):
        path, _ = motions[name]
        torch.testing.assert_close(path[..., 0], path[:, -1:, 0] * progress, atol=1e-3, rtol=1e-3)
        assert (path[:, -1, 0] > 0).all()
        assert path[..., 1].abs().max() < 1e-4


@pytest.mark.parametrize(("name", "sign"), [("out and back", 1), ("back and out", -1)])
def test_out_and_back_ends_where_it_began(motions, name, sign):
    path, _ = motions[name]
    assert path[:, -1].abs().max() < 1e-3
    torch.testing.assert_close(path, path.flip(1), atol=1e-3, rtol=0)
    middle = sign * path[:, T // 2, 0]
    assert (middle > (1 - 1 / (T - 1)) * S / 3 - 1e-3).all()


@pytest.mark.parametrize(("name", "first"), [("left then up", 0), ("up then left", 1)])
def test_corners_take_one_way_after_the_other(motions, name, first):
    path, _ = motions[name]
    half = T // 2
    assert (path[:, half - 1, first] < -S / 4).all()
    assert path[:, :half, 1 - first].abs().max() < 1e-3
    torch.testing.assert_close(path[:, half:, first], path[:, -1:, first].expand(-1, T - half))
    torch.testing.assert_close(path[:, -1, 0], path[:, -1, 1])


@pytest.mark.parametrize(
    ("name", "turns"),
    [
        ("one turn clockwise", 1),
        ("one turn anticlockwise", -1),
        ("two turns clockwise", 2),
        ("two turns anticlockwise", -2),
    ],
)
def test_circles_close_after_their_turns(motions, name, turns):
    path, _ = motions[name]
    assert path[:, -1].abs().max() < 1e-3
    # With y down, x towards y is clockwise. Successive chords turn by the angle between two frames.
    step = torch.view_as_complex(path.diff(dim=1).contiguous())
    turned = torch.angle(step[:, 1:] / step[:, :-1])
    torch.testing.assert_close(turned, torch.full_like(turned, turns * 2 * math.pi / (T - 1)), atol=1e-2, rtol=0)


@pytest.mark.parametrize(("name", "sign"), [("spin clockwise", 1), ("spin anticlockwise", -1)])
def test_spins_turn_on_the_spot(motions, name, sign):
    path, linear = motions[name]
    assert path.abs().max() < 1e-4
    axis = torch.view_as_complex(linear[..., 0].contiguous())
    turned = sign * torch.angle(axis[:, 1:] / axis[:, :-1]).sum(1)
    assert (turned > 3 - 1e-3).all()
    assert (turned < 6 + 1e-3).all()
    torch.testing.assert_close(torch.linalg.det(linear), torch.ones(EACH, T))


@pytest.mark.parametrize(("name", "ratio"), [("growing", 1.4 / 0.6), ("shrinking", 0.6 / 1.4)])
def test_zooms_keep_place_and_angle(motions, name, ratio):
    path, linear = motions[name]
    assert path.abs().max() < 1e-4
    assert linear[..., 0, 1].abs().max() == 0
    torch.testing.assert_close(linear[:, -1, 0, 0] / linear[:, 0, 0, 0], torch.full((EACH,), ratio))


def test_still_and_zig_zag(motions):
    assert motions["still"][0].abs().max() < 1e-4
    path, _ = motions["zig-zag"]
    assert ((path[:, 1:, 1] - path[:, :-1, 1]).abs() > S / 8).any(1).all()


def test_patches_lie_in_the_frame_they_are_cropped_from():
    labels = torch.arange(len(MOTION_NAMES)).repeat(5)
    tubelets = motion_tubelets(labels, num_frames=T, height=S, width=2 * S, generator=torch.Generator().manual_seed(1))
    boxes = tubelets.patch_box[:, 0]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= 2 * S).all()
    assert (boxes[:, 3] <= S).all()


def test_probe_tasks_are_balanced_and_repeatable():
    task, again = (draw_probe_task(noise_batches(9), 40, seed=4) for _ in range(2))
    assert task.clips.shape == (40, 3, T, S, S)
    assert torch.equal(task.clips, again.clips)
    assert torch.bincount(task.labels).tolist() == [2] * 20
    moving = (task.clips[:, :, 1:] != task.clips[:, :, :1]).flatten(1).any(1)
    assert torch.equal(moving, task.labels != MOTION_NAMES.index("still"))
    with pytest.raises(ValueError, match="got 25 pairs, needs count=26"):
        draw_probe_task(noise_batches(5), 26)


def white_task(seed, count=400):
    """White on black: where, how large and how turned the patch is can be read off the pixels."""
    labels = torch.arange(count) % len(MOTION_NAMES)
    tubelets = motion_tubelets(labels, num_frames=T, height=S, width=S, generator=torch.Generator().manual_seed(seed))
    patches = torch.full((count, 1, 3, *tubelets.max_patch_size), 255, dtype=torch.uint8)
    (clips,) = tubelets.paste([torch.zeros(count, 3, T, S, S, dtype=torch.uint8)], patches)
    return ProbeTask(clips, labels)


def moments(clip):
    white = (clip[:, 0] > 0).float()
    grid = torch.arange(S) - S / 2
    area = white.sum((2, 3))
    return torch.cat([area, *((white * axis).sum((2, 3)) / area.clamp(min=1) for axis in (grid, grid[:, None]))], 1)


def test_probe_reads_motion_from_features_that_have_it_and_none_from_others():
    train, test = white_task(0), white_task(1)
    seeing = motion_probe(Fixed(moments), train, test)
    assert seeing.linear > 0.6
    assert seeing.knn > 0.4
    assert seeing.pairs["right / left"] > 0.95
    assert seeing.chance == pytest.approx(1 / 20)
    confusion = torch.tensor(seeing.confusion)
    assert confusion.sum(1).tolist() == [20] * 20
    assert confusion.trace().item() / 400 == pytest.approx(seeing.linear)
    blind = motion_probe(Fixed(lambda clip: torch.ones(len(clip), 2)), train, test)
    assert blind.linear == pytest.approx(1 / 20)
    assert blind.knn == pytest.approx(1 / 20, abs=1e-6)


def test_frames_in_any_order_do_not_tell_the_pairs_apart():
    def shuffled(clip):
        return moments(clip).unflatten(1, (3, T)).sort(dim=2).values.flatten(1)

    seeing = motion_probe(Fixed(shuffled), white_task(0), white_task(1))
    reversals = ("right / left", "growing / shrinking", "one turn clockwise / one turn anticlockwise")
    assert all(abs(seeing.pairs[pair] - 0.5) < 0.25 for pair in reversals)


def test_readout_by_group_never_fits_on_the_group_it_judges():
    # Each group has its own map from classes to features, so that only a leak could read them.
    labels = torch.arange(24) % 2
    groups = [str(index // 4) for index in range(24)]
    sign = torch.tensor([(-1.0) ** (index // 4) for index in range(24)])
    features = torch.stack([sign * (2 * labels - 1), torch.zeros(24)], 1)
    assert read_out_by_group(features, labels, groups, "ab").linear < 0.6
    clear = read_out_by_group(torch.stack([2.0 * labels - 1, torch.zeros(24)], 1), labels, groups, "ab")
    assert (clear.linear, clear.knn, clear.chance) == (1.0, 1.0, 0.5)
    with pytest.raises(ValueError, match="only one class"):
        read_out_by_group(features[:4], torch.tensor([0, 0, 1, 1]), ["a", "a", "b", "b"], "ab")


def test_a_pair_that_nothing_shows_is_left_out():
    features, labels = torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4)
    judged = labels == 0
    found = read_out((features, labels), (features[judged], labels[judged]), "abc", [("a", "b"), ("b", "c")])
    assert found.pairs == {"a / b": 1.0}


def test_nearest_neighbours_are_fewer_than_the_smallest_class():
    features = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 30)
    labels = torch.tensor([0] * 3 + [1] * 30)
    assert read_out((features, labels), (features, labels), "ab").knn == 1.0


def test_the_ceiling_trains_the_network_it_is_given():
    torch.manual_seed(0)
    encoder = build_encoder("r2plus1d_10", 2)
    before = encoder.layer1[0].conv1[0][0].weight.clone()
    clips = torch.cat([batch.clip_1 for batch in noise_batches(2)])
    ceiling = supervised_ceiling(encoder, clips, white_task(0, 40), steps=2, batch_size=8)
    assert 0 <= ceiling.accuracy <= 1
    assert not torch.equal(before, encoder.layer1[0].conv1[0][0].weight)


@pytest.fixture(scope="module")
def classes(write_video, tmp_path_factory):
    """Two classes, red and blue, of three people each; one file cannot be read."""
    root = tmp_path_factory.mktemp("classes")
    for name, tint in (("red", (220, 20, 20)), ("blue", (20, 20, 220))):
        for person in range(3):
            write_video(root / name / f"p{person}_{name}.mp4", tint=tint, frames=9 + person)
    (root / "blue" / "p1_broken.mp4").write_text("this is no video\n" * 40)
    return root


def test_labelled_videos_from_a_folder(classes):
    data = DataConfig(videos=str(classes), num_frames=4, strides=(2,), crop_size=16, decode_size=32)
    videos, bad = read_labelled(str(classes), data, clips=2, group_pattern=r"(p\d)_")
    assert videos.clips.shape == (6, 2, 3, 4, 16, 16)
    assert videos.names == ["blue", "red"]
    assert videos.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert videos.groups == ["p0", "p1", "p2"] * 2
    assert [video.path.rpartition("/")[2] for video in bad] == ["p1_broken.mp4"]
    with pytest.raises(DataError, match="finds no group"):
        read_labelled(str(classes), data, clips=1, group_pattern=r"q(\d)")
    with pytest.raises(DataError, match="two classes"):
        read_labelled(str(classes / "red"), data, clips=1)


@pytest.mark.parametrize(("num_frames", "stride", "views"), [(4, 2, 3), (6, 2, 1), (11, 1, 1), (10, 1, 3)])
def test_videos_that_fit_into_one_clip_give_one(classes, num_frames, stride, views):
    """Of 9, 10 and 11 frames: they are embedded once, and a longer one keeps what is asked for."""
    data = with_frames(DataConfig(videos=str(classes), crop_size=16, decode_size=32), num_frames, stride)
    videos, _ = read_labelled(str(classes), data, clips=3)
    assert videos.clips.shape == (6, views, 3, num_frames, 16, 16)


def test_probe_and_evaluation_see_the_same_pixels(classes):
    data = DataConfig(videos=str(classes), num_frames=4, strides=(2,), crop_size=16, decode_size=32, num_workers=0)
    videos, _ = read_labelled(str(classes), data, clips=2)
    records, _ = check_videos(scan_folder(classes), progress=False)
    config = LabelledDataConfig(
        num_frames=4, fps=None, stride=2, short="hold", crop_size=16, decode_size=32, test_clips=2, num_workers=0
    )
    for clips, item in zip(videos.clips, ViewDataset(records, config), strict=True):
        assert torch.equal(clips, item.views.permute(0, 4, 1, 2, 3))


def test_the_command_reads_motions(checkpoint, videos, tmp_path, capsys):
    command = ["probe", str(checkpoint), "--videos", str(videos), "--fit_count", "40", "--count", "20"]
    assert main([*command, "--ceiling_steps", "2", "--num_workers", "0", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for word in ("accuracy over 20 classes", "untrained", "chance", "ceiling", "growing / shrinking"):
        assert word in printed
    content = json.loads((tmp_path / "probe.json").read_text())
    assert content["names"] == list(MOTION_NAMES)
    assert content["task"] == "motion"
    assert {name: content[name] for name in ("processor", "precision")} == {
        "processor": processor_name(torch.device("cpu")),
        "precision": "float32",
    }
    assert 0 <= content["trained"]["linear"] <= 1
    assert (tmp_path / "confusion.png").stat().st_size > 0
    assert main([*command, "--num_workers", "0", "--num_frames", "9", "--output", str(tmp_path / "longer")]) == 0
    longer = json.loads((tmp_path / "longer" / "probe.json").read_text())
    assert longer["untrained"]["confusion"] != content["untrained"]["confusion"]


def test_the_command_reads_labels_by_group_by_split_and_one_by_one(checkpoint, classes, tmp_path, capsys):
    command = ["probe", "--checkpoint", str(checkpoint), "--task", "labels", "--videos"]
    assert main([*command, str(classes), "--group_pattern", r"(p\d)_"]) == 0
    assert "accuracy over 2 classes" in capsys.readouterr().out
    assert main([*command, str(classes)]) == 0
    manifest = tmp_path / "split.csv"
    rows = [
        f"{classes / name / f'p{person}_{name}.mp4'},{name},{'test' if person else 'train'}"
        for name in ("red", "blue")
        for person in range(3)
    ]
    manifest.write_text("\n".join(["path,label,split", *rows]) + "\n")
    assert main([*command, str(manifest)]) == 0
    assert main([*command, str(manifest), "--num_frames", "7", "--stride", "1", "--output", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "probe.json").read_text())["num_frames"] == 7
    assert main([*command, str(manifest), "--split", "validation"]) == 2
    assert "no labelled video of split 'validation'" in capsys.readouterr().err


def test_splits_say_what_is_judged_by_what_where_there_are_groups_too(classes, tmp_path):
    manifest = tmp_path / "both.csv"
    videos = [f"{classes / name / f'p{person}_{name}.mp4'},{name}" for name in ("red", "blue") for person in range(2)]
    manifest.write_text("\n".join(["path,label,split,group", *(f"{video},train,one" for video in videos)]) + "\n")
    data = DataConfig(videos=str(manifest), num_frames=2, crop_size=16, decode_size=32)
    assert read_labelled(str(manifest), data, clips=1)[0].groups is None
    assert set(read_labelled(str(manifest), data, clips=1, group_pattern=r"(p\d)_")[0].groups) == {"p0", "p1"}


def test_a_confusion_picture_needs_a_square_matrix(tmp_path):
    assert (
        confusion_picture(tmp_path / "a.png", {"a": [[3, 1], [0, 0]], "b": [[1, 2], [0, 1]]}, ["one", "other"])
        .stat()
        .st_size
        > 0
    )
    with pytest.raises(ValueError, match="counts"):
        confusion_picture(tmp_path / "b.png", {"a": [[3, 1]]}, ["one", "other"])


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, videos):
    (tmp_path / "a.pt").write_bytes(b"nothing")
    assert main(["probe", str(tmp_path / "a.pt"), "--videos", str(videos)]) == UsageError.exit_code
