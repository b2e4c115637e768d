"""Tubelets pasted onto one or more clips: of one sample in a loader worker, or of a batch on the device."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tubeletx._layout import axes_of, check_layout, is_bytes
from tubeletx.config import TubeletConfig
from tubeletx.objects import ObjectPatches
from tubeletx.ops._arguments import check_epoch, require_integer
from tubeletx.sampler import TubeletSampler

__all__ = ["PasteTubelets"]


class _SampleIds(threading.local):
    """The ids that `PasteTubelets.samples` names, to each thread its own; a copy or another process has none yet."""

    current: Any = None

    def __reduce__(self) -> tuple[type[_SampleIds], tuple[()]]:
        return _SampleIds, ()


class PasteTubelets(nn.Module):
    """Pastes moving patches onto clips, as a step of a data pipeline.

    One sample or a batch, NumPy array or tensor, in a loader worker or on the device: the tubelets of a sample depend
    on (seed, sample id, epoch) alone, so that all of these give the same pixels. Sample ids reach the module in one of
    three ways, whichever the pipeline offers:

    - as an argument: `paste(clips, sample_ids)`, as in Lightning's `on_after_batch_transfer`;
    - in a sample or batch that is a mapping: `paste({"video": ..., "sample_id": ...})`, as in
      `torchvision.transforms.v2.Compose` or a `Dataset`;
    - around containers that hand on a single tensor, such as `nn.Sequential` or kornia's `VideoSequential`:
      `with paste.samples(sample_ids): pipeline(clips)`.

    The epoch is an argument as well, or is set for all later calls by `set_epoch`, which the workers of a running
    `DataLoader` see too (also with `persistent_workers`).

    Example:
        >>> paste = PasteTubelets(TubeletConfig.preset("smile"), seed=0)
        >>> frames = paste(frames, sample_ids=index)  # uint8 (T, H, W, C), in a worker, in place
        >>> clips = paste(clips, sample_ids)  # (B, C, T, H, W), on the device, in place

    The tubelets themselves, for a loss or a mask, are `paste.sampler(sample_ids, num_frames=T, height=H, width=W,
    epoch=epoch)`; drawing them again costs microseconds.
    """

    def __init__(
        self,
        config: TubeletConfig | None = None,
        seed: int = 0,
        patches: ObjectPatches | None = None,
        *,
        layout: str | None = None,
        inplace: bool = True,
        video_key: str = "video",
        id_key: str = "sample_id",
    ) -> None:
        """Makes the module.

        Args:
            config: The law of the tubelets; None is `TubeletConfig.preset("paper")`.
            seed: Any 64-bit integer, signed or not.
            patches: Objects to paste onto clips of three channels; None crops the patches from the (first) clip.
            layout: Axes of the clips: an order of the letters BCTHW, such as "BTCHW", without B for single samples, or
                "(BT)CHW", which is how kornia's `VideoSequential` calls its children. None is "BCTHW" for five axes
                and "THWC" for four, where that gives uint8 clips 1 to 4 channels; other uint8 clips need a layout.
            inplace: Whether to write into the given clips instead of copies.
            video_key: Where a mapping holds the clips: one, or a list of some.
            id_key: Where a mapping holds the sample id, or ids.

        Raises:
            ValueError: `layout` is none of the above.
        """
        super().__init__()
        check_layout(layout)
        self.sampler = TubeletSampler(config, seed)
        self.patches = patches
        self.layout = layout
        self.inplace = inplace
        self.video_key = video_key
        self.id_key = id_key
        self._sample_ids = _SampleIds()
        # Shared with loader workers, which live through several epochs where they are persistent.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        """What `set_epoch` set, 0 at first."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of all calls that name none, here and in loader workers.

        Args:
            epoch: From 0 to 2^32 - 1.

        Raises:
            ValueError: It lies outside of these.
            TypeError: It is no integer.
        """
        epoch = require_integer(epoch, "epoch")
        check_epoch(epoch)
        self._epoch.fill_(epoch)

    @contextlib.contextmanager
    def samples(self, sample_ids: int | Sequence[int] | Tensor) -> Iterator[None]:
        """Within this context, calls in this thread that name no samples are for these.

        Args:
            sample_ids: As for `forward`.
        """
        before, self._sample_ids.current = self._sample_ids.current, sample_ids
        try:
            yield
        finally:
            self._sample_ids.current = before

    def forward(
        self, clips: Any, sample_ids: int | Sequence[int] | Tensor | None = None, epoch: int | Tensor | None = None
    ) -> Any:
        """Pastes the tubelets of each sample.

        Args:
            clips: Axes as `layout` says: a NumPy array or a tensor of one sample, (T, H, W, C), or of a batch,
                (B, C, T, H, W); uint8 (0 to 255), or float16, bfloat16, float32, float64 (objects then have colours
                from 0 to 1). A list or tuple of V such clips gets the same tubelets, with patches of the first. A
                mapping holds one of these, and the sample ids.
            sample_ids: What tells the samples apart, such as their indices in the data set: an integer for one sample,
                or (B,) integers.
            epoch: From 0 to 2^32 - 1, or a tensor of one such integer; another epoch draws other tubelets for the same
                sample. None is that of `set_epoch`.

        Returns:
            What came in: with `inplace` the same object, or objects in a list, the tubelets on it; a mapping is copied,
            its clips are not.

        Raises:
            ValueError: No sample id came, the clips cannot be written, or an argument has another shape, dtype or
                device than the above; the message names it.
        """
        if isinstance(clips, Mapping):
            return self._forward_mapping(clips, sample_ids, epoch)
        given = list(clips) if isinstance(clips, list | tuple) else [clips]
        if not given:
            raise ValueError("clips: got an empty list, needs at least one clip")
        ids = self._ids(sample_ids)
        batch = ids.shape[0]
        sources = [_shared(clip, self.inplace) for clip in given]
        if not self.inplace and is_bytes(sources[0]):
            given = sources = [clip.clone() if isinstance(clip, Tensor) else clip.copy() for clip in sources]
        axes = axes_of(sources[0], self.layout, batch)
        if axes.batch != batch:
            raise ValueError(f"sample_ids: got {batch}, needs one for each of {axes.batch} samples")
        views = [axes.arrange(clip) for clip in sources]
        pasted = self._paste(views, ids.to(views[0].device), self._epoch if epoch is None else epoch)
        if pasted is not views:
            restored = [axes.restore(clip) for clip in pasted]
            given = [
                new.numpy() if isinstance(clip, np.ndarray) else new for new, clip in zip(restored, given, strict=True)
            ]
        return given if isinstance(clips, list | tuple) else given[0]

    def extra_repr(self) -> str:
        """The settings, for `print`."""
        return f"{self.sampler!r}, layout={self.layout!r}, inplace={self.inplace}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._epoch.share_memory_()

    def _forward_mapping(
        self, sample: Mapping[str, Any], sample_ids: Any, epoch: int | Tensor | None
    ) -> dict[str, Any]:
        if self.video_key not in sample:
            raise ValueError(f"clips: got a mapping with the keys {sorted(map(str, sample))}, needs {self.video_key!r}")
        ids = sample.get(self.id_key) if sample_ids is None else sample_ids
        return {**sample, self.video_key: self.forward(sample[self.video_key], ids, epoch)}

    def _ids(self, sample_ids: Any) -> Tensor:
        if sample_ids is None:
            sample_ids = self._sample_ids.current
        if sample_ids is None:
            worker = torch.utils.data.get_worker_info()
            where = "" if worker is None else f" in loader worker {worker.id}"
            raise ValueError(
                f"sample_ids: got none{where}, needs the sample's id (such as its index in the data set), which "
                f"decides the tubelets: pass it to the call, put it into the sample as {self.id_key!r}, or call within "
                "`with paste.samples(ids):`"
            )
        try:
            if type(sample_ids) is int:
                return torch.full((1,), sample_ids, dtype=torch.int64)
            ids = sample_ids if isinstance(sample_ids, Tensor) else torch.as_tensor(sample_ids)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise ValueError(f"sample_ids: got {sample_ids!r}, needs integers of 64 bits with a sign") from error
        if ids.dtype == torch.int64:
            return ids.reshape(-1)
        if ids.numel() and (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool):
            raise ValueError(f"sample_ids: got {ids.dtype}, needs integers")
        if ids.dtype == torch.uint64 and (ids.to(torch.int64) < 0).any():
            raise ValueError("sample_ids: got integers beyond 2^63 - 1, needs integers of 64 bits with a sign")
        return ids.reshape(-1).to(torch.int64)

    def _paste(self, clips: list[Tensor], ids: Tensor, epoch: int | Tensor) -> list[Tensor]:
        first = clips[0]
        if self.patches is not None and first.shape[1] != 3:
            # With four channels the objects' alpha would pass for a fourth colour.
            raise ValueError(f"clips: got {first.shape[1]} channels, needs 3 where objects are pasted")
        if first.dtype == torch.uint8:
            if self.patches is None:
                self.sampler.paste_crops(clips, ids, epoch=epoch)
            else:
                self.sampler.paste_objects(clips, ids, self.patches, epoch=epoch)
            return clips
        num_frames, height, width = first.shape[2:]
        tubelets = self.sampler(ids, num_frames=num_frames, height=height, width=width, epoch=epoch)
        if self.patches is None:
            patches: Tensor = tubelets.crop(first)
        else:
            patches, tubelets = self.patches.draw(tubelets, ids, seed=self.sampler.seed, epoch=epoch)
            patches = patches.to(first.dtype) / 255
        return tubelets.paste(clips, patches, inplace=self.inplace)


_DTYPES = "Befd"  # NumPy's letters of uint8 and of floats


def _shared(clip: Any, inplace: bool) -> Any:
    """A clip whose memory torch can share: itself, or a copy where that is neither possible nor needed."""
    if isinstance(clip, Tensor):
        return clip
    if not isinstance(clip, np.ndarray):
        raise TypeError(f"clips: got {type(clip).__name__}, needs a tensor, a NumPy array, a list of them or a mapping")
    dtype = clip.dtype
    if dtype.char not in _DTYPES or not dtype.isnative:
        raise ValueError(
            f"clips: got dtype {dtype.str}, needs uint8, float16, float32 or float64 in this machine's byte order"
        )
    if not clip.flags.writeable:
        reason = "a read-only array, which cannot be pasted onto in place"
    elif min(clip.strides, default=0) < 0:
        reason = "an array with a negative stride, such as a flipped one"
    elif dtype.itemsize > 1 and any(stride % dtype.itemsize for stride in clip.strides):
        reason = "an array whose elements stand at no multiple of their size, such as a field of records"
    else:
        return clip
    if inplace:
        raise ValueError(f"clips: got {reason}; pass a copy()")
    return clip.copy()
