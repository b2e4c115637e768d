"""The data set of pairs that settings ask for: read from videos, or drawn."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.config.data import DataConfig
from tubeletx_train.data.errors import DataError
from tubeletx_train.data.leaves import LeafPairs
from tubeletx_train.data.pairs import Mode, PairDataset
from tubeletx_train.data.record import VideoRecord


def pair_dataset(
    videos: Sequence[VideoRecord], config: DataConfig, *, seed: int = 0, mode: Mode = "tubelet"
) -> PairDataset | LeafPairs:
    """`PairDataset` over the videos, or `LeafPairs` where `config.source` is "leaves".

    Args:
        videos: As `prepare_videos` returned them; none where clips are drawn.
        config: Data settings.
        seed: Seed of every draw, 0 or more.
        mode: "tubelet" takes the two clips from two videos, "temporal" from one, of which drawn ones have none.

    Raises:
        NoUsableVideos, DataError: As `PairDataset` does, and for drawn clips in mode "temporal".
    """
    if config.source == "leaves":
        if mode == "temporal":
            raise DataError('data.source "leaves" needs contrast.mode "tubelet": no two drawn clips are of one video')
        return LeafPairs(config, seed=seed)
    return PairDataset(videos, config, seed=seed, mode=mode)
