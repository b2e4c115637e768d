import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from tubeletx_train.cli import main
from tubeletx_train.config.pretrain import ModelConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.data import VideoRecord, write_manifest
from tubeletx_train.evaluation.attention import AttentionConfig, activation_maps, motion_gain, read_clips
from tubeletx_train.figures.attention import attention_animation, attention_strip, overlay
from tubeletx_train.models import build_encoder
from video_files import frame_numbers, make_uneven_video

TINY = ModelConfig(encoder="r2plus1d_10", width=2)


class FrameDifference(torch.nn.Module):
    """Stands in for a network that looks at motion: its features are pooled frame differences."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def feature_map(self, clip):
        difference = torch.nn.functional.pad(clip.diff(dim=2).abs(), (0, 0, 0, 0, 1, 0))
        return torch.nn.functional.avg_pool3d(difference, (2, 8, 8))


def moving_square(frames=8, size=48):
    """A bright square that moves along the top of a still, grey picture."""
    clip = torch.full((1, 3, frames, size, size), 90, dtype=torch.uint8)
    for frame in range(frames):
        clip[..., frame, 4:12, 4 * frame : 4 * frame + 8] = 250
    return clip


def pretraining_checkpoint(path, seed=0):
    torch.manual_seed(seed)
    encoder = build_encoder(TINY.encoder, TINY.width)
    model = {f"query_net.encoder.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"tubeletx": "0", "config": {"model": to_tree(TINY)}, "model": model}, path)
    return path


def test_maps_are_channel_means_normalised_over_the_clip():
    class Features(torch.nn.Module):
        def __init__(self, features):
            super().__init__()
            self.features = torch.nn.Parameter(features)

        def feature_map(self, clip):
            return self.features

    features = torch.randn(1, 5, 2, 3, 4)
    clip = torch.zeros(1, 3, 2, 3, 4, dtype=torch.uint8)
    maps = activation_maps(Features(features), clip).numpy()
    mean = features.numpy().mean(1)
    np.testing.assert_allclose(maps, (mean - mean.min()) / (mean.max() - mean.min()), atol=1e-6)
    flat = activation_maps(Features(torch.ones(1, 5, 2, 3, 4)), clip)
    assert (flat == 0).all()


def test_each_clip_is_normalised_by_itself_and_empty_batches_pass():
    encoder = build_encoder(TINY.encoder, TINY.width)
    clips = torch.randint(0, 256, (3, 3, 6, 24, 40), dtype=torch.uint8)
    maps = activation_maps(encoder, clips, input_size=32)
    assert maps.shape == (3, 6, 24, 40)
    assert not maps.requires_grad
    torch.testing.assert_close(maps[1:2], activation_maps(encoder, clips[1:2], input_size=32))
    assert activation_maps(encoder, clips[:0]).shape == (0, 6, 24, 40)


def test_a_network_that_looks_at_motion_is_hot_where_the_square_moves():
    clip = moving_square()
    maps = activation_maps(FrameDifference(), clip)
    row, column = divmod(int(maps[0, 1:].mean(0).argmax()), 48)
    assert row < 16
    assert column < 44
    assert maps[0, 1:, 24:].max() < 0.2 * maps.max()
    assert motion_gain(clip, maps) > 3
    assert motion_gain(clip, torch.ones(1, 8, 48, 48)) == pytest.approx(1)
    assert motion_gain(clip, 1 - maps) < 1
    assert np.isnan(motion_gain(torch.zeros_like(clip), maps))


def test_overlay_shows_the_frame_where_the_map_is_cold():
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    cold = overlay(frames, np.zeros((2, 4, 5), np.float32))
    np.testing.assert_array_equal(cold, (0.75 * frames).round())
    hot = overlay(frames, np.full((2, 4, 5), 7.0, np.float32)).astype(int)  # what is out of range is clipped
    assert (hot[..., 0] > hot[..., 2] + 0.4 * 0.75 * (frames[..., 0].astype(int) - frames[..., 2]) - 2).all()


def test_pictures_have_a_row_a_network(tmp_path):
    clips = moving_square().expand(2, -1, -1, -1, -1)
    maps = {name: torch.full((2, 8, 48, 48), value) for name, value in (("cold", 0.0), ("hot", 1.0))}
    strip = np.asarray(Image.open(attention_strip(tmp_path / "new" / "a.png", clips, maps, columns=3)))
    grey, dark = (np.abs(strip.astype(int) - level).max(-1) < 2 for level in (90, 68))
    background = 48 * 48 - 64
    assert grey.sum() >= 2 * 3 * background
    assert 2 * 3 * background <= dark.sum() < 2.2 * 3 * 48 * 48
    frames = imageio.mimread(attention_animation(tmp_path / "a.gif", clips, maps))
    assert len(frames) == 8
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 60


def test_pictures_refuse_what_does_not_fit(tmp_path):
    clip = moving_square()
    with pytest.raises(ValueError, match=r"maps\['a'\]: got"):
        attention_strip(tmp_path / "a.png", clip, {"a": torch.zeros(1, 8, 48, 47)})
    with pytest.raises(ValueError, match="clips: got"):
        attention_animation(tmp_path / "a.gif", clip[:0], {})
    with pytest.raises(ValueError, match=r"needs one that ends in \.gif or \.mp4"):
        attention_animation(tmp_path / "a.avi", clip, {})


def test_one_command_draws_several_checkpoints(tmp_path, videos, broken, capsys, caplog):
    (tmp_path / "b.mp4").write_bytes((broken / "noise.mp4").read_bytes())
    for name in ("a.mp4", "one.mp4"):
        (tmp_path / name).write_bytes((videos / name).read_bytes())
    weights = [str(pretraining_checkpoint(tmp_path / f"{seed}.pt", seed)) for seed in (0, 1)]
    sizes = ["--num_frames", "4", "--input_size", "24", "--picture_size", "32", "--device", "cpu"]
    output = tmp_path / "pictures"
    arguments = ["attention", "--checkpoints", *weights, "--names", "tubelet", "temporal", "--videos", str(tmp_path)]
    assert main([*arguments, "--output", str(output), *sizes]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed[:3]] == ["tubelet", "temporal", "untrained"]
    assert printed[3:] == [str(output / "attention.png"), str(output / "attention.gif")]
    assert "b.mp4" in caplog.text
    one = ["attention", "--checkpoints", weights[0], "--videos", str(tmp_path / "a.mp4"), "--output", str(output)]
    assert main([*one, *sizes]) == 0
    assert capsys.readouterr().out.startswith("0: ")


def test_the_middle_is_that_of_the_stretch_by_time_stamps(tmp_path):
    video = make_uneven_video(tmp_path / "uneven.mp4")
    write_manifest(tmp_path / "list.csv", [VideoRecord(str(video), start=1.0, end=4.0)])
    config = AttentionConfig((), str(tmp_path / "list.csv"), num_frames=2, stride=1, picture_size=48)
    _, clips = read_clips(config)
    assert frame_numbers(clips[0].permute(1, 2, 3, 0).numpy()) == [20, 25]  # of 10, 15, ..., 35


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--names", "a", "b"], "names: got 2, needs one for each of 1 checkpoints"),
        (["--names", "untrained"], "needs names that differ"),
        (["--videos", "/nowhere"], "/nowhere"),
        (["--checkpoints", "/nowhere.pt"], "/nowhere.pt"),
        (["--num_frames", "0"], "num_frames: got 0, needs 1 or more"),
    ],
)
def test_mistakes_end_with_one_line(tmp_path, videos, extra, message, capsys):
    weights = pretraining_checkpoint(tmp_path / "w.pt")
    arguments = ["attention", "--videos", str(videos), "--output", str(tmp_path / "o"), "--checkpoints", str(weights)]
    assert main([*arguments, *extra]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
