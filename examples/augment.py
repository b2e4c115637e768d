"""Videos of any sizes to batches of network input: workers decode, one operator does all the rest, a batch at a time.

The batches come in memory that is kept: fresh shared memory for each would cost more than the augmentation. Windows,
mirroring, tubelets and colours depend on the seed, the sample's index and the epoch alone, so that any number of
workers gives the same pixels. Run: python examples/augment.py FOLDER_OF_VIDEOS [toy]
"""

import functools
import pathlib
import sys
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tubeletx import AugmentClips, AugmentConfig, KeptMemoryLoader, TubeletConfig


class Videos(Dataset):
    """The first frames of each video as they are, (T, H, W, 3) bytes, repeated where there are too few."""

    def __init__(self, folder: pathlib.Path, num_frames: int) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix in {".avi", ".mkv", ".mp4", ".webm"})
        self.num_frames = num_frames

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        frames: list[Any] = []
        with av.open(str(self.paths[index])) as container:
            for frame in container.decode(video=0):
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == self.num_frames:
                    break
        if not frames:
            raise ValueError(f"{self.paths[index]}: holds no frame")
        return index, torch.from_numpy(np.stack([frames[t % len(frames)] for t in range(self.num_frames)]))


def pairs(samples: list[tuple[int, Tensor]], augment: AugmentClips, epoch: Tensor) -> Tensor:
    """Collates in a worker: (2, B, 3, T, S, S), each clip and its neighbour with the same tubelets."""
    ids, clips = zip(*samples, strict=True)
    shape = (2, len(ids), len(clips[0]), *augment.size, 3)
    out = KeptMemoryLoader.empty(shape, augment.dtype).permute(0, 1, 5, 2, 3, 4)
    augment([clips, clips[1:] + clips[:1]], torch.tensor(ids), epoch, out=[*out])
    return out


def main(folder: pathlib.Path, toy: bool) -> Tensor:
    """Reads two epochs with 0 and with 2 workers, compares them, and returns the last query clips."""
    size, num_frames = (32, 4) if toy else (112, 16)
    config, tubelets = AugmentConfig(area=(0.3, 1)), TubeletConfig.preset("paper")
    augment = AugmentClips(size, config, tubelets=tubelets, seed=0, dtype=torch.bfloat16, layout="BTHWC")
    epoch = torch.tensor(0).share_memory_()  # running workers see it change
    options = {"batch_size": 4, "collate_fn": functools.partial(pairs, augment=augment, epoch=epoch)}
    videos = Videos(folder, num_frames)
    # Not by a fork of this process, which would wait for ever for threads that PyAV keeps for scaling.
    workers = {"num_workers": 2, "multiprocessing_context": "forkserver"}
    loaders = KeptMemoryLoader(videos, **options), KeptMemoryLoader(videos, **workers, **options)
    for number in range(2):
        epoch.fill_(number)
        for alone, (query, key) in zip(*loaders, strict=True):
            if not torch.equal(alone, torch.stack([query, key])):
                raise RuntimeError("workers changed the pixels")
            print(f"epoch {number}: {tuple(query.shape)} and {tuple(key.shape)}, {query.dtype}, 0 and 2 workers agree")
    return query


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), toy="toy" in sys.argv[2:])
