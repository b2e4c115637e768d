"""Queue InfoNCE, forward and backward, against what people do without it.

Peers, in the same run: MoCo's einsum, cat and cross-entropy on a (D, K) queue (also with the copy of the queue that it
takes to enqueue before the backward), and scaled dot-product attention with the queue as keys and values, which yields
the loss and the gradient in one pass too. `products` is the floor: the two matrix products that nobody can avoid.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from harness import measure, write_result
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
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64))


class AttentionInfoNCE(torch.autograd.Function):
    """Mean loss by attention over the queue, whose log-sum-exp the CPU kernel returns."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        """One pass over the queue."""
        mean, log_sum_exp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query[None, None], queue[None, None], queue[None, None], scale=1 / TEMPERATURE
        )
        positive = (query * key).sum(dim=1) / TEMPERATURE
        loss = torch.logaddexp(positive, log_sum_exp.flatten()) - positive
        ctx.save_for_backward(key, mean[0, 0], loss)
        return loss.mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """From what the forward kept."""
        key, mean, loss = ctx.saved_tensors
        share = torch.expm1(-loss)[:, None]
        return gradient / (len(key) * TEMPERATURE) * share * (key - mean), None, None


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--repeats", type=int, default=40, help="rounds at the smallest shape, fewer at the larger ones"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    smallest = min(batch * size for batch, size, _ in SHAPES)
    results = [
        compare(batch, size, dim, max(arguments.repeats * smallest // (batch * size), 7)) for batch, size, dim in SHAPES
    ]
    print("written:", write_result("infonce", {"dtype": "float32", "device": "cpu", "results": results}))


if __name__ == "__main__":
    main()
