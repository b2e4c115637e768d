"""Momentum contrast of clip pairs (section 4.1 of the paper)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from tubeletx.contrast import QueueInfoNCE
from tubeletx_train.models import VideoEncoder, projection_head
from tubeletx_train.pretrain.metrics import alignment, batch_rank, top_k, uniformity


class EmbeddingNet(nn.Module):
    """Encoder and projection head: clips to points on the unit sphere."""

    def __init__(self, encoder: VideoEncoder, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = projection_head(encoder.feature_dim, dim)

    def forward(self, clip: Tensor) -> Tensor:
        """Normalised float clips (B, 3, T, H, W) to float32 unit rows (B, dim)."""
        return F.normalize(self.head(self.encoder(clip)).float(), dim=1)


@dataclass
class MoCoOutput:
    """What one step yields.

    Attributes:
        loss: (B,) float32, InfoNCE of each row.
        metrics: Detached scalars: "top1", "top5" (the positive among queue and own negatives), "batch_top1" (among the
            keys of this step), "alignment", "uniformity", and with own negatives "own_top1" (above all of its own).
    """

    loss: Tensor
    metrics: dict[str, Tensor]


class MoCo(nn.Module):
    """Query network, momentum key network and queue.

    In training mode a call first moves the key network towards the query network, and last enqueues the new keys.
    Batch-norm statistics of the key network are its own: it runs on batch statistics like the query network, and only
    parameters are averaged.
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        *,
        dim: int = 128,
        queue_size: int = 16384,
        momentum: float = 0.999,
        temperature: float = 0.2,
        batch_negatives: bool = False,
    ) -> None:
        """Build both networks and the queue.

        Args:
            encoder: The query encoder; the key encoder starts as its copy.
            dim: Dimension D of the embedding.
            queue_size: Keys K kept as negatives.
            momentum: Share of its old value that a key parameter keeps at each step.
            temperature: Temperature of the loss (Eq. 1).
            batch_negatives: Whether the other rows' keys of the same step are negatives too. Costs O(B^2 D) memory.
        """
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
        self.query_net = EmbeddingNet(encoder, dim)
        self.key_net = copy.deepcopy(self.query_net).requires_grad_(False)
        self.contrast = QueueInfoNCE(dim, queue_size, temperature, normalize=False)  # rows are unit already
        self.momentum = momentum
        self.batch_negatives = batch_negatives

    def forward(self, query_clip: Tensor, key_clip: Tensor, own_negative_clip: Tensor | None = None) -> MoCoOutput:
        """One contrastive step.

        Args:
            query_clip: (B, 3, T, H, W) normalised floats.
            key_clip: Likewise; row b is the positive of query b.
            own_negative_clip: Likewise; row b is one more negative of query b alone.
        """
        query = self.query_net(query_clip)
        with torch.no_grad():
            if self.training:
                self._update_key_net()
            key, own = self._embed_keys(key_clip, own_negative_clip)
            own_negatives = self._own_negatives(key, own)
        loss, rank = self.contrast(query, key, own_negatives)
        with torch.no_grad():
            metrics = {
                "top1": top_k(rank, 1),
                "top5": top_k(rank, 5),
                "batch_top1": top_k(batch_rank(query, key), 1),
                "alignment": alignment(query, key),
                "uniformity": uniformity(query),
            }
            if own is not None:
                metrics["own_top1"] = ((query * key).sum(1) > (query * own).sum(1)).float().mean()
            if self.training:
                self.contrast.enqueue(_gather(key))
        return MoCoOutput(loss, metrics)

    def _update_key_net(self) -> None:
        keys: list[Tensor] = list(self.key_net.parameters())
        queries: list[Tensor] = list(self.query_net.parameters())
        torch._foreach_lerp_(keys, queries, 1 - self.momentum)

    def _embed_keys(self, key_clip: Tensor, own_negative_clip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if own_negative_clip is None:
            return self.key_net(key_clip), None
        # One pass, hence one set of batch-norm statistics: they cannot tell a positive from an own negative.
        key, own = self.key_net(torch.cat([key_clip, own_negative_clip])).chunk(2)
        return key, own

    def _own_negatives(self, key: Tensor, own: Tensor | None) -> Tensor | None:
        columns = [] if own is None else [own[:, None]]
        if self.batch_negatives and len(key) > 1:
            others = ~torch.eye(len(key), dtype=torch.bool, device=key.device)
            columns.append(key.expand(len(key), -1, -1)[others].view(len(key), len(key) - 1, -1))
        return torch.cat(columns, 1) if columns else None


def _gather(keys: Tensor) -> Tensor:
    """The keys of all ranks in the order of ranks, so that every rank's queue stays the same."""
    if not (dist.is_available() and dist.is_initialized()):
        return keys
    parts = [torch.empty_like(keys) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, keys.contiguous())
    return torch.cat(parts)
