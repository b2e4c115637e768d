"""What torchrun starts twice for `engine/test_distributed.py`: runs every check and writes down how it went.

torchrun --nproc-per-node 2 tests/two_ranks.py FOLDER_OF_VIDEOS OUTPUT
"""

import dataclasses
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import nn

from toy_task import ToyConfig, ToyTask, train_toy
from tubeletx.config import TubeletConfig
from tubeletx_train.common.distributed import Ranks, process_group
from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.non_finite import NonFiniteGradientError, NonFiniteLossError
from tubeletx_train.config.pretrain import ContrastConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig
from tubeletx_train.data import DataConfig
from tubeletx_train.engine.collectives import all_gather_rows, shuffle_rows, unshuffle_rows, world
from tubeletx_train.engine.run import RunContext
from tubeletx_train.engine.sync_batch_norm import synchronize_batch_norm
from tubeletx_train.models import build_encoder
from tubeletx_train.pretrain.moco import MoCo
from tubeletx_train.pretrain.task import pretrain
from tubeletx_train.repetition.task import RepetitionTraining


def run_config(output, **changes):
    return RunConfig(**{"output": str(output), "device": "cpu", "log_every": 1, "tensorboard": False} | changes)


def toy_config(output, **changes):
    return ToyConfig(run_config(output), **changes)


def pretrain_config(videos, output, **sections):
    parts = {
        "data": DataConfig(
            videos=str(videos), num_frames=4, crop_size=24, decode_size=32, num_workers=0, samples_per_video=2
        ),
        "tubelets": TubeletConfig(num_tubelets=1),
        "model": ModelConfig(encoder="r2plus1d_10", width=2, dim=8, batch_norm="sync"),
        "contrast": ContrastConfig(queue_size=20, momentum=0.9, own_negatives="reversed", batch_negatives=True),
        "optim": OptimConfig(batch_size=4, steps=3, lr=0.001, precision="float32"),
        "run": run_config(output),
    }
    for name, changes in sections.items():
        parts[name] = dataclasses.replace(parts[name], **changes)
    return PretrainConfig(**parts)


class StoppedInOneRank(ToyTask):
    """A signal reaches rank 1 alone, in the middle of an epoch."""

    def train_step(self, batch):
        values = super().train_step(batch)
        if self.step == 4 and world()[0] == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return values


def rows_are_gathered_shuffled_and_unshuffled(videos, output):
    rank, _ = world()
    everything = torch.arange(8.0)[:, None, None, None, None].expand(8, 3, 2, 2, 2).contiguous()
    mine = everything[4 * rank : 4 * rank + 4].contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(all_gather_rows(mine), everything)
    dealt = shuffle_rows(mine)
    assert torch.equal(dealt, everything[rank::2])
    assert dealt.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(unshuffle_rows(dealt[:, 0, 0, 0, :1]), mine[:, 0, 0, 0, :1])


def batch_norm_takes_the_statistics_of_all(videos, output):
    rank, _ = world()
    torch.manual_seed(0)
    whole = torch.randn(6, 3, 2, 4, 5) * 3 + 7
    weights = torch.randn(6, 3, 2, 4, 5)
    plain = nn.Sequential(nn.BatchNorm3d(3), nn.ReLU(), nn.Sequential(nn.BatchNorm3d(3, momentum=None)))
    synced = nn.Sequential(nn.BatchNorm3d(3), nn.ReLU(), nn.Sequential(nn.BatchNorm3d(3, momentum=None)))
    synced = synchronize_batch_norm(synced, torch.device("cpu"))
    assert synced.state_dict().keys() == plain.state_dict().keys()
    for _ in range(2):
        expected_input, part = whole.clone().requires_grad_(), whole[3 * rank : 3 * rank + 3].clone().requires_grad_()
        expected, got = plain(expected_input), synced(part)
        torch.testing.assert_close(got, expected[3 * rank : 3 * rank + 3])
        (expected * weights).sum().backward()
        (got * weights[3 * rank : 3 * rank + 3]).sum().backward()
        torch.testing.assert_close(part.grad, expected_input.grad[3 * rank : 3 * rank + 3], rtol=1e-4, atol=1e-5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(synced.state_dict()[name], value, msg=name)
    for mine, theirs in zip(synced.parameters(), plain.parameters(), strict=True):
        dist.all_reduce(mine.grad)
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    assert torch.equal(synced.eval()(part), synced(part))
    bfloat16 = synced.train()(part.to(torch.bfloat16))
    assert bfloat16.dtype == torch.bfloat16


def shuffled_keys_come_back_to_their_queries(videos, output):
    def make(**options):
        torch.manual_seed(0)
        return MoCo(build_encoder("r2plus1d_10", 2), dim=8, queue_size=16, **options)

    torch.manual_seed(1)
    clips = torch.randn(3, 4, 3, 4, 16, 16)
    query, key, own = clips.chunk(2, dim=1)[world()[0]]
    plain, shuffled = make(), make(shuffle_keys=True)
    # Where statistics are fixed nothing may change; where they are the batch's, they are those of other clips.
    expected, got = plain.eval()(query, key, own), shuffled.eval()(query, key, own)
    torch.testing.assert_close(got.loss, expected.loss)
    torch.testing.assert_close(got.key, expected.key)
    assert not torch.allclose(shuffled.train()(query, key, own).key, plain.train()(query, key, own).key, atol=1e-3)


def pretraining_with_synchronised_batch_norm(videos, output):
    pretrain(pretrain_config(videos, output))


def toy_without_dropout(videos, output):
    train_toy(toy_config(output, dropout=0.0))


def toy_never_stopped(videos, output):
    train_toy(toy_config(output))


def toy_stopped_and_resumed(videos, output):
    stopped = train_toy(toy_config(output), StoppedInOneRank)
    assert (stopped.step, stopped.exit_code) == (5, 143), stopped
    assert train_toy(toy_config(output)).exit_code == 0


def a_batch_that_cannot_be_shared_out_is_refused(videos, output):
    with pytest.raises(UsageError, match="batch_size 3 cannot be shared out among 2 processes"):
        train_toy(toy_config(output, optim=OptimConfig(batch_size=3)))


def a_counter_is_tested_on_the_main_processs_running_statistics(videos, output):
    rank, world_size = world()
    task = object.__new__(RepetitionTraining)
    task.config, task.optimization, task.procedure = mock.MagicMock(), mock.MagicMock(), mock.MagicMock()
    task.run = RunContext(run_config(output), output, torch.device("cpu"), Ranks(rank, world_size))
    task.net = nn.BatchNorm1d(2)
    task.net.running_mean.fill_(5.0 + rank)
    with mock.patch("tubeletx_train.repetition.task.count_records") as count:
        task.count([])
    (net, *_), _ = count.call_args
    assert net.running_mean.tolist() == [5.0, 5.0]


class _Poison(torch.autograd.Function):
    """A gradient that is not finite, of a loss that is."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


def poisoned_in_one_rank(videos, output, poison, error):
    """At step 2, of whose batch rank 1 alone cannot tell: all stop, and no weights are touched."""
    original, calls = MoCo.compare, []

    def compare(net, *clips):
        made = original(net, *clips)
        calls.append(1)
        if len(calls) == 2 and world()[0] == 1:
            made.loss = poison(made.loss)
        return made

    with mock.patch.object(MoCo, "compare", compare), pytest.raises(error, match="not finite at step 2") as raised:
        pretrain(pretrain_config(videos, output, run={"checkpoint_every": 1}))
    return str(raised.value)


def a_loss_that_is_not_finite_in_one_process_stops_both(videos, output):
    said = poisoned_in_one_rank(videos, output, lambda loss: loss * float("nan"), NonFiniteLossError)
    assert ("in another process" in said) == (world()[0] == 0)


def a_gradient_that_is_not_finite_in_one_process_stops_both(videos, output):
    said = poisoned_in_one_rank(videos, output, _Poison.apply, NonFiniteGradientError)
    assert "the weights were not touched" in said
    dump = torch.load(output / ("non-finite.pt" if world()[0] == 0 else "non-finite-1.pt"), weights_only=True)
    assert all(value.isfinite().all() for name, value in dump["model"].items() if name.endswith("weight"))


CHECKS = [
    rows_are_gathered_shuffled_and_unshuffled,
    batch_norm_takes_the_statistics_of_all,
    shuffled_keys_come_back_to_their_queries,
    pretraining_with_synchronised_batch_norm,
    toy_without_dropout,
    toy_never_stopped,
    toy_stopped_and_resumed,
    a_batch_that_cannot_be_shared_out_is_refused,
    a_counter_is_tested_on_the_main_processs_running_statistics,
    a_loss_that_is_not_finite_in_one_process_stops_both,
    a_gradient_that_is_not_finite_in_one_process_stops_both,
]


def main() -> None:
    videos, output = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    with process_group("cpu") as ranks:
        findings = {}
        for check in CHECKS:
            try:
                check(videos, output / check.__name__)
                finding = "passed"
            except Exception:
                finding = traceback.format_exc()
            findings[check.__name__] = ranks.gather(finding)
        if ranks.is_main:
            (output / "findings.json").write_text(json.dumps(findings), encoding="utf-8")


if __name__ == "__main__":
    main()
