"""Queue InfoNCE, forward and backward, against what people do without it.

Peers, in the same run: MoCo's einsum, cat and cross-entropy on a (D, K) queue (also with the copy of the queue that it
takes to enqueue before the backward, and on a (K, D) queue, as ours is; with `--compiled` this by torch.compile too, at
a minute a size), and scaled dot-product attention with the queue as keys and values, which yields the loss and the
gradient in one pass too. `products` is the floor: the two matrix products that nobody can avoid. One thread is timed by
its own clock, which leaves out the others on the machine.

With `--device cuda`: queue and queries in bfloat16 or float32 on a GPU, replayed as CUDA graphs, over queues too many
for its cache (also over one, "cached"). There the floor is the larger of two times: to read the queue once, as fast as
a copy moves bytes, and to do the work of both products as fast as a large matrix product of the same type does it.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from harness import (
    copy_bandwidth,
    device_parser,
    measure,
    measure_gpu,
    measure_replayed,
    product_rate,
    write_result,
)
from torch import Tensor

from tubeletx.ops.queue_infonce import queue_infonce

# On a CPU alone: so few queries that a pass over the queue is bound by its memory, and other numbers of features.
FEW = ((1, 16384, 128), (4, 16384, 128), (8, 16384, 128), (4, 65536, 128))
OTHERS = ((4, 16384, 32), (64, 16384, 32), (4, 8192, 512), (64, 8192, 512), (1024, 8192, 128))
SHAPES = ((32, 16384, 128), (32, 65536, 128), (256, 16384, 128), (256, 65536, 128))
HEADLINE = ((32, 16384, 128), (256, 65536, 128))
TEMPERATURE = 0.2
# More than the second-level cache of a GPU holds, in bytes, and calls in one CUDA graph.
UNCACHED, CALLS = 2**27, 20

Step = Callable[[Tensor, Tensor, Tensor], Tensor]


def moco(query: Tensor, key: Tensor, queue: Tensor, copy: bool) -> Tensor:
    """Mean loss with the logits written out; `queue` is (D, K)."""
    positive = torch.einsum("nc,nc->n", query, key)[:, None]
    negative = torch.einsum("nc,ck->nk", query, queue.clone() if copy else queue)
    logits = torch.cat([positive, negative], dim=1) / TEMPERATURE
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))


def attend(query: Tensor, queue: Tensor) -> tuple[Tensor, Tensor]:
    """Attention with the queue as keys and values, and its log-sum-exp, by the fastest of torch's kernels."""
    query, queue = query[None, None], queue[None, None]
    if query.device.type == "cpu":
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        mean, log_sum_exp = kernel(query, queue, queue, scale=1 / TEMPERATURE)
    elif query.dtype == torch.float32:
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        mean, log_sum_exp = kernel(query, queue, queue, None, True, scale=1 / TEMPERATURE)[:2]
    else:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention
        mean, log_sum_exp = kernel(query, queue, queue, scale=1 / TEMPERATURE)[:2]
    return mean[0, 0], log_sum_exp.flatten()[: query.shape[2]]


class AttentionInfoNCE(torch.autograd.Function):
    """Mean loss by attention over the queue."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        """One pass over the queue."""
        mean, log_sum_exp = attend(query, queue)
        positive = (query * key).sum(dim=1) / TEMPERATURE
        loss = torch.logaddexp(positive.float(), log_sum_exp) - positive
        ctx.save_for_backward(key, mean, loss)
        return loss.mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """From what the forward kept."""
        key, mean, loss = ctx.saved_tensors
        share = torch.expm1(-loss)[:, None]
        return (gradient / (len(key) * TEMPERATURE) * share * (key - mean)).to(key.dtype), None, None


def ours(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
    return queue_infonce(query, key, queue, TEMPERATURE)[0].mean()


def products(query: Tensor, queue: Tensor, scores: Tensor, gradient: Tensor) -> None:
    torch.mm(query, queue.T, out=scores)
    torch.mm(scores, queue, out=gradient)


def forward_backward(step: Step, query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(step(query, key, queue), query)
    return gradient


def moco_rows(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
    """As `moco`; `queue` is (K, D)."""
    return moco(query, key, queue.T, copy=False)


def compare(
    batch: int, size: int, dim: int, repeats: int, clock: Callable[[], float], is_compiled: bool
) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    query, key, queue = (F.normalize(torch.randn(n, dim, generator=generator), dim=1) for n in (batch, batch, size))
    floor = functools.partial(products, query.clone(), queue, torch.empty(batch, size), torch.empty(batch, dim))
    query.requires_grad_()
    columns = queue.T.contiguous()
    candidates: dict[str, Callable[[], Tensor]] = {
        "moco": functools.partial(forward_backward, functools.partial(moco, copy=False), query, key, columns),
        "moco with copy": functools.partial(forward_backward, functools.partial(moco, copy=True), query, key, columns),
        "moco, (K, D) queue": functools.partial(forward_backward, moco_rows, query, key, queue),
        "attention": functools.partial(forward_backward, AttentionInfoNCE.apply, query, key, queue),
        "tubeletx": functools.partial(forward_backward, ours, query, key, queue),
    }
    if is_compiled:
        torch.compiler.reset()
        compiled = torch.compile(moco_rows, fullgraph=True, dynamic=False)
        candidates["compiled moco, (K, D) queue"] = functools.partial(forward_backward, compiled, query, key, queue)
    expected = candidates["moco"]()
    for candidate in candidates.values():
        torch.testing.assert_close(candidate(), expected, rtol=1e-4, atol=1e-7)
    seconds = measure({**candidates, "products": floor}, repeats, clock)
    speedup = {name: value / seconds["tubeletx"] for name, value in seconds.items() if name != "tubeletx"}
    print(
        f"B={batch} K={size} D={dim}: " + ", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in seconds.items())
    )
    print("  ratio to tubeletx: " + ", ".join(f"{name} {value:.2f}" for name, value in speedup.items()))
    return {"batch": batch, "queue": size, "features": dim, "seconds": seconds, "ratio_to_tubeletx": speedup}


@dataclass(frozen=True)
class Inputs:
    """Arguments of one call on a GPU; `columns` is the queue as (D, K)."""

    query: Tensor
    key: Tensor
    queue: Tensor
    columns: Tensor


def draw_on_gpu(batch: int, size: int, dim: int, dtype: torch.dtype, seed: int) -> Inputs:
    generator = torch.Generator("cuda").manual_seed(seed)
    query, key, queue = (
        F.normalize(torch.randn(n, dim, generator=generator, device="cuda"), dim=1).to(dtype)
        for n in (batch, batch, size)
    )
    return Inputs(query.requires_grad_(), key, queue, queue.T.contiguous())


def steps_on_gpu(dtype: torch.dtype, is_compiled: bool) -> dict[str, Callable[[Inputs], Tensor]]:
    """What makes the gradient of the query, by name; ours first."""
    eager = functools.partial(moco, copy=False)
    steps: dict[str, Callable[[Inputs], Tensor]] = {
        "tubeletx": lambda x: forward_backward(ours, x.query, x.key, x.queue)
    }
    if is_compiled:
        compiled = torch.compile(eager, fullgraph=True)
        steps["compiled"] = lambda x: forward_backward(compiled, x.query, x.key, x.columns)
        return steps
    if dtype != torch.float32:  # what `tubeletx.QueueInfoNCE` asks for with a queue in half precision
        steps["tubeletx, float32 query"] = lambda x: forward_backward(
            ours, x.query.detach().float().requires_grad_(), x.key.float(), x.queue
        )
    steps["eager"] = lambda x: forward_backward(eager, x.query, x.key, x.columns)
    steps["attention"] = lambda x: forward_backward(AttentionInfoNCE.apply, x.query, x.key, x.queue)
    return steps


def deviation(step: Callable[[Inputs], Tensor], inputs: Inputs) -> float:
    """Largest difference to the gradient in double precision, as a share of the largest entry of that."""
    query = inputs.query.detach().double().requires_grad_()
    expected = forward_backward(
        functools.partial(moco, copy=False), query, inputs.key.double(), inputs.columns.double()
    )
    return ((step(inputs).double() - expected).abs().max() / expected.abs().max()).item()


def operator(inputs: Inputs) -> tuple[Tensor, ...]:
    """The forward alone, which makes all that the gradient takes."""
    arguments = inputs.query.detach(), inputs.key, inputs.queue, None, TEMPERATURE, True
    outputs: tuple[Tensor, ...] = torch.ops.tubeletx.queue_infonce(*arguments)
    return outputs


def compare_on_gpu(
    shape: tuple[int, int, int], dtype: torch.dtype, bandwidth: float, rate: float, repeats: int, is_compiled: bool
) -> dict[str, Any]:
    batch, size, dim = shape
    bytes_read = size * dim * dtype.itemsize
    sets = [draw_on_gpu(*shape, dtype, seed) for seed in range(min(CALLS, math.ceil(UNCACHED / bytes_read)))]
    steps = steps_on_gpu(dtype, is_compiled)
    deviations = {name: deviation(step, sets[0]) for name, step in steps.items()}

    def calls(step: Callable[[Inputs], object], inputs: list[Inputs]) -> list[Callable[[], object]]:
        return [functools.partial(step, inputs[turn % len(inputs)]) for turn in range(CALLS)]

    ours_alone = {"tubeletx, cached": calls(steps["tubeletx"], sets[:1]), "forward": calls(operator, sets)}
    seconds = measure_replayed(ours_alone | {name: calls(step, sets) for name, step in steps.items()}, repeats)
    called = measure_gpu({name: functools.partial(step, sets[0]) for name, step in steps.items()}, repeats)
    floors = {"bytes": bytes_read / bandwidth, "operations": 4 * batch * size * dim / rate}
    ratios = {name: value / seconds["tubeletx"] for name, value in seconds.items() if name in steps}
    times = max(floors.values())
    label = f"B={batch} K={size} D={dim} {str(dtype).removeprefix('torch.')}:"
    print(label, ", ".join(f"{name} {1e6 * value:.1f} us" for name, value in seconds.items()))
    print(f"{label} to tubeletx: " + ", ".join(f"{name} {value:.2f}" for name, value in ratios.items()))
    print(
        f"{label} floors: "
        + ", ".join(f"{name} {1e6 * value:.1f} us" for name, value in floors.items())
        + f"; ours is {seconds['tubeletx'] / times:.2f} of the larger, its forward {seconds['forward'] / times:.2f}; "
        + "deviations: "
        + ", ".join(f"{name} {value:.1e}" for name, value in deviations.items())
    )
    return {
        **{"batch": batch, "queue": size, "features": dim, "dtype": str(dtype)},
        **{"seconds": seconds, "seconds_called": called, "floor_seconds": floors},
        **{"ratio_to_tubeletx": ratios, "times_floor": seconds["tubeletx"] / times, "deviations": deviations},
    }


def on_gpu(repeats: int, is_headline: bool, is_compiled: bool) -> None:
    bandwidth = copy_bandwidth()
    print(f"copy {bandwidth / 1e12:.2f} TB/s")
    stem = "infonce_compiled" if is_compiled else "infonce" if is_headline else "infonce_all"
    one_dtype = is_headline or is_compiled
    results = []
    for dtype in (torch.bfloat16,) if one_dtype else (torch.bfloat16, torch.float32):
        rate = product_rate(dtype)
        print(f"{dtype}: matrix product {rate / 1e12:.0f} TFLOP/s")
        for shape in HEADLINE if one_dtype else SHAPES:
            results.append(compare_on_gpu(shape, dtype, bandwidth, rate, repeats, is_compiled))
            machine = {"copy_bytes_a_second": bandwidth, "product_operations_a_second": rate}
            written = write_result(f"cuda/{stem}", {**machine, "results": results})
    print("written:", written)
    wrong = [row for row in results if not row["deviations"]["tubeletx"] < (1e-4 if "32" in row["dtype"] else 2e-2)]
    if wrong:
        raise SystemExit(f"the gradient is wrong: {wrong}")


def main() -> None:
    parser = device_parser(__doc__)
    parser.add_argument("--headline", action="store_true", help="two sizes of the README alone; on a GPU in bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--repeats", type=int, default=40, help="rounds at the smallest shape, fewer at the larger ones"
    )
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        on_gpu(arguments.repeats, arguments.headline, arguments.compiled)
        return
    torch.set_num_threads(arguments.threads)
    smallest = min(batch * size for batch, size, _ in SHAPES)
    clock = time.thread_time if arguments.threads == 1 else time.perf_counter
    results = []
    name = "infonce_compiled" if arguments.compiled else "infonce_headline" if arguments.headline else "infonce"
    for batch, size, dim in HEADLINE if arguments.headline else (*FEW, *SHAPES, *OTHERS):
        rounds = max(arguments.repeats * smallest // (batch * size), 5)
        results.append(compare(batch, size, dim, rounds, clock, arguments.compiled))
        written = write_result(name, {"dtype": "float32", "device": "cpu", "results": results})
    print("written:", written)


if __name__ == "__main__":
    main()
