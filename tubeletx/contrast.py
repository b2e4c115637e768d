"""The contrastive loss of momentum contrast, with its queue of negatives."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubeletx.ops._arguments import FLOATS, check_dtype, require_integer, require_seed, require_tensors
from tubeletx.ops.enqueue import enqueue_
from tubeletx.ops.queue_infonce import check_temperature, queue_infonce


class QueueInfoNCEOutput(NamedTuple):
    """What `QueueInfoNCE` returns."""

    loss: Tensor
    """(B,) float32, InfoNCE of each row; differentiable."""
    rank: Tensor
    """(B,) int64, number of negatives that score strictly higher than the positive: 0 is a top-1 hit."""


class QueueInfoNCE(nn.Module):
    """InfoNCE (Eq. 1 of the paper) of queries against their keys and a queue of keys of earlier batches.

    The defaults are those of section 4.1: 16,384 negatives of dimension 128, temperature 0.2. The queue and its pointer
    are buffers, so that they move, save and load with the module. The module knows nothing of other processes: to share
    keys among them, gather before `enqueue`.

    Args:
        dim: number of features D.
        size: number of negatives K; 0 keeps none, and only `own_negatives` are contrasted with.
        temperature: positive and finite; `temperature` may be changed later. An `nn.Parameter` of one element
            is learned.
        dtype: of the queue: float32, float16, bfloat16 or float64, in which case the loss is float64 too.
        seed: of the unit vectors that fill the queue at first, any 64-bit integer, signed or not; the global generators
            are left alone.
        normalize: scale queries, keys and negatives to unit length, in float32 or wider. Without it the scores are
            scalar products of the features as they come.

    Attributes:
        queue: (K, D) the negatives.
        pointer: () int64, the slot that is written next.
    """

    queue: Tensor
    pointer: Tensor

    def __init__(
        self,
        dim: int = 128,
        size: int = 16384,
        temperature: float | Tensor = 0.2,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        dim, size = require_integer(dim, "dim"), require_integer(size, "size")
        if dim <= 0:
            raise ValueError(f"dim: got {dim}, needs a positive integer")
        if size < 0:
            raise ValueError(f"size: got {size}, needs 0 or a positive integer")
        if dtype not in FLOATS:
            raise ValueError(f"dtype: got {dtype}, needs {' or '.join(map(str, FLOATS))}")
        check_temperature(temperature)
        self.temperature = temperature
        self.normalize = normalize
        generator = torch.Generator().manual_seed(require_seed(seed))
        negatives = F.normalize(torch.randn(size, dim, generator=generator, device="cpu"), dim=1)
        device = torch.get_default_device()
        self.register_buffer("queue", negatives.to(device=device, dtype=dtype))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def forward(self, query: Tensor, key: Tensor, own_negatives: Tensor | None = None) -> QueueInfoNCEOutput:
        """Loss and rank of each row.

        `enqueue` may be called before the backward of this loss, which does not need the queue any more.

        Args:
            query: (B, D) features of the encoder that is trained.
            key: (B, D) features of the positives; gradient flows there too unless they are detached.
            own_negatives: (B, E, D) further negatives of each row alone; they take no gradient.

        Returns:
            `QueueInfoNCEOutput`, a named tuple (loss, rank); the loss is not averaged over the batch.

        Raises:
            ValueError: as `tubeletx.ops.queue_infonce`.
            TypeError: likewise.
        """
        if own_negatives is not None:
            own_negatives = self._features("own_negatives", own_negatives).detach()
        query, key = self._features("query", query), self._features("key", key)
        loss, rank = queue_infonce(query, key, self.queue, self.temperature, own_negatives)
        return QueueInfoNCEOutput(loss, rank)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replaces the oldest negatives by these keys, (B, D); B may be any size."""
        keys = self._features("keys", keys)
        if len(self.queue):
            enqueue_(self.queue, self.pointer, keys)

    def oldest(self, count: int) -> Tensor:
        """The keys that `count` new ones would replace, (min(count, K), D), the oldest first."""
        size, count = len(self.queue), require_integer(count, "count")
        if count < 0:
            raise ValueError(f"count: got {count}, needs 0 or more")
        places = torch.arange(min(count, size), device=self.queue.device) + self.pointer
        return self.queue.index_select(0, places.remainder(max(size, 1)))

    def extra_repr(self) -> str:
        """Sizes and settings for `repr`."""
        size, dim = self.queue.shape
        return f"dim={dim}, size={size}, temperature={self.temperature}, dtype={self.queue.dtype}"

    def _features(self, name: str, features: Tensor) -> Tensor:
        require_tensors(**{name: features})
        check_dtype(features, name, *FLOATS)
        # Of float64 features the length is taken in float64, whatever the queue's dtype.
        wide = torch.promote_types(features.dtype, torch.promote_types(self.queue.dtype, torch.float32))
        features = features.to(wide)
        if self.normalize:
            features = F.normalize(features, dim=-1)
        return features.to(torch.promote_types(self.queue.dtype, torch.float32))
