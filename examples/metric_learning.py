"""QueueInfoNCE in place of pytorch-metric-learning's NTXentLoss over the same queue: loss, gradient, time, memory.

Memory is the peak beside what the process held before (Linux). Run: python examples/metric_learning.py [toy]
"""

import pathlib
import sys
import time
from collections.abc import Callable

import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from tubeletx import QueueInfoNCE

TEMPERATURE = 0.2


def ntxent(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
    """The same loss there: every query with its key, against all of the queue."""
    batch, size = len(query), len(queue)
    anchors, negatives = torch.arange(batch), torch.arange(batch, batch + size)
    pairs = (anchors, anchors, anchors.repeat_interleave(size), negatives.repeat(batch))
    labels, reference_labels = torch.zeros(batch), torch.zeros(batch + size)  # unused, as the pairs are given
    return NTXentLoss(temperature=TEMPERATURE)(
        query, labels, indices_tuple=pairs, ref_emb=torch.cat((key, queue)), ref_labels=reference_labels
    )


def status(field: str) -> int:
    """A number of kilobytes from the process's status."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def measured(name: str, loss_of: Callable[[Tensor], Tensor], query: Tensor) -> tuple[Tensor, Tensor]:
    """Prints time and peak memory of a forward and a backward; returns loss and gradient."""
    loss_of(query).backward()  # the first call loads and allocates
    query.grad = None
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, start = status("VmRSS"), time.perf_counter()
    loss = loss_of(query)
    loss.backward()
    seconds, peak = time.perf_counter() - start, status("VmHWM") - before
    print(f"{name:12} loss {loss.item():.6f}, {seconds * 1e3:8.2f} ms, {peak / 1024:8.1f} MiB at the peak")
    gradient, query.grad = query.grad, None
    return loss.detach(), gradient


def main(toy: bool) -> tuple[float, float]:
    """Compares the two; returns how far loss and gradient are apart."""
    torch.manual_seed(0)
    batch, size, dim = (4, 64, 8) if toy else (32, 16384, 128)
    contrast = QueueInfoNCE(dim=dim, size=size, temperature=TEMPERATURE)  # normalises, as NTXentLoss does
    query, key = torch.randn(batch, dim, requires_grad=True), torch.randn(batch, dim)

    loss, gradient = measured("tubeletx", lambda query: contrast(query, key).loss.mean(), query)
    other_loss, other_gradient = measured("NTXentLoss", lambda query: ntxent(query, key, contrast.queue), query)
    differences = (loss - other_loss).abs().item(), (gradient - other_gradient).abs().max().item()
    print("differences: loss {:.1e}, gradient {:.1e}".format(*differences))
    return differences


if __name__ == "__main__":
    main(toy="toy" in sys.argv[1:])
