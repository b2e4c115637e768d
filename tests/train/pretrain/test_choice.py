import shlex

import pytest

from tubeletx_train.cli import main
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.pretrain.choice import Footage, choose_recipe, describe_choice
from tubeletx_train.pretrain.watch import FEWEST_QUEUES


def chosen_config(footage):
    lines = describe_choice("my videos/", footage, choose_recipe(footage))
    *arguments, flag, output = shlex.split(lines[-1])
    assert (arguments[:2], flag, output) == (["tubeletx-train", "pretrain"], "--run.output", "runs/mine")
    return parse_config(PretrainConfig, arguments[2:], prog="test")


@pytest.mark.parametrize("videos", [1, 16, 17, 150, 199])
@pytest.mark.parametrize("frames", [40, 300, 20_000])
def test_few_videos_get_a_narrow_network_and_no_queue(videos, frames):
    config = chosen_config(Footage(videos, frames / 25, frames, 240))
    assert config.data.videos == "my videos/"
    assert (config.model.width, config.contrast.queue_size) == (16, 0)
    assert (config.data.segment_seconds is None) == (videos > 16)
    assert config.data.cache_frames == (videos * frames * 96 * 128 * 3 <= 2e9)


@pytest.mark.parametrize("videos", [200, 999, 5_000, 16_384, 77_000, 240_000])
def test_more_videos_get_the_papers_network_and_no_queue_that_grows_stale(videos):
    config = chosen_config(Footage(videos, 10.0, 250, 256))
    assert (config.model.encoder, config.model.width) == ("r2plus1d_18", 64)
    replaced = videos * config.optim.epochs / config.contrast.queue_size
    assert replaced >= FEWEST_QUEUES
    assert config.contrast.queue_size == 16384 or replaced < 2 * FEWEST_QUEUES
    assert config.data.decode_size == 128
    assert chosen_config(Footage(videos, 10.0, 250, 120)).data.decode_size is None


def test_the_command_looks_at_the_videos(videos, tmp_path, capsys):
    assert main(["recipes", "--videos", str(videos)]) == 0
    out = capsys.readouterr().out
    assert f"# {videos}: 5 videos of about 4 s" in out
    assert f"tubeletx-train pretrain --config demo --data.videos {videos} --run.output runs/mine" in out
    (tmp_path / "torn.mp4").write_text("no video")
    assert main(["recipes", "--videos", str(tmp_path)]) == 2
    assert "not one of the 1 videos that were looked at can be read" in capsys.readouterr().err
    assert main(["recipes", "demo", "--videos", str(videos)]) == 2
