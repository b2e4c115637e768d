"""From decoded pairs to what the networks see: still backgrounds, tubelets, own negatives, colour."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tubeletx.config import TubeletConfig
from tubeletx.ops import augment_clips_
from tubeletx.sampler import TubeletSampler
from tubeletx.tubelets import Tubelets
from tubeletx_train.config.data import ColorConfig
from tubeletx_train.config.pretrain import ContrastConfig
from tubeletx_train.data import ColorJitterNormalize, PairBatch
from tubeletx_train.data.augment import freeze, in_turns
from tubeletx_train.data.bank import BankBatch

# What is drawn beside the tubelets of the pairs must differ from them, whatever the run's seed.
_RESAMPLING_SEED = 0x5EED
_OFFSET_SEED = 0x0FF5E7


@dataclass
class Views:
    """The clips of one step.

    Attributes:
        query: (B, 3, T, H, W) normalised floats.
        key: Likewise, the positives.
        own_negative: Likewise, one more negative for each row, or None.
        tubelets: What was pasted onto the query clips; None in mode "temporal".
        key_tubelets: The same where it lies on the key clips.
        make_bytes: Makes `clip_1` and `clip_2`, for who wants to see them.
    """

    query: Tensor
    key: Tensor
    own_negative: Tensor | None
    tubelets: Tubelets | None
    key_tubelets: Tubelets | None
    make_bytes: Callable[[], tuple[Tensor, Tensor]]

    @property
    def clip_1(self) -> Tensor:
        """The query clips as uint8, before colour."""
        return self._bytes[0]

    @property
    def clip_2(self) -> Tensor:
        """The key clips likewise."""
        return self._bytes[1]

    def rows(self, chosen: slice) -> tuple[Tensor, Tensor, Tensor | None, Tubelets | None]:
        """What `MoCo.compare` takes, of some rows: query, key and own-negative clips, and the query clips' tubelets."""
        return (
            self.query[chosen],
            self.key[chosen],
            None if self.own_negative is None else self.own_negative[chosen],
            None if self.tubelets is None else self.tubelets[chosen],
        )

    @functools.cached_property
    def _bytes(self) -> tuple[Tensor, Tensor]:
        return self.make_bytes()


class PairViews(nn.Module):
    """Makes the views of a batch on its device; every draw depends on (seed, epoch, sample id) alone."""

    def __init__(self, contrast: ContrastConfig, tubelets: TubeletConfig, color: ColorConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = contrast
        self.paths = TubeletSampler(tubelets, seed=seed)
        self.other_paths = TubeletSampler(tubelets, seed=seed ^ _RESAMPLING_SEED)
        # Places of tubelets that stand still are uniform over the frame, as offsets shall be.
        places = dataclasses.replace(tubelets, motion="static", inside=False)
        self.places = TubeletSampler(places, seed=seed ^ _OFFSET_SEED)
        self.color = ColorJitterNormalize(color, seed=seed)
        self._kept: list[Tensor] | None = None  # fresh memory would cost more than what is written to it

    @torch.no_grad()
    def forward(self, batch: PairBatch | BankBatch) -> Views:
        """Views of a batch whose tensors lie on the device of choice; they last until the next call."""
        return self._in_one_pass(batch) if self._is_plain() else self._step_by_step(batch)

    def _is_plain(self) -> bool:
        """Whether both clips of a pair get the same, from the first of them, and nothing else is made."""
        config = self.config
        apart = config.patches == "per_clip" or config.shared_patches > 1 or config.path_offset
        plain = config.own_negatives == "none" and not (config.mode == "tubelet" and apart)
        return plain and isinstance(self.color, ColorJitterNormalize)

    def _in_one_pass(self, batch: PairBatch | BankBatch) -> Views:
        """From bytes to network input: window, tubelets, colours, all in one operator."""
        show = batch.to_show()
        num_pairs, num_frames, side = show.shape
        clips = [clip[:, :, :1].expand_as(clip) for clip in show.clips] if self.config.still_background else show.clips
        tubelets: Tubelets | None = None
        fields: list[Tensor] = []
        if self.config.mode == "tubelet":
            tubelets = self._draw(self.paths, batch, (num_frames, side, side))
            fields = list(tubelets.tensors().values())
        colors = [in_turns(self.color.factors(batch.sample_ids, epoch=batch.epoch, which=which)) for which in (0, 1)]
        shape = (num_pairs, num_frames, side, side, 3)
        if self._kept is None or self._kept[0].shape != shape or self._kept[0].device != clips[0].device:
            self._kept = [clips[0].new_empty(shape, dtype=self.color.dtype) for _ in range(2)]
        query, key = (clip.permute(0, 4, 1, 2, 3) for clip in self._kept)
        normalization = self.color.normalization
        augment_clips_(
            [query, key],
            clips,
            show.windows,
            show.flips,
            torch.stack(colors, 1),
            (*normalization.mean, *normalization.std),
            fields,
            () if tubelets is None else tubelets.max_patch_size,
        )
        return Views(query, key, None, tubelets, tubelets, lambda: self._in_bytes(batch)[:2])

    def _step_by_step(self, batch: PairBatch | BankBatch) -> Views:
        """The same, and what the operator has no arguments for."""
        clip_1, clip_2, own, tubelets, key_tubelets = self._in_bytes(batch)

        def colored(clip: Tensor, which: int) -> Tensor:
            jittered: Tensor = self.color(clip, batch.sample_ids, epoch=batch.epoch, which=which)
            return jittered

        return Views(
            query=colored(clip_1, 0),
            key=colored(clip_2, 1),
            # Its colours are the key's, so that they give nothing away.
            own_negative=None if own is None else colored(own, 1),
            tubelets=tubelets,
            key_tubelets=key_tubelets,
            make_bytes=lambda: (clip_1, clip_2),
        )

    @torch.no_grad()
    def _in_bytes(
        self, batch: PairBatch | BankBatch
    ) -> tuple[Tensor, Tensor, Tensor | None, Tubelets | None, Tubelets | None]:
        """Query, key and own negatives before colour, and the tubelets on the first two."""
        clip_1, clip_2 = batch.clip_1, batch.clip_2
        if self.config.still_background:
            clip_1, clip_2 = freeze(clip_1), freeze(clip_2)
        if self.config.mode == "temporal":
            own = clip_2.flip(2) if self.config.own_negatives == "reversed" else None
            return clip_1, clip_2, own, None, None
        tubelets, patches = self._tubelets(batch, clip_1)
        offsets = self._offsets(batch, clip_2)
        query, key, own = self._paste(tubelets, patches, batch, clip_1, clip_2, offsets)
        return query, key, own, tubelets, tubelets if offsets is None else _moved_by(tubelets, offsets[:, 0])

    def _tubelets(self, batch: PairBatch | BankBatch, clip: Tensor) -> tuple[Tubelets, Tensor]:
        """The tubelets of the rows, and their patches."""
        tubelets, size = self._draw(self.paths, batch, clip.shape[2:]), self.config.shared_patches
        if size == 1:
            return tubelets, tubelets.crop(clip)
        leaders = self._leaders(batch, clip)
        patches = leaders.crop(clip[::size]).repeat_interleave(size, 0)[: len(clip)]
        return self._in_groups(tubelets, leaders), patches

    def _leaders(self, batch: PairBatch | BankBatch, clip: Tensor) -> Tubelets:
        """Those of the first row of each group."""
        size = self.config.shared_patches
        return self._draw(self.paths, dataclasses.replace(batch, sample_ids=batch.sample_ids[::size]), clip.shape[2:])

    def _in_groups(self, tubelets: Tubelets, leaders: Tubelets) -> Tubelets:
        """Each row's motion, and of its group's leader everything else."""
        size, rows = self.config.shared_patches, tubelets.batch_size
        shared = {name: field.repeat_interleave(size, 0)[:rows] for name, field in leaders.tensors().items()}
        centers = tubelets.centers
        if self.config.shared_place:
            centers = centers - centers[:, :, :1] + shared["centers"][:, :, :1]
        own: dict[str, Any] = shared | {"centers": centers, "linear": tubelets.linear}
        return dataclasses.replace(tubelets, **own)

    def _paste(
        self,
        tubelets: Tubelets,
        patches: Tensor,
        batch: PairBatch | BankBatch,
        plain_1: Tensor,
        plain_2: Tensor,
        offsets: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Query, key, and own negatives where they are wanted."""
        key_patches = tubelets.crop(plain_2) if self.config.patches == "per_clip" else patches
        if offsets is None and key_patches is patches:
            query, key = tubelets.paste([plain_1, plain_2], patches)  # in one pass
        else:
            (query,) = tubelets.paste([plain_1], patches)
            (key,) = tubelets.paste([plain_2], key_patches, offsets)
        if self.config.own_negatives == "none":
            return query, key, None
        (own,) = self._moved(tubelets, batch, plain_1).paste([plain_2], key_patches, offsets)
        return query, key, own

    def _moved(self, tubelets: Tubelets, batch: PairBatch | BankBatch, clip: Tensor) -> Tubelets:
        """The same patches in another motion."""
        if self.config.own_negatives == "reversed":
            return tubelets.reversed()
        other = self._draw(self.other_paths, batch, clip.shape[2:])
        if self.config.own_negatives == "turned":
            return dataclasses.replace(tubelets, linear=other.linear)
        if self.config.shared_place:
            other = self._in_groups(other, self._leaders(batch, clip))
        return dataclasses.replace(tubelets, centers=other.centers, linear=other.linear)

    def _offsets(self, batch: PairBatch | BankBatch, clip: Tensor) -> Tensor | None:
        """Where the key clip's paths are moved to, (B, 1, M, 2) pixels: all tubelets of a clip alike."""
        if not self.config.path_offset:
            return None
        places = self._draw(self.places, batch, clip.shape[2:]).centers[:, :1, 0]
        height, width = clip.shape[-2:]
        # Numbers of the host as operands, not as a tensor, for which a GPU would have to wait.
        offset = self.config.path_offset * torch.stack((2 * places[..., 0] - width, 2 * places[..., 1] - height), -1)
        return offset[:, None].expand(-1, 1, self.paths.config.num_tubelets, 2).contiguous()

    @staticmethod
    def _draw(sampler: TubeletSampler, batch: PairBatch | BankBatch, shape: Sequence[int]) -> Tubelets:
        """For frames (T, H, W)."""
        num_frames, height, width = shape
        return sampler(batch.sample_ids, num_frames=num_frames, height=height, width=width, epoch=batch.epoch)


def _moved_by(tubelets: Tubelets, offset: Tensor) -> Tubelets:
    """Tubelets whose paths are moved by (B, M, 2) pixels."""
    return dataclasses.replace(tubelets, centers=tubelets.centers + offset[:, :, None])
