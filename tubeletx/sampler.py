"""Draws tubelets for a batch of samples."""

from __future__ import annotations

from torch import Tensor

from tubeletx.config import TubeletConfig
from tubeletx.ops._arguments import require_integer
from tubeletx.ops.sample_tubelets import sample_tubelets
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
        """
        self.config = TubeletConfig() if config is None else config
        self.seed = require_integer(seed, "seed")
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
        fields = sample_tubelets(
            sample_ids,
            self._settings,
            num_frames=num_frames,
            height=height,
            width=width,
            seed=self.seed,
            epoch=epoch,
        )
        return Tubelets(*fields, height, width, self.config.max_patch_size(height, width))

    def __repr__(self) -> str:
        return f"TubeletSampler({self.config!r}, seed={self.seed})"
