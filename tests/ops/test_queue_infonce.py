from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reference import queue_infonce as reference
from tubeletx.ops.queue_infonce import queue_infonce

OPERATOR = torch.ops.tubeletx.queue_infonce.default
HALVES = (torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(seed: int, *sizes: int, unit: bool = True) -> Tensor:
    features = torch.from_numpy(np.random.default_rng(seed).standard_normal(sizes).astype(np.float32))
    return F.normalize(features, dim=-1) if unit else features


def run(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float, own_negatives: Tensor | None, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, gradients of the weighted sum, rank."""
    query, key = query.detach().requires_grad_(), key.detach().requires_grad_()
    loss, rank = queue_infonce(query, key, queue, temperature, own_negatives)
    (loss * weight).sum().backward()
    assert query.grad is not None
    assert key.grad is not None
    return loss.detach(), query.grad, key.grad, rank


def assert_matches(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float,
    own_negatives: Tensor | None = None,
    gradient_tolerance: float = 1e-5,
    loss_tolerance: float = 1e-5,
) -> None:
    weight = draw(99, len(query), unit=False).to(torch.promote_types(query.dtype, torch.float32))
    loss, *gradients, rank = run(query, key, queue, temperature, own_negatives, weight)
    expected_loss, *expected = reference.loss_and_gradients(query, key, queue, temperature, own_negatives, weight)
    torch.testing.assert_close(loss.double(), expected_loss, rtol=loss_tolerance, atol=loss_tolerance)
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert gradient.dtype == query.dtype
        largest = max(1.0, wanted.abs().max().item()) if wanted.numel() else 1.0
        torch.testing.assert_close(gradient.double(), wanted, rtol=0, atol=gradient_tolerance * largest)
    assert_rank(rank, query, key, queue, own_negatives)


def assert_rank(rank: Tensor, query: Tensor, key: Tensor, queue: Tensor, own_negatives: Tensor | None) -> None:
    """Equal to the count in float64, save for what float64 itself cannot tell from a tie."""
    arguments = [None if tensor is None else tensor.double() for tensor in (query, key, queue, own_negatives)]
    scores = reference.scores(*arguments)  # type: ignore[arg-type]
    slack = 1e-14 * (1 + scores.abs().amax(dim=1, keepdim=True))
    positive, negatives = scores[:, :1], scores[:, 1:]
    assert rank.dtype == torch.int64
    assert ((negatives > positive + slack).sum(dim=1) <= rank).all()
    assert (rank <= (negatives > positive - slack).sum(dim=1)).all()


@pytest.mark.parametrize("temperature", [0.05, 0.07, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_equals_written_out_cross_entropy(temperature: float, seed: int) -> None:
    generator = np.random.default_rng([seed, int(temperature * 100)])
    batch, size, own = (int(generator.integers(1, limit)) for limit in (70, 3000, 5))
    dim = int(generator.choice([1, 2, 3, 17, 31, 64, 128, 257]))
    own_negatives = draw(3, batch, own, dim) if seed % 2 else None
    assert_matches(draw(0, batch, dim), draw(1, batch, dim), draw(2, size, dim), temperature, own_negatives)


@pytest.mark.parametrize(
    ("batch", "size", "dim", "own"),
    [
        (1, 1, 1, 0),
        (1, 5000, 128, 0),
        (257, 1025, 16, 1),
        (600, 130, 5, 0),
        (3, 70, 4096, 2),
        (33, 65, 1500, 0),
        (32, 16384, 128, 1),
        (5, 7, 9, 40),
    ],
)
def test_sizes_at_the_edges_of_tiles(batch: int, size: int, dim: int, own: int) -> None:
    own_negatives = draw(3, batch, own, dim) if own else None
    assert_matches(draw(0, batch, dim), draw(1, batch, dim), draw(2, size, dim), 0.2, own_negatives)


@pytest.mark.parametrize(("batch", "size", "own"), [(0, 5, 2), (4, 0, 3), (4, 6, 0), (0, 0, 0)])
def test_empty_arguments(batch: int, size: int, own: int) -> None:
    assert_matches(draw(0, batch, 8), draw(1, batch, 8), draw(2, size, 8), 0.2, draw(3, batch, own, 8))


@pytest.mark.parametrize("own", [None, 0])
def test_without_negatives_the_loss_is_zero(own: int | None) -> None:
    query, key = draw(0, 3, 8, unit=False).requires_grad_(), draw(1, 3, 8, unit=False)
    own_negatives = None if own is None else torch.empty(3, own, 8)
    loss, rank = queue_infonce(query, key, torch.empty(0, 8), 0.2, own_negatives)
    loss.sum().backward()
    assert loss.tolist() == [0, 0, 0]
    assert rank.tolist() == [0, 0, 0]
    assert query.grad is not None
    assert not query.grad.any()


@pytest.mark.parametrize("scale", [1, 12])
def test_scores_that_overflow_a_naive_exponential(scale: int) -> None:
    # Small integers, so that the scores, up to tens of thousands, are exact in float32.
    generator = np.random.default_rng(scale)

    def integers(*sizes: int) -> Tensor:
        return torch.from_numpy(scale * generator.integers(-8, 9, sizes).astype(np.float32))

    query, key, queue = integers(40, 128), integers(40, 128), integers(2100, 128)
    scores = reference.scores(query, key, queue) / 0.25
    assert scores.max() > 1000
    assert scores.exp().isinf().any()
    assert_matches(query, key, queue, 0.25, integers(40, 2, 128))


def test_all_scores_far_below_zero() -> None:
    query = torch.full((3, 4), 100.0)
    assert_matches(query, -query, -query.repeat(400, 1), 0.5)


def test_the_loss_stays_exact_where_the_positive_dominates() -> None:
    query = torch.full((2, 4), 8.0)
    queue = torch.full((5, 4), 7.5)
    loss, _ = queue_infonce(query, query, queue, 1.0)
    assert loss.max() < 1e-6
    np.testing.assert_allclose(loss, np.full(2, np.log1p(5 * np.exp(-16.0))), rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [64, 1500])
def test_copies_of_the_key_do_not_outrank_it(dtype: torch.dtype, size: int) -> None:
    query, key = draw(0, 48, 128).to(dtype), draw(1, 48, 128).to(dtype)
    queue = -query.repeat(size // 48 + 1, 1)[:size]
    for row in range(48):
        queue[(row * 29) % size] = key[row]
    others = reference.scores(query.double(), key.double(), queue.double())
    wanted = (others[:, 1:] > others[:, :1] + 1e-12).sum(dim=1)
    _, rank = queue_infonce(query, key, queue, 0.2, key[:, None].expand(-1, 3, -1))
    assert rank.equal(wanted)


def test_collapsed_features_tie() -> None:
    same = draw(0, 1, 128).expand(32, -1)
    loss, rank = queue_infonce(same, same, same[:1].expand(2000, -1), 0.2)
    assert not rank.any()
    np.testing.assert_allclose(loss, np.full(32, np.log(2001)), rtol=1e-6)


def test_rank_of_near_ties_is_exact() -> None:
    # Negatives that differ from the key in the last bits: float32 sums could not order them.
    query, key = draw(0, 8, 128), draw(1, 8, 128)
    noise = torch.from_numpy(np.random.default_rng(2).integers(-1, 2, (3000, 128)).astype(np.float32))
    queue = key.repeat(375, 1) * (1 + noise * 2**-23)
    _, rank = queue_infonce(query, key, queue, 0.2)
    scores = reference.scores(query.double(), key.double(), queue.double())
    assert rank.equal((scores[:, 1:] > scores[:, :1]).sum(dim=1))
    assert (rank > 0).all()


def test_nan_is_not_hidden() -> None:
    query, key, queue = draw(0, 3, 8), draw(1, 3, 8), draw(2, 40, 8)
    query[1, 3] = float("nan")
    loss, _ = queue_infonce(query, key, queue, 0.2)
    assert loss.isnan().tolist() == [False, True, False]
    queue[39, 0] = float("nan")
    loss, _ = queue_infonce(query, key, queue, 0.2)
    assert loss.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_hits_nothing(dtype: torch.dtype) -> None:
    """A diverged run has no top-1 hits: every negative beats a positive that is NaN, and NaN beats every positive."""
    query, key, queue, own = (draw(i, *size).to(dtype) for i, size in enumerate([(5, 8), (5, 8), (99, 8), (5, 2, 8)]))
    expected = queue_infonce(query, key, queue, 0.2, own)[1]
    query[1, 3] = key[2, 0] = float("nan")
    query[3, 1] = float("inf")
    query[3, 2] = -float("inf")
    everything = torch.tensor([False, True, True, True, False])
    rank = queue_infonce(query, key, queue, 0.2, own)[1]
    assert torch.equal(rank, torch.where(everything, 101, expected))
    queue[7] = own[:, 1] = float("nan")
    rest = [row for row in range(99) if row != 7]
    without = queue_infonce(query, key, queue[rest], 0.2, own[:, :1])[1]
    assert torch.equal(queue_infonce(query, key, queue, 0.2, own)[1], without + 2)


@pytest.mark.parametrize("temperature", [1e-30, 0.2, 1e30])
@pytest.mark.parametrize("size", [1e-30, 1e13, 1e15, 1e19, 1e30, 1e36])
def test_scores_of_any_size(size: float, temperature: float) -> None:
    """Where float32 holds the loss, it is that of float64; where it does not, the loss is infinite, not NaN."""
    query, key, queue, own = (
        draw(i, *sizes, unit=False) * size for i, sizes in enumerate([(6, 8), (6, 8), (300, 8), (6, 2, 8)])
    )
    loss, rank = queue_infonce(query.requires_grad_(), key, queue, temperature, own)
    (gradient,) = torch.autograd.grad(loss.sum(), query)
    wide = query.detach().double().requires_grad_()
    expected, expected_rank = queue_infonce(wide, key.double(), queue.double(), temperature, own.double())
    (expected_gradient,) = torch.autograd.grad(expected.sum(), wide)
    torch.testing.assert_close(loss, expected.float(), rtol=1e-4, atol=1e-4)
    assert torch.equal(rank, expected_rank)
    assert not gradient.isnan().any()
    if 1e-30 < expected_gradient.abs().max() < 1e38:
        error = (gradient.double() - expected_gradient).abs().max()
        assert error <= 1e-3 * expected_gradient.abs().max()


@pytest.mark.parametrize("most", [0, 1, 2], ids=["baseline", "AVX2 or NEON", "AVX-512"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("batch", "size", "dim"),
    [
        (1, 1, 1),
        (3, 5, 7),
        (8, 47, 128),
        (9, 48, 12),
        (16, 49, 130),
        (17, 1025, 33),
        (33, 3000, 24),
        (2, 97, 16),
        (12, 100, 50),
        (5, 0, 8),
    ],
)
def test_every_instruction_set(most: int, dtype: torch.dtype, batch: int, size: int, dim: int) -> None:
    """Blocks of queries, tiles of negatives and of features with all their remainders, and ties of copies."""
    query, key, queue = (draw(i, rows, dim).to(dtype) for i, rows in enumerate((batch, batch, size)))
    queue[: batch // 2] = key[: min(batch // 2, size)]
    torch.ops.tubeletx.limit_instructions(most)
    try:
        assert_matches(query, key, queue, 0.2)
        rank = queue_infonce(query, key, queue, 0.2)[1]
        scores = (query.double() @ queue.double().T) > (query.double() * key.double()).sum(1, keepdim=True)
        copies = torch.arange(min(batch // 2, size))
        scores[copies, copies] = False
        assert torch.equal(rank, scores.sum(1))
    finally:
        torch.ops.tubeletx.limit_instructions(2)


@pytest.mark.parametrize("own_dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize(("dtype", "queue_dtype"), list(itertools.product((torch.float32, *HALVES), repeat=2)))
def test_dtypes(dtype: torch.dtype, queue_dtype: torch.dtype, own_dtype: torch.dtype) -> None:
    tolerance = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert_matches(
        draw(0, 20, 96).to(dtype),
        draw(1, 20, 96).to(dtype),
        draw(2, 1100, 96).to(queue_dtype),
        0.2,
        draw(3, 20, 2, 96).to(own_dtype),
        gradient_tolerance=tolerance,
    )


def test_float64_is_computed_in_float64() -> None:
    query, key, queue, own = (
        tensor.double() for tensor in (draw(0, 9, 33), draw(1, 9, 33), draw(2, 700, 33), draw(3, 9, 2, 33))
    )
    assert_matches(query, key, queue, 0.1, own, gradient_tolerance=1e-13, loss_tolerance=1e-13)


def test_gradcheck() -> None:
    query, key = draw(0, 5, 7).double().requires_grad_(), draw(1, 5, 7).double().requires_grad_()
    queue, own_negatives = draw(2, 130, 7).double(), draw(3, 5, 2, 7).double()
    assert torch.autograd.gradcheck(lambda q, k: queue_infonce(q, k, queue, 0.3, own_negatives)[0], (query, key))


def strided(tensor: Tensor) -> list[Tensor]:
    """The same values in other memory orders."""
    wide = torch.full((*tensor.shape[:-1], tensor.shape[-1] + 3), torch.nan, dtype=tensor.dtype)
    wide[..., 1 : tensor.shape[-1] + 1] = tensor
    every_other = torch.full(
        (tensor.shape[0] * 2, *tensor.shape[1:-1], tensor.shape[-1] * 2), torch.nan, dtype=tensor.dtype
    )
    every_other[::2, ..., ::2] = tensor
    transposed = tensor.transpose(0, -1).contiguous().transpose(0, -1)
    return [wide[..., 1 : tensor.shape[-1] + 1], every_other[::2, ..., ::2], transposed]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_strides(dtype: torch.dtype) -> None:
    plain = [draw(0, 6, 20), draw(1, 6, 20), draw(2, 1500, 20), draw(3, 6, 2, 20)]
    query, key, queue, own = (tensor.to(dtype) for tensor in plain)
    loss, rank = queue_infonce(query, key, queue, 0.2, own)
    for q, k, n, o in zip(*map(strided, (query, key, queue, own)), strict=True):
        for arguments in ((q, key, queue, own), (query, k, queue, own), (query, key, n, own), (query, key, queue, o)):
            other_loss, other_rank = queue_infonce(*arguments[:3], 0.2, arguments[3])
            torch.testing.assert_close(other_loss, loss, rtol=1e-6, atol=1e-6)
            assert other_rank.equal(rank)


@pytest.mark.parametrize(("batch", "size", "dim"), [(1, 5000, 128), (32, 9000, 128), (300, 3000, 64), (7, 2000, 1024)])
def test_bits_do_not_depend_on_the_number_of_threads(batch: int, size: int, dim: int) -> None:
    arguments = draw(0, batch, dim), draw(1, batch, dim), draw(2, size, dim), draw(3, batch, 2, dim), 0.2, True
    outputs = []
    for threads in (1, 2, 3, 5, 2, 1):
        torch.set_num_threads(threads)
        outputs.append(OPERATOR(*arguments))
    for output in outputs[1:]:
        assert all(map(torch.equal, outputs[0], output))


def test_bits_do_not_depend_on_what_else_is_in_memory() -> None:
    arguments = draw(0, 40, 128), draw(1, 40, 128), draw(2, 3000, 128), None, 0.2, True
    first = OPERATOR(*arguments)
    ballast = []
    for size in range(1, 200, 17):
        ballast.append(torch.empty(size * 100))
        assert all(map(torch.equal, first, OPERATOR(*arguments)))


def test_autocast_changes_nothing() -> None:
    arguments = draw(0, 8, 64).requires_grad_(), draw(1, 8, 64), draw(2, 900, 64), 0.2
    loss, rank = queue_infonce(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        other_loss, other_rank = queue_infonce(*arguments)
    assert other_loss.equal(loss)
    assert other_rank.equal(rank)
    (gradient,) = torch.autograd.grad(loss.sum(), arguments[0])
    (other,) = torch.autograd.grad(other_loss.sum(), arguments[0])
    assert other.equal(gradient)


def test_inference_mode_with_threads() -> None:
    torch.set_num_threads(2)
    with torch.inference_mode():
        query, key, queue = draw(0, 8, 64), draw(1, 8, 64), draw(2, 5000, 64).bfloat16()
        loss, _ = queue_infonce(query, key, queue, 0.2)
    expected, _ = reference.queue_infonce(query.double(), key.double(), queue.double(), 0.2)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


def test_the_queue_may_change_before_the_backward() -> None:
    query, key, queue = draw(0, 8, 64).requires_grad_(), draw(1, 8, 64), draw(2, 900, 64)
    loss, _ = queue_infonce(query, key, queue, 0.2)
    (expected,) = torch.autograd.grad(loss.sum(), query, retain_graph=True)
    queue.zero_()
    (gradient,) = torch.autograd.grad(loss.sum(), query)
    assert gradient.equal(expected)


@pytest.mark.parametrize("which", ["query", "key"])
def test_gradient_on_request_only(which: str) -> None:
    query, key, queue = draw(0, 4, 8), draw(1, 4, 8), draw(2, 30, 8)
    (query if which == "query" else key).requires_grad_()
    loss, rank = queue_infonce(query, key, queue, 0.2)
    loss.sum().backward()
    assert (query.grad is None) == (which == "key")
    assert (key.grad is None) == (which == "query")
    assert not rank.requires_grad
    with torch.no_grad():
        assert not queue_infonce(query, key, queue, 0.2)[0].requires_grad


def test_only_the_loss_is_differentiable() -> None:
    outputs = OPERATOR(draw(0, 4, 8).requires_grad_(), draw(1, 4, 8), draw(2, 30, 8), None, 0.2, True)
    assert [output.requires_grad for output in outputs] == [True, False, False, False]


def test_log_sum_exp_and_negative_mean() -> None:
    query, key, queue = draw(0, 4, 8), draw(1, 4, 8), draw(2, 1300, 8)
    _, _, log_sum_exp, negative_mean = OPERATOR(query, key, queue, None, 0.2, True)
    logits = reference.scores(query, key, queue).double() / 0.2
    torch.testing.assert_close(log_sum_exp.double(), logits.logsumexp(dim=1), rtol=1e-6, atol=1e-6)
    mean = logits.softmax(dim=1)[:, 1:] @ queue.double()
    torch.testing.assert_close(negative_mean.double(), mean, rtol=1e-5, atol=1e-6)
    assert OPERATOR(query, key, queue, None, 0.2, False)[3].shape == (0, 8)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_a_learned_temperature_gets_its_gradient(dtype: torch.dtype) -> None:
    query, key, queue, own = (draw(i, *size).to(dtype) for i, size in enumerate([(6, 8), (6, 8), (50, 8), (6, 2, 8)]))
    temperature = torch.tensor([0.3], requires_grad=True)
    loss, rank = queue_infonce(query, key, queue, temperature, own)
    expected_loss, expected_rank = queue_infonce(query, key, queue, 0.3, own)
    torch.testing.assert_close(loss, expected_loss)
    assert torch.equal(rank, expected_rank)
    (gradient,) = torch.autograd.grad(loss.sum(), temperature)
    wide = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    query, key, queue, own = (tensor.double() for tensor in (query, key, queue, own))
    scores = torch.cat(((query * key).sum(1, keepdim=True), query @ queue.T, (own @ query[..., None])[..., 0]), 1)
    F.cross_entropy(scores / wide, torch.zeros(6, dtype=torch.int64), reduction="sum").backward()
    assert wide.grad is not None
    torch.testing.assert_close(gradient.double(), wide.grad[None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [[0.2, 0.3], 0.0, -1.0, float("nan"), float("inf")])
def test_refuses_temperatures_in_tensors(value: float | list[float]) -> None:
    with pytest.raises(ValueError, match=r"^temperature: got"):
        queue_infonce(draw(0, 3, 8), draw(1, 3, 8), draw(2, 5, 8), torch.tensor(value))


def test_second_derivative_is_refused() -> None:
    query = draw(0, 4, 8).requires_grad_()
    loss, _ = queue_infonce(query, draw(1, 4, 8), draw(2, 30, 8), 0.2)
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(loss.sum(), query, create_graph=True)


def test_gradient_that_was_not_prepared_is_refused() -> None:
    query = draw(0, 4, 8).requires_grad_()
    loss = OPERATOR(query, draw(1, 4, 8), draw(2, 30, 8), None, 0.2, False)[0]
    with pytest.raises(RuntimeError, match="need_gradient"):
        loss.sum().backward()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_opcheck(dtype: torch.dtype, own: bool) -> None:
    query, key, queue = (tensor.to(dtype) for tensor in (draw(0, 4, 8), draw(1, 4, 8), draw(2, 30, 8)))
    own_negatives = draw(3, 4, 2, 8).to(dtype) if own else None
    torch.library.opcheck(OPERATOR, (query, key, queue, own_negatives, 0.2, False))
    arguments = (query.requires_grad_(), key.requires_grad_(), queue, own_negatives, 0.2, True)
    torch.library.opcheck(OPERATOR, arguments)


def test_compiles_without_graph_breaks() -> None:
    def step(query: Tensor, key: Tensor, queue: Tensor) -> tuple[Tensor, Tensor]:
        loss, rank = queue_infonce(F.normalize(query, dim=1), key, queue, 0.2)
        return loss.mean(), rank

    query, key, queue = draw(0, 6, 16, unit=False).requires_grad_(), draw(1, 6, 16), draw(2, 200, 16)
    loss, rank = step(query, key, queue)
    (expected,) = torch.autograd.grad(loss, query)
    compiled_loss, compiled_rank = torch.compile(step, fullgraph=True, backend="aot_eager")(query, key, queue)
    (gradient,) = torch.autograd.grad(compiled_loss, query)
    torch.testing.assert_close(compiled_loss, loss)
    torch.testing.assert_close(gradient, expected)
    assert compiled_rank.equal(rank)


MEMORY_SCRIPT = """
import pathlib, re, torch
import torch.nn.functional as F
from tubeletx.ops.queue_infonce import queue_infonce

def growth(function):
    function(8)  # whatever is set up once
    status = pathlib.Path("/proc/self/status")
    resident = int(re.search(r"VmRSS:\\s+(\\d+)", status.read_text())[1])
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    function(1024)
    return (int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) - resident) * 1024

queue = F.normalize(torch.randn(65536, 128))
query = F.normalize(torch.randn(1024, 128)).requires_grad_()
key = F.normalize(torch.randn(1024, 128))
def ours(batch):
    queue_infonce(query[:batch], key[:batch], queue, 0.2)[0].sum().backward()
def logits(batch):
    with torch.no_grad():
        return query[:batch] @ queue.T
print(growth(ours), growth(logits))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_peak_memory_is_far_below_the_matrix_of_scores() -> None:
    answer = subprocess.run([sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True)
    ours, logits = map(int, answer.stdout.split())
    matrix = 1024 * 65536 * 4
    assert logits > 0.9 * matrix  # the measurement sees what it should
    assert ours < matrix / 8


@pytest.mark.parametrize("temperature", [0.0, -0.2, float("nan"), float("inf"), -float("inf"), 1e-60])
def test_bad_temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"^temperature: got "):
        queue_infonce(draw(0, 4, 8), draw(1, 4, 8), draw(2, 30, 8), temperature)


@pytest.mark.parametrize("name", ["queue", "own_negatives"])
def test_negatives_that_require_a_gradient(name: str) -> None:
    negatives = {"queue": draw(2, 30, 8), "own_negatives": draw(3, 4, 1, 8)}
    negatives[name].requires_grad_()
    with pytest.raises(ValueError, match=rf"^{name}: .*detach\(\)"):
        queue_infonce(draw(0, 4, 8), draw(1, 4, 8), temperature=0.2, **negatives)


SPOILERS: list[Callable[[Tensor], Tensor]] = [
    lambda tensor: tensor[..., :-1],
    lambda tensor: torch.cat([tensor, tensor], dim=-1),
    lambda tensor: tensor[..., 0],
    lambda tensor: tensor[None],
    lambda tensor: tensor.flatten(),
    lambda tensor: tensor.sum(),
    lambda tensor: tensor.long(),
    lambda tensor: tensor.bool(),
    lambda tensor: tensor.to(torch.complex64),
    lambda tensor: tensor.double(),
    lambda tensor: tensor.to(torch.float8_e4m3fn),
]


def test_malformed_calls_name_the_argument() -> None:
    generator = np.random.default_rng(0)
    names = ("query", "key", "queue", "own_negatives")
    for _ in range(400):
        batch, dim, size, own = (int(n) for n in generator.integers(1, 9, 4))
        dim += 1
        arguments = {
            "query": draw(0, batch, dim),
            "key": draw(1, batch, dim),
            "queue": draw(2, size, dim),
            "own_negatives": draw(3, batch, own, dim),
        }
        name = str(generator.choice(names))
        arguments[name] = SPOILERS[int(generator.integers(len(SPOILERS)))](arguments[name])
        # A spoilt query may surface as the argument that no longer fits it.
        culprits = "|".join(names) if name == "query" else name
        with pytest.raises(ValueError, match=rf"^({culprits}): got "):
            queue_infonce(temperature=0.2, **arguments)


def test_other_batch_sizes_and_no_features() -> None:
    with pytest.raises(ValueError, match=r"^key: "):
        queue_infonce(draw(0, 4, 8), draw(1, 5, 8), draw(2, 30, 8), 0.2)
    with pytest.raises(ValueError, match=r"^own_negatives: "):
        queue_infonce(draw(0, 4, 8), draw(1, 4, 8), draw(2, 30, 8), 0.2, draw(3, 5, 1, 8))
    with pytest.raises(ValueError, match=r"^query: "):
        queue_infonce(torch.empty(4, 0), torch.empty(4, 0), torch.empty(30, 0), 0.2)
    with pytest.raises(ValueError, match=r"^key: got dtype Half"):
        queue_infonce(draw(0, 4, 8), draw(1, 4, 8).half(), draw(2, 30, 8), 0.2)


@pytest.mark.parametrize(("batch", "slots"), [(3, 700), (40, 3000)])
def test_a_leave_to_round_products_is_not_taken(batch, slots):
    """Processors with AMX multiply float32 in bfloat16 under this setting; the others pass whatever the code does."""
    query, key, queue = draw(1, batch, 96), draw(2, batch, 96), draw(3, slots, 96)
    weight = torch.ones(batch)
    right = reference.queue_infonce(query.double(), key.double(), queue.double(), 0.07)
    try:
        torch.set_float32_matmul_precision("medium")
        loss, grad_query, _, rank = run(query, key, queue, 0.07, None, weight)
    finally:
        torch.set_float32_matmul_precision("highest")
    exact = run(query, key, queue, 0.07, None, weight)
    torch.testing.assert_close(loss, right[0].float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad_query, exact[1], rtol=1e-5, atol=1e-6)
    assert rank.equal(exact[3])
