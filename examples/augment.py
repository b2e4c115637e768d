"""Videos of any sizes to a batch of network input: workers decode, one operator does all the rest.

Windows, mirroring, tubelets and colours depend on the seed, the sample's index and the epoch alone, so that a batch in
another order, or of another size, holds the same clips. Run: python examples/augment.py FOLDER_OF_VIDEOS [toy]
"""

import pathlib
import sys
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tubeletx import AugmentClips, AugmentConfig, TubeletConfig


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


def lists(samples: list[tuple[int, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """Clips of several sizes make no tensor."""
    return torch.tensor([index for index, _ in samples]), [clip for _, clip in samples]


def main(folder: pathlib.Path, toy: bool) -> Tensor:
    """Makes pairs of each two neighbours for two epochs, in two orders; returns the last query clips."""
    size, num_frames = (32, 4) if toy else (112, 16)
    augment = AugmentClips(
        size,
        AugmentConfig(area=(0.3, 1)),
        tubelets=TubeletConfig.preset("paper"),
        seed=0,
        dtype=torch.bfloat16,
        layout="BTHWC",
    )
    loader = DataLoader(Videos(folder, num_frames), batch_size=4, num_workers=1, collate_fn=lists)
    for epoch in range(2):
        for ids, clips in loader:
            partners = clips[1:] + clips[:1]
            (query, key), drawn = augment([clips, partners], ids, epoch)
            (backwards, _), _ = augment([clips[::-1], partners[::-1]], ids.flip(0), epoch)
            if not torch.equal(backwards.flip(0), query):
                raise RuntimeError("the order of the batch changed the pixels")
            shown = drawn.windows[:, 0].tolist()
            print(f"epoch {epoch}: {tuple(query.shape)} and {tuple(key.shape)}, {query.dtype}; windows {shown}")
    return query


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), toy="toy" in sys.argv[2:])
