from __future__ import annotations

import json
import time

import pytest

from tubeletx_train.cli import main
from tubeletx_train.common.errors import UsageError
from tubeletx_train.data import DataConfig, NoUsableVideos
from tubeletx_train.pretrain import throughput as module
from tubeletx_train.pretrain.throughput import (
    Demand,
    Supply,
    Throughput,
    ThroughputConfig,
    advise,
    format_throughput,
    measure_throughput,
)

TOY = [
    "--model.encoder=r2plus1d_10",
    "--model.width=2",
    "--model.dim=8",
    "--contrast.queue_size=16",
    "--data.num_frames=4",
    "--data.crop_size=24",
    "--data.decode_size=32",
    "--data.num_workers=1",
    "--optim.batch_size=2",
    "--optim.precision=float32",
    "--run.device=cpu",
]


def test_the_command_says_what_to_set_and_leaves_nothing_behind(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["throughput", "--data.videos", str(videos), *TOY, "--seconds=2", "--findings=found.json"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("the network takes ")
    assert "float32, 2 pairs a step" in lines[0]
    names = [line.split("  ")[0] for line in lines[2:-1]]
    assert names[0].startswith("decoded by ")
    assert any(name.startswith("transcoded to 32, gop 12") for name in names)
    assert {"bank, reuse 4", "bank, reuse 16", "transcoded, bank, reuse 4"} <= set(names)
    assert "set" in lines[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["advice"] in lines[-1]
    rates = {supply["name"]: supply["pairs_per_second"] for supply in found["supplies"]}
    assert all(rate > 0 for rate in rates.values())
    assert rates["bank, reuse 16"] == pytest.approx(4 * rates["bank, reuse 4"])


def test_rates_are_of_the_time_that_passes(monkeypatch):
    class Sleeping:
        def __len__(self):
            return 3

        def __getitem__(self, key):
            seen.append(key)
            time.sleep(0.01)

    seen: list[tuple[int, int]] = []
    assert 20 < module._rate(Sleeping(), 0.2) < 100
    assert seen[:5] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


FEEDS = [
    Supply("decoded", 10.0),
    Supply("decoded by pyav", 15.0, "--data.reader pyav"),
    Supply("transcoded", 50.0, "--data.videos SHARDS/manifest.csv"),
    Supply("bank, reuse 16", 160.0, "--data.reuse 16"),
]


@pytest.mark.parametrize(
    ("demand", "num_workers", "expected"),
    [
        (39.0, 4, "nothing to set: 4 workers deliver 40 pairs/s"),
        (39.0, 2, "set --data.num_workers 5"),
        (150.0, 4, "set --data.reader pyav --data.num_workers 11"),
        (600.0, 4, "set --data.videos SHARDS/manifest.csv --data.num_workers 14"),
        (1600.0, 4, "set --data.reuse 16 --data.num_workers 11"),
        (
            4800.0,
            4,
            "set --data.reuse 16 --data.num_workers 15, and the network still waits 50% of the time",
        ),
        (9.0, 99, "set --data.num_workers 1"),  # more workers than cores deliver no more
    ],
)
def test_the_least_change_that_feeds_the_network_is_named(demand, num_workers, expected):
    assert advise(demand, FEEDS, num_workers, cores=16).split("; it takes")[0] == expected


def test_one_core_is_not_divided_by_nothing():
    assert advise(5.0, [Supply("decoded", 0.0), Supply("other", 10.0, "--x 1")], 0, cores=1) == (
        "set --x 1 --data.num_workers 1"
    )


def test_the_table_names_how_shards_are_made():
    demand = Demand(600.0, 32, "bfloat16", "NVIDIA H100")
    found = Throughput(demand, FEEDS, 16, 4, advise(600.0, FEEDS, 4, 16))
    lines = format_throughput(found).splitlines()
    assert lines[2].split() == ["decoded", "10.0", "150", "66"]
    assert lines[4].split() == ["transcoded", "50.0", "750", "14"]
    assert lines[-1].startswith("set --data.videos SHARDS/manifest.csv --data.num_workers 14; SHARDS are made by")


def test_steps_are_timed_with_what_the_time_allows():
    class Task:
        def __init__(self, seconds_a_pair):
            self.cost, self.sizes = seconds_a_pair, []
            self.config = type("Config", (), {"run": type("Run", (), {"compile": False})})

        def settle_precision(self, batch):
            pass

        def train_step(self, batch):
            self.sizes.append(batch)
            time.sleep(self.cost * batch)

    original, module._drawn_batch = module._drawn_batch, lambda task, pairs: pairs
    try:
        quick, slow = Task(0.0001), Task(0.05)
        seconds, pairs = module._time_steps(quick, 32, 1.0)
        assert (pairs, quick.sizes[:2]) == (32, [2, 2])
        assert seconds == pytest.approx(0.0032, abs=0.01)
        assert module._time_steps(slow, 32, 0.5)[1] == 2
    finally:
        module._drawn_batch = original


def test_what_cannot_be_measured_is_said(videos, tmp_path):
    with pytest.raises(UsageError, match="leaves"):
        measure_throughput(ThroughputConfig(DataConfig(source="leaves")))
    with pytest.raises(NoUsableVideos, match="two readable videos"):
        measure_throughput(ThroughputConfig(DataConfig(str(videos / "a.mp4"))))
    with pytest.raises(ValueError, match="seconds"):
        ThroughputConfig(DataConfig("v"), seconds=0.0)


def test_a_list_that_is_transcoded_already_is_not_transcoded_again(videos):
    config = ThroughputConfig(DataConfig(str(videos), decode_size=56, crop_size=24, num_frames=4), seconds=0.5)
    names = [supply.name for supply in module._supplies(config, module._sample(config.data, str(videos)))]
    assert not any("transcoded" in name for name in names)
