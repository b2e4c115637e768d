"""Queue InfoNCE, forward and backward, against what people do without it.

Peers, in the same run: MoCo's einsum, cat and cross-entropy on a (D, K) queue (also with the copy of the queue that it
takes to enqueue before the backward), and scaled dot-product attention with the queue as keys and values, which yields
the loss and the gradient in one pass too. `products` is the floor: the two matrix products that nobody can avoid.

With `--device cuda`: queue and queries in float32 or bfloat16 on a GPU, beside MoCo's loss in eager and compiled torch.
There the floor is the larger of two times: to read the queue once, as fast as a copy moves bytes, and to do the work of
both products as fast as a large matrix product of the same type does it.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from harness import copy_bandwidth, measure, measure_gpu, replayed, write_result
from torch import Tensor

from tubeletx.ops.queue_infonce import queue_infonce

SHAPES = ((32, 16384, 128), (32, 65536, 128), (256, 16384, 128), (256, 65536, 128))
TEMPERATURE = 0.2

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


def compare(batch: int, size: int, dim: int, repeats: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    query, key, queue = (F.normalize(torch.randn(n, dim, generator=generator), dim=1) for n in (batch, batch, size))
    floor = functools.partial(products, query.clone(), queue, torch.empty(batch, size), torch.empty(batch, dim))
    query.requires_grad_()
    columns = queue.T.contiguous()
    candidates: dict[str, Callable[[], Tensor]] = {
        "moco": functools.partial(forward_backward, functools.partial(moco, copy=False), query, key, columns),
        "moco with copy": functools.partial(forward_backward, functools.partial(moco, copy=True), query, key, columns),
        "attention": functools.partial(forward_backward, AttentionInfoNCE.apply, query, key, queue),
        "tubeletx": functools.partial(forward_backward, ours, query, key, queue),
    }
    expected = candidates["moco"]()
    for candidate in candidates.values():
        torch.testing.assert_close(candidate(), expected, rtol=1e-4, atol=1e-7)
    seconds = measure({**candidates, "products": floor}, repeats)
    speedup = {name: value / seconds["tubeletx"] for name, value in seconds.items() if name != "tubeletx"}
    print(
        f"B={batch} K={size} D={dim}: " + ", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in seconds.items())
    )
    print("  ratio to tubeletx: " + ", ".join(f"{name} {value:.2f}" for name, value in speedup.items()))
    return {"batch": batch, "queue": size, "features": dim, "seconds": seconds, "ratio_to_tubeletx": speedup}


def product_rate(dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    size = 8192
    left, right, out = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(3))
    return 2 * size**3 / measure_gpu({"product": lambda: torch.mm(left, right, out=out)}, repeats=5)["product"]


def compare_on_gpu(
    batch: int, size: int, dim: int, dtype: torch.dtype, bandwidth: float, rate: float, repeats: int
) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    query, key, queue = (
        F.normalize(torch.randn(n, dim, generator=generator), dim=1).to("cuda", dtype) for n in (batch, batch, size)
    )
    wide_query, wide_key = query.float().requires_grad_(), key.float()
    query.requires_grad_()
    columns = queue.T.contiguous()
    eager = functools.partial(moco, copy=False)
    compiled = torch.compile(eager, fullgraph=True)
    calls: dict[str, Callable[[], Tensor]] = {
        "eager": lambda: forward_backward(eager, query, key, columns),
        "compiled": lambda: forward_backward(compiled, query, key, columns),
        "attention": lambda: forward_backward(AttentionInfoNCE.apply, query, key, queue),
        "tubeletx": lambda: forward_backward(ours, query, key, queue),
    }
    if dtype != torch.float32:  # what `tubeletx.QueueInfoNCE` asks for with a queue in half precision
        calls["tubeletx, float32 query"] = lambda: forward_backward(ours, wide_query, wide_key, queue)
    expected = forward_backward(eager, query.detach().double().requires_grad_(), key.double(), columns.double())
    for call in calls.values():
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(call().double(), expected, rtol=0, atol=tolerance * expected.abs().max().item())

    graphs = {f"{name}, graph": replayed(call) for name, call in calls.items() if name != "compiled"}
    operator = torch.ops.tubeletx.queue_infonce.default
    graphs["operator, graph"] = replayed(lambda: operator(query.detach(), key, queue, None, TEMPERATURE, True))
    seconds = measure_gpu({**calls, **graphs}, repeats)
    floors = {
        "bytes": queue.numel() * queue.element_size() / bandwidth,
        "operations": 4 * batch * size * dim / rate,
    }
    ratios = {name: value / seconds["tubeletx"] for name, value in seconds.items() if name in calls}
    ratios["eager, graph"] = seconds["eager, graph"] / seconds["tubeletx, graph"]
    ratios["attention, graph"] = seconds["attention, graph"] / seconds["tubeletx, graph"]
    share = max(floors.values()) / seconds["operator, graph"]
    label = f"B={batch} K={size} D={dim} {str(dtype).removeprefix('torch.')}:"
    print(label, ", ".join(f"{name} {1e6 * value:.1f} us" for name, value in seconds.items()))
    print(f"{label} ratio to tubeletx: " + ", ".join(f"{name} {value:.2f}" for name, value in ratios.items()))
    print(
        f"{label} floors: "
        + ", ".join(f"{name} {1e6 * value:.1f} us" for name, value in floors.items())
        + f"; share {share:.2f}, {queue.numel() * queue.element_size() / seconds['operator, graph'] / 1e9:.0f} GB/s, "
        f"{4 * batch * size * dim / seconds['operator, graph'] / 1e12:.1f} TFLOP/s"
    )
    record = {"batch": batch, "queue": size, "features": dim, "dtype": str(dtype), "share_of_floor": share}
    return {**record, "seconds": seconds, "floor_seconds": floors, "ratio_to_tubeletx": ratios}


def on_gpu(repeats: int) -> None:
    bandwidth = copy_bandwidth()
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        rate = product_rate(dtype)
        print(f"{dtype}: copy {bandwidth / 1e12:.2f} TB/s, product {rate / 1e12:.0f} TFLOP/s")
        results += [compare_on_gpu(*shape, dtype, bandwidth, rate, repeats) for shape in SHAPES]
    print("written:", write_result("infonce_cuda", {"results": results}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--repeats", type=int, default=40, help="rounds at the smallest shape, fewer at the larger ones"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        on_gpu(arguments.repeats)
        return
    torch.set_num_threads(arguments.threads)
    smallest = min(batch * size for batch, size, _ in SHAPES)
    results = [
        compare(batch, size, dim, max(arguments.repeats * smallest // (batch * size), 7)) for batch, size, dim in SHAPES
    ]
    print("written:", write_result("infonce", {"dtype": "float32", "device": "cpu", "results": results}))


if __name__ == "__main__":
    main()
