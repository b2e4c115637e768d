"""The CUDA kernels of queue InfoNCE, on the GPU and, thread by thread, emulated on the host."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ops.test_queue_infonce import assert_rank, draw, strided
from reference import queue_infonce as reference
from tubeletx.ops.queue_infonce import queue_infonce

HALVES = (torch.float16, torch.bfloat16)
OPERATOR = torch.ops.tubeletx.queue_infonce.default
Operator = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


@pytest.fixture
def operator(kernel: Callable[[str], Operator]) -> Operator:
    return kernel("queue_infonce")


def assert_matches(
    operator: Operator,
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float,
    own_negatives: Tensor | None = None,
) -> None:
    loss, rank, log_sum_exp, negative_mean = operator(query, key, queue, own_negatives, temperature, True)
    wide = [None if tensor is None else tensor.double() for tensor in (query, key, queue, own_negatives)]
    logits = reference.scores(*wide) / temperature  # type: ignore[arg-type]
    weights = logits.softmax(dim=1)[:, 1:]
    mean = weights[:, : len(queue)] @ queue.double()
    if own_negatives is not None:
        mean += torch.einsum("be,bed->bd", weights[:, len(queue) :], own_negatives.double())
    expected = logits.logsumexp(dim=1)

    tolerance = 1e-13 if query.dtype == torch.float64 else 1e-5
    size = max(1.0, logits.abs().max().item()) if logits.numel() else 1.0
    torch.testing.assert_close(loss.double(), expected - logits[:, 0], rtol=tolerance, atol=tolerance * size / 10)
    torch.testing.assert_close(log_sum_exp.double(), expected, rtol=tolerance, atol=tolerance * size / 10)
    # On the matrix units the weights are rounded to the queue's type, each by half a unit in its last place at most.
    rounding = torch.finfo(queue.dtype).eps / 2 if queue.dtype in HALVES else 0.0
    shares = weights[:, : len(queue)] @ queue.double().abs()
    if own_negatives is not None:
        shares += torch.einsum("be,bed->bd", weights[:, len(queue) :], own_negatives.double().abs())
    assert ((negative_mean.double() - mean).abs() <= (rounding + tolerance) * shares + tolerance * 1e-2).all()
    assert_rank(rank, query, key, queue, own_negatives)
    without = operator(query, key, queue, own_negatives, temperature, False)
    assert without[3].shape == (0, query.shape[1])
    assert all(map(torch.equal, without[:3], (loss, rank, log_sum_exp))) or query.shape[1] > 128


# One line for each kernel and each way to load its tiles; batches and queues that fill no tile.
SIZES = [
    (1, 1, 1, 0),
    (5, 300, 40, 2),
    (33, 150, 128, 0),
    (3, 333, 200, 0),
    (3, 90, 512, 0),
    (2, 70, 515, 1),
    (2, 40, 1030, 0),
    (3, 20, 8, 40),
]
LARGE_BATCHES = [(130, 140, 24, 0), (70, 130, 17, 1), (66, 100, 96, 0), (67, 70, 136, 0)]
WIDE = [(torch.float32, torch.float32), (torch.float64, torch.float64), (torch.float16, torch.float32)]
ON_MATRIX_UNITS = [
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.bfloat16),
    (torch.float16, torch.float16),
    (torch.bfloat16, torch.float16),
]


@pytest.mark.parametrize(
    ("sizes", "dtypes"),
    [*itertools.product(SIZES, WIDE + ON_MATRIX_UNITS), *itertools.product(LARGE_BATCHES, ON_MATRIX_UNITS)],
    ids=str,
)
def test_equals_the_reference(
    operator: Operator, sizes: tuple[int, int, int, int], dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    batch, size, dim, own = sizes
    dtype, queue_dtype = dtypes
    own_negatives = draw(3, batch, own, dim).to(queue_dtype) if own else None
    arguments = draw(0, batch, dim).to(dtype), draw(1, batch, dim).to(dtype), draw(2, size, dim).to(queue_dtype)
    assert_matches(operator, *arguments, 0.2, own_negatives)


@pytest.mark.parametrize("multiprocessors", [1, 3, 132])
@pytest.mark.parametrize("dtypes", [*ON_MATRIX_UNITS, WIDE[0]], ids=str)
def test_blocks_that_work_through_many_tiles(
    operator: Operator, dtypes: tuple[torch.dtype, torch.dtype], multiprocessors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUBELETX_EMULATED_MULTIPROCESSORS", str(multiprocessors))
    dtype, queue_dtype = dtypes
    query, key, queue = draw(0, 20, 72), draw(1, 20, 72), draw(2, 1500, 72)
    queue[::97] = key[:16]  # ties in every tile
    assert_matches(operator, query.to(dtype), key.to(dtype), queue.to(queue_dtype), 0.2)


@pytest.mark.parametrize("dim", [40, 128, 200, 300])
@pytest.mark.parametrize("dtypes", ON_MATRIX_UNITS[:2], ids=str)
def test_little_shared_memory(
    operator: Operator, dtypes: tuple[torch.dtype, torch.dtype], dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUBELETX_EMULATED_SHARED_BYTES", str(100 * 1024))
    monkeypatch.setenv("TUBELETX_EMULATED_MULTIPROCESSORS", "1")
    monkeypatch.setenv("TUBELETX_EMULATED_WARPGROUPS", "0")
    dtype, queue_dtype = dtypes
    query, key, queue = draw(0, 20, dim), draw(1, 20, dim), draw(2, 700, dim)
    assert_matches(operator, query.to(dtype), key.to(dtype), queue.to(queue_dtype), 0.2)


@pytest.mark.parametrize("batch", [20, 70])
@pytest.mark.parametrize("dtypes", [ON_MATRIX_UNITS[1], WIDE[0]], ids=str)
def test_copies_that_land_as_soon_as_they_are_asked_for(
    operator: Operator, dtypes: tuple[torch.dtype, torch.dtype], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUBELETX_EMULATED_COPIES", "early")
    monkeypatch.setenv("TUBELETX_EMULATED_MULTIPROCESSORS", "1")
    monkeypatch.setenv("TUBELETX_EMULATED_WARPGROUPS", "0")
    dtype, queue_dtype = dtypes
    query, key, queue = draw(0, batch, 72), draw(1, batch, 72), draw(2, 700, 72)
    assert_matches(operator, query.to(dtype), key.to(dtype), queue.to(queue_dtype), 0.2)


@pytest.mark.parametrize(("warpgroups", "dim", "multiprocessors"), [(0, 72, 3), (1, 40, 1), (1, 72, 1), (1, 128, 3)])
@pytest.mark.parametrize("dtypes", ON_MATRIX_UNITS[:3], ids=str)
def test_large_batches_with_and_without_warpgroups(
    operator: Operator,
    dtypes: tuple[torch.dtype, torch.dtype],
    warpgroups: int,
    dim: int,
    multiprocessors: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUBELETX_EMULATED_WARPGROUPS", str(warpgroups))
    monkeypatch.setenv("TUBELETX_EMULATED_MULTIPROCESSORS", str(multiprocessors))
    dtype, queue_dtype = dtypes
    query, key, queue = draw(0, 70, dim), draw(1, 70, dim), draw(2, 700, dim)  # more tiles than the ring holds
    queue[::97] = key[:8]
    assert_matches(operator, query.to(dtype), key.to(dtype), queue.to(queue_dtype), 0.2)


@pytest.mark.parametrize("queue_dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("batch", "size", "own"), [(0, 5, 2), (4, 0, 3), (4, 6, 0), (0, 0, 0), (2, 0, 0)])
def test_empty_arguments(operator: Operator, queue_dtype: torch.dtype, batch: int, size: int, own: int) -> None:
    arguments = draw(0, batch, 8), draw(1, batch, 8), draw(2, size, 8).to(queue_dtype)
    assert_matches(operator, *arguments, 0.2, draw(3, batch, own, 8))


@pytest.mark.parametrize("queue_dtype", [torch.float32, *HALVES], ids=str)
def test_any_strides(operator: Operator, queue_dtype: torch.dtype) -> None:
    plain = [draw(0, 6, 20), draw(1, 6, 20), draw(2, 200, 20).to(queue_dtype), draw(3, 6, 2, 20)]
    expected = operator(*plain, 0.2, True)
    for place, tensor in enumerate(plain):
        for other in strided(tensor):
            outputs = operator(*plain[:place], other, *plain[place + 1 :], 0.2, True)
            assert all(map(torch.equal, outputs, expected))


@pytest.mark.parametrize("queue_dtype", [torch.float32, *HALVES], ids=str)
def test_scores_that_overflow_a_naive_exponential(operator: Operator, queue_dtype: torch.dtype) -> None:
    generator = np.random.default_rng(0)

    def integers(*sizes: int) -> Tensor:
        return torch.from_numpy(generator.integers(-8, 9, sizes).astype(np.float32))

    assert_matches(operator, integers(9, 64), integers(9, 64), integers(300, 64).to(queue_dtype), 0.25)
    huge = torch.full((3, 4), 100.0)
    assert_matches(operator, huge, -huge, -huge.repeat(40, 1).to(queue_dtype), 0.5)


@pytest.mark.parametrize("temperature", [1e-30, 0.2, 1e30])
@pytest.mark.parametrize("size", [1e-30, 1e13, 1e15, 1e19, 1e30, 1e36])
@pytest.mark.parametrize(("dtype", "batch"), [(torch.float32, 6), (torch.bfloat16, 6), (torch.bfloat16, 66)], ids=str)
def test_scores_of_any_size(
    operator: Operator, dtype: torch.dtype, batch: int, size: float, temperature: float
) -> None:
    """Where float32 holds the loss, it is that of float64; where it does not, the loss is infinite, not NaN."""
    sizes = [(batch, 8), (batch, 8), (300, 8), (batch, 2, 8)]
    query, key, queue, own = ((draw(i, *each, unit=False) * size).to(dtype) for i, each in enumerate(sizes))
    loss, rank, _, mean = operator(query, key, queue, own, temperature, True)
    wide = query.double(), key.double(), queue.double(), own.double()
    scores = reference.scores(*wide)
    expected = (scores / temperature).logsumexp(dim=1) - scores[:, 0] / temperature
    torch.testing.assert_close(loss, expected.float(), rtol=1e-4, atol=1e-4)
    assert torch.equal(rank, (scores[:, 1:] > scores[:, :1]).sum(dim=1))
    weights = (scores / temperature).softmax(dim=1)[:, 1:]
    negatives = torch.cat([wide[2].expand(batch, -1, -1), wide[3]], dim=1)
    expected_mean = torch.einsum("bn,bnd->bd", weights, negatives)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-2
    assert ((mean.double() - expected_mean).abs() <= tolerance * negatives.abs().max()).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("queue_dtype", HALVES, ids=str)
def test_queries_past_the_range_of_half_precision(operator: Operator, queue_dtype: torch.dtype, scale: float) -> None:
    key, queue = draw(1, 4, 32), draw(2, 100, 32).to(queue_dtype)
    assert_matches(operator, draw(0, 4, 32) * scale, key, queue, 0.2 * scale)


def test_small_weights_survive_in_float16(operator: Operator) -> None:
    # One negative outweighs each of the others, which alone have a second feature, by e^17: float16 ends at e^-17.
    query = torch.tensor([[1.0, 0.0]])
    queue = torch.tensor([[1.0, 0.0], *[[-0.7, 1.0]] * 300]).half()
    assert_matches(operator, query, -query, queue, 0.1)


@pytest.mark.parametrize(
    ("dtype", "queue_dtype"),
    [(torch.float32, torch.float32), (torch.float64, torch.float64), *((half, half) for half in HALVES)],
    ids=str,
)
def test_copies_of_the_key_do_not_outrank_it(operator: Operator, dtype: torch.dtype, queue_dtype: torch.dtype) -> None:
    query, key = draw(0, 6, 40).to(dtype), draw(1, 6, 40).to(dtype)
    queue = torch.cat([key, -query, query, key]).to(queue_dtype)
    assert_matches(operator, query, key, queue, 0.2, key[:, None].expand(-1, 3, -1))


def test_collapsed_features_tie(operator: Operator) -> None:
    same = draw(0, 1, 64).expand(5, -1).bfloat16()
    loss, rank, _, _ = operator(same, same, same[:1].expand(130, -1), None, 0.2, True)
    assert not rank.any()
    np.testing.assert_allclose(loss, np.full(5, np.log(131)), rtol=1e-6)


def test_rank_of_near_ties_is_exact(operator: Operator) -> None:
    # Negatives that differ from the key in the last bits: float32 sums could not order them.
    query, key = draw(0, 4, 64), draw(1, 4, 64)
    noise = torch.from_numpy(np.random.default_rng(2).integers(-1, 2, (200, 64)).astype(np.float32))
    queue = key.repeat(50, 1) * (1 + noise * 2**-23)
    _, rank, _, _ = operator(query, key, queue, None, 0.2, True)
    scores = reference.scores(query.double(), key.double(), queue.double())
    assert rank.equal((scores[:, 1:] > scores[:, :1]).sum(dim=1))
    assert (rank > 0).all()


@pytest.mark.parametrize("batch", [5, 66])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_rank_of_near_ties_in_half_precision_is_exact(operator: Operator, dtype: torch.dtype, batch: int) -> None:
    # Negatives that differ from a key in the last bit of a few features: some scores are so near to the positive's that
    # they are computed again, some are not, and many tie.
    query, key = draw(0, batch, 128).to(dtype), draw(1, batch, 128).to(dtype)
    generator = np.random.default_rng(2)
    noise = torch.from_numpy(generator.integers(-1, 2, (300, 128)) * (generator.random((300, 128)) < 0.02))
    queue = (key[torch.arange(300) % batch].view(torch.int16) + noise.to(torch.int16)).view(dtype)
    rank = operator(query, key, queue, None, 0.2, True)[1]
    scores = reference.scores(query.double(), key.double(), queue.double())
    assert rank.equal((scores[:, 1:] > scores[:, :1]).sum(dim=1))


@pytest.mark.parametrize("queue_dtype", [torch.float32, *HALVES], ids=str)
def test_nan_is_not_hidden(operator: Operator, queue_dtype: torch.dtype) -> None:
    query, key, queue = draw(0, 3, 8), draw(1, 3, 8), draw(2, 40, 8).to(queue_dtype)
    query[1, 3] = float("nan")
    assert operator(query, key, queue, None, 0.2, True)[0].isnan().tolist() == [False, True, False]
    queue[39, 0] = float("nan")
    assert operator(query, key, queue, None, 0.2, True)[0].isnan().all()


@pytest.mark.cuda
class TestOnTheGpu:
    """What only a GPU can show."""

    @staticmethod
    def arguments(batch: int, size: int, dim: int, queue_dtype: torch.dtype, own: int = 0) -> tuple[Tensor, ...]:
        own_negatives = draw(3, batch, own, dim).cuda() if own else None
        queue = draw(2, size, dim).to("cuda", queue_dtype)
        return draw(0, batch, dim).cuda().requires_grad_(), draw(1, batch, dim).cuda(), queue, own_negatives  # type: ignore[return-value]

    @pytest.mark.parametrize("queue_dtype", [torch.float32, *HALVES], ids=str)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize(
        ("batch", "size", "dim"),
        [
            (32, 16384, 128),
            (64, 70001, 64),
            (65, 777, 64),
            (100, 9001, 128),
            (256, 65536, 128),
            (257, 65537, 128),
            (1024, 40961, 64),
            (1, 100003, 200),
            (100, 9001, 384),
            (9, 999, 777),
        ],
    )
    def test_large_sizes(self, queue_dtype: torch.dtype, batch: int, size: int, dim: int, dtype: torch.dtype) -> None:
        query, key, queue, _ = self.arguments(batch, size, dim, queue_dtype)
        query, key = query.detach().to(dtype).requires_grad_(), key.to(dtype)
        loss, rank = queue_infonce(query, key, queue, 0.07)
        (gradient,) = torch.autograd.grad(loss.sum(), query)
        wide = query.detach().double().requires_grad_()
        key = key.double()
        logits = torch.cat([(wide * key).sum(dim=1, keepdim=True), wide @ queue.double().T], dim=1) / 0.07
        expected = F.cross_entropy(logits, torch.zeros_like(rank), reduction="none")
        (wanted,) = torch.autograd.grad(expected.sum(), wide)
        torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
        tolerance = 1e-4 if queue_dtype == torch.float32 else 5e-3
        tolerance += torch.finfo(dtype).eps * wanted.abs().max().item()
        torch.testing.assert_close(gradient.double(), wanted, rtol=0, atol=tolerance)
        assert ((logits[:, 1:] > logits[:, :1]).sum(dim=1) - rank).abs().max() == 0

    @pytest.mark.parametrize("queue_dtype", [torch.float32, *HALVES], ids=str)
    @pytest.mark.parametrize(
        ("batch", "size", "dim"), [(32, 16384, 128), (256, 65536, 128), (100, 9001, 64), (40, 5000, 320)]
    )
    def test_the_same_bits_every_time(self, queue_dtype: torch.dtype, batch: int, size: int, dim: int) -> None:
        arguments = *self.arguments(batch, size, dim, queue_dtype, own=3), 0.2, True
        first = OPERATOR(*arguments)
        for _ in range(5):
            assert all(map(torch.equal, first, OPERATOR(*arguments)))

    @pytest.mark.parametrize("queue_dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_equals_the_cpu(self, queue_dtype: torch.dtype) -> None:
        query, key, queue, own = self.arguments(48, 3000, 128, queue_dtype, own=2)
        loss, rank = queue_infonce(query, key, queue, 0.2, own)
        cpu_loss, cpu_rank = queue_infonce(query.cpu(), key.cpu(), queue.cpu(), 0.2, own.cpu())
        torch.testing.assert_close(loss.cpu(), cpu_loss, rtol=1e-5, atol=1e-5)
        assert rank.cpu().equal(cpu_rank)

    def test_capture_and_replay(self) -> None:
        query, key, queue, _ = self.arguments(32, 4096, 128, torch.bfloat16)
        query = query.detach()
        OPERATOR(query, key, queue, None, 0.2, True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = OPERATOR(query, key, queue, None, 0.2, True)
        query.copy_(draw(7, 32, 128))
        queue.copy_(draw(8, 4096, 128))
        graph.replay()
        assert all(map(torch.equal, outputs, OPERATOR(query, key, queue, None, 0.2, True)))

    def test_runs_on_the_current_stream(self) -> None:
        query, key, queue, _ = self.arguments(32, 65536, 128, torch.bfloat16)
        expected, _ = queue_infonce(query, key, queue, 0.2)
        other = torch.zeros_like(queue)
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)
            other.copy_(queue)  # seen only by work that waits for this stream
            loss, _ = queue_infonce(query, key, other, 0.2)
        stream.synchronize()
        assert loss.equal(expected)

    @pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch sees one GPU")
    def test_second_device(self) -> None:
        query, key, queue, _ = self.arguments(32, 4096, 128, torch.bfloat16)
        expected, _ = queue_infonce(query, key, queue, 0.2)
        loss, _ = queue_infonce(query.to("cuda:1"), key.to("cuda:1"), queue.to("cuda:1"), 0.2)
        torch.testing.assert_close(loss.cpu(), expected.cpu())

    def test_gradcheck(self) -> None:
        query, key, queue, own = (
            draw(seed, *sizes).double().cuda() for seed, sizes in enumerate([(5, 7), (5, 7), (130, 7), (5, 2, 7)])
        )
        inputs = query.requires_grad_(), key.requires_grad_()
        assert torch.autograd.gradcheck(lambda q, k: queue_infonce(q, k, queue, 0.3, own)[0], inputs)

    def test_compiles_without_graph_breaks(self) -> None:
        def step(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
            return queue_infonce(F.normalize(query, dim=1), key, queue, 0.2)[0].mean()

        query, key, queue, _ = self.arguments(16, 500, 64, torch.bfloat16)
        (expected,) = torch.autograd.grad(step(query, key, queue), query)
        compiled = torch.compile(step, fullgraph=True, mode="reduce-overhead")
        for _ in range(3):
            (gradient,) = torch.autograd.grad(compiled(query, key, queue), query)
            torch.testing.assert_close(gradient, expected)

    def test_opcheck(self) -> None:
        query, key, queue, own = self.arguments(4, 100, 24, torch.float16, own=2)
        torch.library.opcheck(OPERATOR, (query, key, queue, own, 0.2, True))

    def test_more_than_two_to_the_31_numbers(self) -> None:
        size, dim = 2**24 + 5, 136
        if torch.cuda.mem_get_info()[0] < 3 * size * dim:
            pytest.skip("not enough memory on the GPU")
        queue = torch.zeros(size, dim, dtype=torch.bfloat16, device="cuda")
        query = draw(0, 2, dim).cuda()
        key = draw(1, 2, dim).cuda()
        queue[-1] = query[1].bfloat16()
        _, rank = queue_infonce(query, key, queue, 0.2)
        scores = (query * key).sum(dim=1)
        expected = [
            (size - 1) * (score < 0).item() + (query[row] @ queue[-1].float() > score).item()
            for row, score in enumerate(scores)
        ]
        assert rank.tolist() == expected

    @pytest.mark.parametrize("queue_dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_peak_memory_is_far_below_the_matrix_of_scores(self, queue_dtype: torch.dtype) -> None:
        query, key, queue, _ = self.arguments(1024, 65536, 128, queue_dtype)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        queue_infonce(query, key, queue, 0.2)[0].sum().backward()
        matrix = 1024 * 65536 * 4
        assert torch.cuda.max_memory_allocated() - before < matrix / 6


@pytest.mark.parametrize("batch", [5, 70])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_nan_hits_nothing(operator: Operator, dtype: torch.dtype, batch: int) -> None:
    """A diverged run has no top-1 hits: every negative beats a positive that is NaN, and NaN beats every positive."""
    sizes = [(batch, 64), (batch, 64), (99, 64), (batch, 2, 64)]
    query, key, queue, own = (draw(i, *size).to(dtype) for i, size in enumerate(sizes))
    expected = operator(query, key, queue, own, 0.2, False)[1]
    query[1, 3] = key[2, 0] = float("nan")
    rank = operator(query, key, queue, own, 0.2, False)[1]
    expected[1:3] = 101
    assert torch.equal(rank, expected)
    queue[7] = own[:, 1] = float("nan")
    rest = [row for row in range(99) if row != 7]
    without = operator(query, key, queue[rest], own[:, :1], 0.2, False)[1]
    assert torch.equal(operator(query, key, queue, own, 0.2, False)[1], without + 2)
