"""Batch norm whose statistics are those of all processes' samples, on GPUs and on CPUs."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

M = TypeVar("M", bound=nn.Module)


def synchronize_batch_norm(module: M, device: torch.device) -> M:
    """Make every batch norm in a module a synchronised one; parameters, buffers and their names stay.

    On GPUs it is torch's, which takes no CPU tensors.
    """
    if device.type == "cuda":
        synchronized: M = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return synchronized
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, _SyncBatchNorm.of(child))
        else:
            synchronize_batch_norm(child, device)
    return module


class _SyncBatchNorm(_BatchNorm):
    """Written out, for processes that all bring inputs of one shape."""

    @classmethod
    def of(cls, norm: _BatchNorm) -> _SyncBatchNorm:
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        new._parameters, new._buffers = norm._parameters, norm._buffers
        return new.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        pass

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if not self.training:
            return super().forward(input)
        over = [0, *range(2, input.dim())]
        count = input.numel() // input.shape[1] * dist.get_world_size()
        shape = [1, -1] + [1] * (input.dim() - 2)
        x = input.float()
        mean = _total(x.sum(over)) / count
        centered = x - mean.view(shape)
        variance = _total(centered.square().sum(over)) / count
        if self.running_mean is not None and self.running_var is not None:
            self._update_running_statistics(mean.detach(), variance.detach() * count / max(count - 1, 1))
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        output = centered * scale.view(shape)
        if self.bias is not None:
            output = output + self.bias.view(shape)
        return output.to(input.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def _total(tensor: Tensor) -> Tensor:
    """The sum over the processes, of which it is a function: its gradient is the sum of theirs."""
    total: Tensor = all_reduce(tensor)  # type: ignore[no-untyped-call]
    return total
