"""Queue InfoNCE with the logits written out, in float64 torch; and the ring buffer as a Python loop."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def scores(query: Tensor, key: Tensor, queue: Tensor, own_negatives: Tensor | None = None) -> Tensor:
    """(B, 1 + K + E) scalar products: the positive, the queue, the row's own negatives."""
    columns = [(query * key).sum(dim=1, keepdim=True), query @ queue.T]
    if own_negatives is not None:
        columns.append(torch.einsum("bd,bed->be", query, own_negatives))
    return torch.cat(columns, dim=1)


def queue_infonce(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float, own_negatives: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Loss (B,) and rank (B,); differentiable."""
    logits = scores(query, key, queue, own_negatives) / temperature
    target = torch.zeros(len(query), dtype=torch.int64)
    return F.cross_entropy(logits, target, reduction="none"), (logits[:, 1:] > logits[:, :1]).sum(dim=1)


def loss_and_gradients(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float, own_negatives: Tensor | None, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, and the gradients of its weighted sum with respect to query and key, all in float64."""
    query, key = (tensor.detach().double().requires_grad_() for tensor in (query, key))
    own_negatives = None if own_negatives is None else own_negatives.double()
    loss, _ = queue_infonce(query, key, queue.double(), temperature, own_negatives)
    gradients = torch.autograd.grad((loss * weight.double()).sum(), (query, key))
    return loss.detach(), *gradients


def enqueue(queue: Tensor, pointer: int, keys: Tensor) -> tuple[Tensor, int]:
    """The queue and the pointer after writing the keys one by one."""
    queue = queue.clone()
    for key in keys:
        queue[pointer] = key
        pointer = (pointer + 1) % len(queue)
    return queue, pointer
