import pickle

import numpy as np
import pytest
import torch

from tubeletx.config import TubeletConfig
from tubeletx.ops.sample_tubelets import sample_tubelets
from tubeletx.sampler import TubeletSampler

IDS = torch.tensor([3, 9, 27])


def test_calls_the_operator_with_its_settings():
    config = TubeletConfig.preset("released", num_tubelets=3)
    tubelets = TubeletSampler(config, seed=4)(IDS, num_frames=8, height=60, width=90, epoch=2)
    expected = sample_tubelets(IDS, config.settings(), num_frames=8, height=60, width=90, seed=4, epoch=2)
    assert all(torch.equal(got, want) for got, want in zip(tubelets.tensors().values(), expected, strict=True))
    assert (tubelets.height, tubelets.width) == (60, 90)
    assert tubelets.max_patch_size == config.max_patch_size(60, 90)
    assert (tubelets.batch_size, tubelets.num_tubelets, tubelets.num_frames) == (3, 3, 8)


def test_the_default_is_the_paper():
    sampler = TubeletSampler()
    assert sampler.config == TubeletConfig.preset("paper")
    assert sampler.seed == 0
    assert "seed=0" in repr(sampler)


def test_survives_pickling():
    sampler = TubeletSampler(TubeletConfig.preset("smile"), seed=5)
    first, second = (s(IDS, num_frames=4, height=50, width=50) for s in (sampler, pickle.loads(pickle.dumps(sampler))))
    assert torch.equal(first.centers, second.centers)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sample_ids", {"sample_ids": IDS.int()}),
        ("sample_ids", {"sample_ids": IDS[None]}),
        ("num_frames", {"num_frames": 0}),
        ("height", {"height": 0}),
        ("width", {"width": -1}),
        ("epoch", {"epoch": -1}),
        ("epoch", {"epoch": torch.tensor(-1)}),
        ("epoch", {"epoch": torch.tensor(2**32)}),
        ("epoch", {"epoch": torch.tensor([1, 2])}),
        ("epoch", {"epoch": torch.tensor(1.0)}),
    ],
)
def test_refuses(name, arguments):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        TubeletSampler()(**{"sample_ids": IDS, "num_frames": 4, "height": 20, "width": 20, **arguments})


@pytest.mark.parametrize("name", ["num_frames", "height", "width", "epoch"])
def test_refuses_what_is_no_integer(name):
    with pytest.raises(TypeError, match=rf"^{name}: got 1.7, needs an integer"):
        TubeletSampler()(**{"sample_ids": IDS, "num_frames": 4, "height": 20, "width": 20, name: 1.7})
    with pytest.raises(TypeError, match=r"^seed: got 1.7, needs an integer"):
        TubeletSampler(seed=1.7)
    with pytest.raises(TypeError, match=r"^config: got 'paper', needs a TubeletConfig, such as"):
        TubeletSampler("paper")


def test_any_64_bit_integer_is_a_seed():
    def draw(seed):
        return TubeletSampler(seed=seed)(IDS, num_frames=4, height=20, width=20).centers

    assert torch.equal(draw(2**63), draw(-(2**63)))
    assert torch.equal(draw(2**64 - 1), draw(-1))
    assert torch.equal(draw(np.uint64(2**64 - 1)), draw(-1))
    assert not torch.equal(draw(2**63), draw(0))
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(ValueError, match=rf"^seed: got {seed}, needs a 64-bit integer"):
            draw(seed)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_an_epoch_may_be_a_tensor(shape):
    sampler = TubeletSampler(seed=3)
    for epoch in (0, 5, 2**32 - 1):
        one, other = (
            sampler(IDS, num_frames=4, height=20, width=20, epoch=value).tensors()
            for value in (epoch, torch.full(shape, epoch))
        )
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_compiles_without_breaks():
    sampler = TubeletSampler(TubeletConfig(), seed=1)

    def sample(ids, epoch):
        return sampler(ids, num_frames=4, height=40, width=50, epoch=epoch)

    compiled = torch.compile(sample, fullgraph=True, backend="aot_eager")
    for epoch in range(3):
        got, want = compiled(IDS, epoch), sample(IDS, epoch)
        assert type(got) is type(want)
        for name, tensor in want.tensors().items():
            assert torch.equal(getattr(got, name), tensor)
        assert got.max_patch_size == want.max_patch_size


def test_a_seed_of_more_than_64_bits_is_refused_at_once():
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(ValueError, match=r"^seed: got .*, needs a 64-bit integer"):
            TubeletSampler(seed=seed)


@pytest.mark.parametrize("name", ["num_frames", "height", "width", "epoch"])
def test_numbers_beyond_64_bits(name):
    arguments = {"num_frames": 4, "height": 32, "width": 32, name: 2**70}
    with pytest.raises(ValueError, match=f"^{name}: got .*, needs a 64-bit integer"):
        TubeletSampler()(torch.arange(2), **arguments)


def test_more_numbers_than_64_bits_count():
    config = TubeletConfig(num_tubelets=4096)
    ids = torch.zeros(1, dtype=torch.int64).expand(2**40)
    with pytest.raises(ValueError, match=r"^sample_ids: got shape \(1099511627776,\), needs fewer"):
        TubeletSampler(config)(ids, num_frames=2**24, height=32, width=32)
