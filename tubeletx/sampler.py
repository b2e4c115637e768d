"""Draws tubelets for a batch of samples."""

from __future__ import annotations

from torch import Tensor

from tubeletx.config import TubeletConfig
from tubeletx.objects import ObjectPatches
from tubeletx.ops._arguments import require_seed
from tubeletx.ops.paste_objects import paste_objects_
from tubeletx.ops.sample_and_paste import sample_and_paste_packed_
from tubeletx.ops.sample_tubelets import sample_packed
from tubeletx.tubelets import Tubelets

__all__ = ["TubeletSampler"]


class TubeletSampler:
    """Draws the tubelets of each sample from (seed, sample id, epoch) and nothing else.

    Batch size, position in the batch, device, workers and ranks make no difference, so that a resumed or differently
    distributed run sees the same tubelets.

    Attributes:
        config: The law that they are drawn from.
        seed: Another seed draws other tubelets.
    """

    def __init__(self, config: TubeletConfig | None = None, seed: int = 0) -> None:
        """Makes a sampler.

        Args:
            config: The law; None is `TubeletConfig.preset("paper")`.
            seed: Any 64-bit integer, signed or not.

        Raises:
            TypeError: `config` is no `TubeletConfig`, or `seed` no integer.
            ValueError: `seed` has more than 64 bits.
        """
        self.config = TubeletConfig() if config is None else config
        if not isinstance(self.config, TubeletConfig):
            raise TypeError(
                f'config: got {config!r}, needs a TubeletConfig, such as TubeletConfig.preset("paper"), or None'
            )
        self.seed = require_seed(seed)
        self._settings = self.config.settings()

    def __call__(
        self, sample_ids: Tensor, *, num_frames: int, height: int, width: int, epoch: int | Tensor = 0
    ) -> Tubelets:
        """Draws `config.num_tubelets` tubelets for each sample.

        Args:
            sample_ids: What tells the samples apart: any integers, such as their indices in the data set; (B,) int64.
            num_frames: T of the clips.
            height: H of the clips, pixels.
            width: W of the clips, pixels.
            epoch: From 0 to 2^32 - 1; another epoch draws other tubelets for the same sample. A tensor of one such
                integer, int64, keeps a compiled or captured caller as it is when the epoch changes.

        Returns:
            The tubelets, on the device of `sample_ids`.

        Raises:
            ValueError: An argument is out of range; the message names it.
            TypeError: An argument is no integer.
        """
        packed = sample_packed(sample_ids, self._settings, num_frames, height, width, self.seed, epoch)
        return Tubelets.from_packed(packed, height, width, self.config.max_patch_size(height, width))

    def paste_crops(self, clips: list[Tensor], sample_ids: Tensor, *, epoch: int | Tensor = 0) -> Tubelets:
        """Draws the tubelets of each sample and pastes them onto its clips in place, patches cropped from the first.

        What drawing, `Tubelets.crop` and `Tubelets.paste` do one after the other, in one call.

        Args:
            clips: V clips of (B, C, T, H, W), of equal shape; uint8.
            sample_ids: What tells the samples apart; (B,) int64.
            epoch: As for drawing.

        Returns:
            The tubelets.

        Raises:
            ValueError: An argument has another shape, dtype or device than the above; the message names it.
            TypeError: An argument has another type.
        """
        height, width = clips[0].shape[-2:]
        largest = self.config.max_patch_size(height, width)
        packed = sample_and_paste_packed_(clips, sample_ids, self._settings, largest, self.seed, epoch)
        return Tubelets.from_packed(packed, height, width, largest)

    def paste_objects(
        self, clips: list[Tensor], sample_ids: Tensor, objects: ObjectPatches, *, epoch: int | Tensor = 0
    ) -> None:
        """Draws the tubelets of each sample and an object for each, and pastes these onto its clips in place.

        What drawing, `ObjectPatches.draw` and `Tubelets.paste` do one after the other, in one call.

        Args:
            clips: V clips of (B, 3, T, H, W), of equal shape; uint8.
            sample_ids: What tells the samples apart; (B,) int64.
            objects: On the device of the clips.
            epoch: As for drawing.

        Raises:
            ValueError: An argument has another shape, dtype or device than the above; the message names it.
            TypeError: An argument has another type.
        """
        paste_objects_(clips, sample_ids, self._settings, *objects.images, seed=self.seed, epoch=epoch)

    def __repr__(self) -> str:
        return f"TubeletSampler({self.config!r}, seed={self.seed})"
