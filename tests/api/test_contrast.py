from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference import queue_infonce as reference
from tubeletx.contrast import QueueInfoNCE


def features(seed: int, *sizes: int) -> Tensor:
    return 3 * torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def test_defaults_are_those_of_the_paper() -> None:
    module = QueueInfoNCE()
    assert module.queue.shape == (16384, 128)
    assert module.temperature == 0.2
    torch.testing.assert_close(module.queue.norm(dim=1), torch.ones(16384))
    assert list(module.parameters()) == []


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("own", [0, 2])
def test_loss_gradient_and_rank(normalize: bool, own: int) -> None:
    module = QueueInfoNCE(dim=16, size=100, temperature=0.5, normalize=normalize)
    query, key = features(0, 6, 16).requires_grad_(), features(1, 6, 16)
    own_negatives = features(2, 6, own, 16) if own else None
    loss, rank = module(query, key, own_negatives)
    (gradient,) = torch.autograd.grad(loss.mean(), query)

    def prepare(tensor: Tensor) -> Tensor:
        return F.normalize(tensor.double(), dim=-1) if normalize else tensor.double()

    expected, expected_rank = reference.queue_infonce(
        prepare(query),
        prepare(key),
        module.queue.double(),
        0.5,
        None if own_negatives is None else prepare(own_negatives),
    )
    (expected_gradient,) = torch.autograd.grad(expected.mean(), query)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
    assert rank.equal(expected_rank)


def test_output_has_names() -> None:
    output = QueueInfoNCE(dim=4, size=8)(features(0, 3, 4), features(1, 3, 4))
    assert output.loss.shape == output.rank.shape == (3,)


def test_enqueue_normalises_and_wraps() -> None:
    module = QueueInfoNCE(dim=4, size=8)
    expected, pointer = module.queue, 0
    for seed, batch in enumerate((3, 3, 3, 0, 1, 19)):
        keys = features(seed, batch, 4).requires_grad_()
        expected, pointer = reference.enqueue(expected, pointer, F.normalize(keys.detach(), dim=1))
        module.enqueue(keys)
        assert module.queue.equal(expected)
        assert module.pointer.item() == pointer
    assert not module.queue.requires_grad


@pytest.mark.parametrize("count", [0, 1, 3, 8, 20])
def test_oldest_are_the_keys_that_are_replaced_next(count) -> None:
    module = QueueInfoNCE(dim=4, size=8)
    module.enqueue(features(0, 6, 4))
    before, oldest = module.queue.clone(), module.oldest(count)
    kept = [(6 + place) % 8 for place in range(min(count, 8))]
    assert oldest.equal(before[kept])
    module.enqueue(features(1, min(count, 8), 4))
    assert not (module.queue[kept] == before[kept]).all(1).any()


def test_an_empty_queue_has_no_oldest_keys() -> None:
    assert QueueInfoNCE(dim=4, size=0).oldest(3).shape == (0, 4)


def test_enqueue_before_backward() -> None:
    module = QueueInfoNCE(dim=4, size=8)
    query, key = features(0, 3, 4).requires_grad_(), features(1, 3, 4)
    loss, _ = module(query, key)
    (expected,) = torch.autograd.grad(loss.sum(), query, retain_graph=True)
    module.enqueue(key)
    (gradient,) = torch.autograd.grad(loss.sum(), query)
    assert gradient.equal(expected)


def test_own_negatives_take_no_gradient() -> None:
    own_negatives = features(2, 3, 1, 4).requires_grad_()
    loss, _ = QueueInfoNCE(dim=4, size=8)(features(0, 3, 4).requires_grad_(), features(1, 3, 4), own_negatives)
    loss.sum().backward()
    assert own_negatives.grad is None


def test_state_dict_holds_the_queue_and_the_pointer() -> None:
    module = QueueInfoNCE(dim=4, size=8, dtype=torch.bfloat16)
    module.enqueue(features(0, 5, 4))
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = QueueInfoNCE(dim=4, size=8, dtype=torch.bfloat16, seed=1)
    assert not other.queue.equal(module.queue)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert set(other.state_dict()) == {"queue", "pointer"}
    for each in (module, other, copy.deepcopy(module)):
        each.enqueue(features(1, 6, 4))
        assert each.queue.equal(module.queue)
        assert each.pointer.item() == 3


def test_seed_alone_decides_the_first_queue() -> None:
    state = torch.get_rng_state()
    first, again, other = (QueueInfoNCE(dim=4, size=8, seed=seed).queue for seed in (5, 5, 6))
    assert first.equal(again)
    assert not first.equal(other)
    assert torch.get_rng_state().equal(state)


def test_default_device_holds_the_buffers() -> None:
    with torch.device("meta"):
        module = QueueInfoNCE(dim=4, size=8)
    assert module.queue.is_meta
    assert module.pointer.is_meta


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_normalised_in_float32(dtype: torch.dtype) -> None:
    module = QueueInfoNCE(dim=32, size=64, dtype=dtype)
    query, key = features(0, 5, 32).to(dtype), features(1, 5, 32).to(dtype)
    loss, _ = module(query, key)
    expected, _ = module(query.float(), key.float())
    assert loss.dtype == torch.float32
    assert loss.equal(expected)


def test_autocast() -> None:
    module = QueueInfoNCE(dim=8, size=64)
    head = torch.nn.Linear(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        query = head(features(0, 5, 8))
        assert query.dtype == torch.bfloat16
        loss, _ = module(query, features(1, 5, 8))
    loss.mean().backward()
    assert loss.dtype == torch.float32
    assert head.weight.grad is not None
    assert head.weight.grad.any()


def test_compiles_without_graph_breaks() -> None:
    module = QueueInfoNCE(dim=8, size=64)
    compiled = QueueInfoNCE(dim=8, size=64)

    def step(module: QueueInfoNCE, query: Tensor, key: Tensor) -> Tensor:
        loss, _ = module(query, key)
        module.enqueue(key)
        return loss.mean()

    query, key = features(0, 5, 8).requires_grad_(), features(1, 5, 8)
    loss = step(module, query, key)
    compiled_loss = torch.compile(step, fullgraph=True, backend="aot_eager")(compiled, query, key)
    torch.testing.assert_close(compiled_loss, loss)
    torch.testing.assert_close(*(torch.autograd.grad(each, query)[0] for each in (compiled_loss, loss)))
    torch.testing.assert_close(compiled.queue, module.queue)
    assert compiled.pointer.item() == module.pointer.item() == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dim", 0),
        ("dim", -3),
        ("size", -1),
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("temperature", -1.0),
        ("temperature", float("inf")),
    ],
)
def test_bad_settings(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}: got "):
        QueueInfoNCE(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["dim", "size"])
def test_sizes_are_integers(name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name}: got '8', needs an integer"):
        QueueInfoNCE(**{name: "8"})  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_dtypes_that_hold_no_queue(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"^dtype: got {dtype}, needs torch.float32 or"):
        QueueInfoNCE(dim=8, size=4, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("queue_dtype", [torch.float16, torch.float32, torch.float64])
def test_features_of_another_width_than_the_queue(dtype: torch.dtype, queue_dtype: torch.dtype) -> None:
    module = QueueInfoNCE(dim=8, size=64, dtype=queue_dtype)
    query, key, own = (features(i, *size).to(dtype) for i, size in enumerate([(5, 8), (5, 8), (5, 2, 8)]))
    loss, _ = module(query.requires_grad_(), key, own)
    assert loss.dtype == (torch.float64 if queue_dtype == torch.float64 else torch.float32)
    loss.sum().backward()
    assert query.grad is not None
    assert query.grad.dtype == dtype
    module.enqueue(key)
    torch.testing.assert_close(module.queue[:5].double(), F.normalize(key.double()), rtol=2e-3, atol=2e-3)


def test_a_module_on_meta_takes_no_features_of_another_device() -> None:
    with torch.device("meta"):
        module = QueueInfoNCE(dim=8, size=64)
    with pytest.raises(ValueError, match=r"^queue: is on meta, not on the device of query, cpu"):
        module(features(0, 3, 8), features(1, 3, 8))
    with pytest.raises(ValueError, match=r"^\w+: is on cpu, not on the device of queue, meta"):
        module.enqueue(features(0, 3, 8))


def test_the_temperature_can_be_learned() -> None:
    module = QueueInfoNCE(dim=8, size=64, temperature=torch.nn.Parameter(torch.tensor(0.3)))
    assert dict(module.named_parameters()).keys() == {"temperature"}
    module(features(0, 5, 8), features(1, 5, 8)).loss.sum().backward()
    assert module.temperature.grad != 0  # type: ignore[union-attr]


def test_without_a_queue_only_own_negatives_count() -> None:
    module = QueueInfoNCE(dim=8, size=0, temperature=0.5, normalize=False)
    query, key, own = features(0, 5, 8), features(1, 5, 8), features(2, 5, 3, 8)
    loss, _ = module(query, key, own)
    module.enqueue(key)
    logits = torch.cat([(query * key).sum(1, keepdim=True), torch.einsum("bd,bed->be", query, own)], 1) / 0.5
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.zeros(5, dtype=torch.int64), reduction="none"))
    assert module.queue.shape == (0, 8)
    assert module.pointer == 0


def test_features_of_another_size() -> None:
    module = QueueInfoNCE(dim=8, size=64)
    with pytest.raises(ValueError, match=r"^queue: "):
        module(features(0, 3, 7), features(1, 3, 7))
    with pytest.raises(ValueError, match=r"^keys: "):
        module.enqueue(features(0, 3, 7))


@pytest.mark.parametrize("value", ["0.2", None, [0.2]])
def test_a_temperature_is_a_number(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^temperature: got"):
        QueueInfoNCE(8, 16, temperature=value)


def test_a_temperature_has_one_element() -> None:
    with pytest.raises(ValueError, match=r"^temperature: got shape \(2,\)"):
        QueueInfoNCE(8, 16, temperature=torch.ones(2))


def test_a_learned_temperature_on_meta() -> None:
    with torch.device("meta"):
        module = QueueInfoNCE(8, 16, temperature=nn.Parameter(torch.tensor(0.2)))
    assert module.temperature.device.type == "meta"


def test_seeds() -> None:
    assert torch.equal(QueueInfoNCE(8, 16, seed=np.int64(3)).queue, QueueInfoNCE(8, 16, seed=3).queue)
    with pytest.raises(TypeError, match=r"^seed: got 1.5"):
        QueueInfoNCE(8, 16, seed=1.5)
    with pytest.raises(ValueError, match=r"^seed: got"):
        QueueInfoNCE(8, 16, seed=2**64)


@pytest.mark.parametrize("name", ["query", "key", "own_negatives"])
def test_features_are_tensors_of_floats(name: str) -> None:
    features = {"query": torch.randn(4, 8), "key": torch.randn(4, 8), "own_negatives": torch.randn(4, 2, 8)}
    for wrong in (features[name].long(), features[name] + 0j):  # whose imaginary part would be dropped
        with pytest.raises(ValueError, match=f"^{name}: got dtype"):
            QueueInfoNCE(8, 16)(**features | {name: wrong})
    with pytest.raises(TypeError, match=f"^{name}: got ndarray"):
        QueueInfoNCE(8, 16)(**features | {name: features[name].numpy()})


@pytest.mark.parametrize("size", [0, 16])
def test_keys_are_tensors_of_floats(size: int) -> None:
    module = QueueInfoNCE(8, size)
    with pytest.raises(ValueError, match=r"^keys: got dtype"):
        module.enqueue(torch.zeros(2, 8, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"^keys: got list"):
        module.enqueue([1])


def test_how_many_are_the_oldest() -> None:
    module = QueueInfoNCE(8, 16)
    with pytest.raises(ValueError, match=r"^count: got -1"):
        module.oldest(-1)
    with pytest.raises(TypeError, match=r"^count: got 1.5"):
        module.oldest(1.5)
