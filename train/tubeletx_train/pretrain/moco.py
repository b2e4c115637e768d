"""Momentum contrast of clip pairs (section 4.1 of the paper)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tubeletx.contrast import QueueInfoNCE
from tubeletx.tubelets import Tubelets
from tubeletx_train.engine.collectives import all_gather_rows, shuffle_rows, unshuffle_rows, world
from tubeletx_train.models import EmbeddingNet, VideoEncoder
from tubeletx_train.pretrain.metrics import age_gap, alignment, batch_rank, top_k, uniformity
from tubeletx_train.pretrain.tracking import TrackHead


@dataclass
class MoCoOutput:
    """What one step yields.

    Attributes:
        loss: (B,) float32, InfoNCE of each row, and the weighted loss of its tracks where they are predicted.
        metrics: Detached scalars: "top1", "top5" (the positive among queue and own negatives), "batch_top1" (among the
            keys of this step), "alignment", "uniformity"; with a queue "age_gap" (of the scores that the loss takes,
            over the temperature); with own negatives "own_top1" (above all of its own); with tracks the two parts of
            the loss, "contrast_loss" and "track_loss", and what `TrackHead.loss` measures.
        key: (B, D) the positives, without gradient.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    key: Tensor


class MoCo(nn.Module):
    """Query network, momentum key network and queue.

    In training mode a call first moves the key network towards the query network, and last enqueues the new keys. A
    batch may also be worked through in parts that meet the same queue: `update_key_net`, then `compare` each, then
    `enqueue` their keys. Batch-norm statistics of the key network are its own: it runs on batch statistics like the
    query network, and only parameters are averaged.

    With several processes each calls it with its own share of a batch. The queue takes the keys of all, by rank, and so
    is the same everywhere; negatives of the same step, too, come from all.
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
        shuffle_keys: bool = False,
    ) -> None:
        """Build both networks and the queue.

        Args:
            encoder: The query encoder; the key encoder starts as its copy.
            dim: Dimension D of the embedding.
            queue_size: Keys K kept as negatives.
            momentum: Share of its old value that a key parameter keeps at each step.
            temperature: Temperature of the loss (Eq. 1).
            batch_negatives: Whether the other rows' keys of the same step are negatives too, those of other processes
                included. Costs O(B N D) memory for N rows in all.
            shuffle_keys: Shuffle-BN: key clips are shuffled over the processes, so that the batch-norm statistics of a
                positive are not those of its query's companions; alone, a process has nobody to shuffle with.
        """
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum: got {momentum}, needs one in [0, 1]")
        self.query_net = EmbeddingNet(encoder, dim)
        self.key_net = copy.deepcopy(self.query_net).requires_grad_(False)
        self.contrast = QueueInfoNCE(dim, queue_size, temperature, normalize=False)  # rows are unit already
        self.momentum = momentum
        self.batch_negatives = batch_negatives
        self.shuffle_keys = shuffle_keys
        self.track_head: TrackHead | None = None
        self._track_weight = 0.0
        self._query_with_map: Callable[[Tensor], tuple[Tensor, Tensor]] = self.query_net.with_map

    def predict_tracks(self, head: TrackHead, weight: float) -> None:
        """From now on predict the tracks of the query clips too, at so much weight of the loss."""
        self.track_head, self._track_weight = head, weight

    def compile_networks(self) -> None:
        """Have torch compile both networks, where they are; their parameters keep their names."""
        self.query_net.compile()
        self.key_net.compile()
        if self.track_head is not None:
            self._query_with_map = torch.compile(self.query_net.with_map)

    def forward(
        self,
        query_clip: Tensor,
        key_clip: Tensor,
        own_negative_clip: Tensor | None = None,
        tubelets: Tubelets | None = None,
    ) -> MoCoOutput:
        """One contrastive step.

        Args:
            query_clip: (B, 3, T, H, W) normalised floats.
            key_clip: Likewise; row b is the positive of query b.
            own_negative_clip: Likewise; row b is one more negative of query b alone.
            tubelets: What was pasted onto the query clips; needed where tracks are predicted.
        """
        if self.training:
            self.update_key_net()
        output = self.compare(query_clip, key_clip, own_negative_clip, tubelets)
        if self.training:
            self.enqueue(output.key)
        return output

    @torch.no_grad()
    def update_key_net(self) -> None:
        """Move the parameters of the key network towards those of the query network."""
        keys: list[Tensor] = list(self.key_net.parameters())
        queries: list[Tensor] = list(self.query_net.parameters())
        torch._foreach_lerp_(keys, queries, 1 - self.momentum)

    def compare(
        self,
        query_clip: Tensor,
        key_clip: Tensor,
        own_negative_clip: Tensor | None = None,
        tubelets: Tubelets | None = None,
    ) -> MoCoOutput:
        """Loss and metrics, as `forward`, with key network and queue as they are."""
        features: Tensor | None = None
        if self.track_head is None:
            query = self.query_net(query_clip)
        else:
            query, features = self._query_with_map(query_clip)
        with torch.no_grad():
            key, own = self._embed_keys(key_clip, own_negative_clip)
            all_keys, first = all_gather_rows(key), world()[0] * len(key)
            own_negatives = self._own_negatives(key, own, all_keys, first)
        loss, rank = self.contrast(query, key, own_negatives)
        with torch.no_grad():
            metrics = {
                "top1": top_k(rank, 1),
                "top5": top_k(rank, 5),
                "batch_top1": top_k(batch_rank(query, all_keys, first), 1),
                "alignment": alignment(query, key),
                "uniformity": uniformity(query),
            }
            if len(self.contrast.queue):
                oldest = self.contrast.oldest(len(all_keys))
                metrics["age_gap"] = age_gap(query, all_keys, oldest, first) / self.contrast.temperature
            if own is not None:
                metrics["own_top1"] = ((query * key).sum(1) > (query * own).sum(1)).float().mean()
        if self.track_head is not None and features is not None:
            if tubelets is None:
                raise ValueError("tubelets: got None, needs those of the query clips, whose tracks are predicted")
            track_loss, measured = self.track_head.loss(features, tubelets)
            metrics |= measured
            metrics |= {"contrast_loss": loss.detach().mean(), "track_loss": track_loss.detach().mean()}
            loss = loss + self._track_weight * track_loss
        return MoCoOutput(loss, metrics, key)

    @torch.no_grad()
    def enqueue(self, key: Tensor) -> None:
        """Put this step's keys (B, D) of every process into the queue, by rank."""
        self.contrast.enqueue(all_gather_rows(key))

    def _embed_keys(self, key_clip: Tensor, own_negative_clip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        clips = [key_clip] if own_negative_clip is None else [key_clip, own_negative_clip]
        if self.shuffle_keys:
            clips = [shuffle_rows(clip) for clip in clips]
        # One pass, hence one set of batch-norm statistics: they cannot tell a positive from an own negative.
        embedded = self.key_net(clips[0] if len(clips) == 1 else torch.cat(clips)).chunk(len(clips))
        if self.shuffle_keys:
            embedded = [unshuffle_rows(rows) for rows in embedded]
        return embedded[0], None if own_negative_clip is None else embedded[1]

    def _own_negatives(self, key: Tensor, own: Tensor | None, all_keys: Tensor, first: int) -> Tensor | None:
        columns = [] if own is None else [own[:, None]]
        if self.batch_negatives and len(all_keys) > 1:
            rows = torch.arange(first, first + len(key), device=key.device)[:, None]
            others = torch.arange(len(all_keys) - 1, device=key.device)
            columns.append(all_keys[others + (others >= rows)])
        return torch.cat(columns, 1) if columns else None
