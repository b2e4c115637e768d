"""Tubelets in the loader's workers, on uint8 frames of real videos, in place.

The workers give what the main process gives, bit for bit, however many there are: what is pasted onto a sample depends
on the seed, its index and the epoch alone. Run: python examples/dataloader.py FOLDER_OF_VIDEOS [toy]
"""

import pathlib
import sys

import av
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tubeletx import PasteTubelets, TubeletConfig


def read_frames(path: pathlib.Path, num_frames: int, side: int) -> npt.NDArray[np.uint8]:
    """The first frames of a video, repeated where it is shorter: (T, H, W, 3)."""
    frames = np.empty((num_frames, side, side, 3), np.uint8)
    count = 0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames[count] = frame.reformat(side, side, "rgb24").to_ndarray()
            count += 1
            if count == num_frames:
                break
    if count == 0:
        raise ValueError(f"{path}: holds no frame")
    frames[count:] = frames[np.arange(num_frames - count) % count]
    return frames


class PastedVideos(Dataset):
    """Clips with tubelets on them, as (T, H, W, 3) uint8: a quarter of what float32 would take through the queue."""

    def __init__(self, folder: pathlib.Path, paste: PasteTubelets, num_frames: int, side: int) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix in {".avi", ".mkv", ".mp4", ".webm"})
        self.paste, self.num_frames, self.side = paste, num_frames, side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        frames = read_frames(self.paths[index], self.num_frames, self.side)
        self.paste(frames, sample_ids=index)  # writes into `frames`
        return torch.from_numpy(frames)  # the collate function stacks straight into shared memory


def main(folder: pathlib.Path, toy: bool) -> Tensor:
    """Reads two epochs with 0 and with 2 workers, compares them, and returns the last."""
    paste = PasteTubelets(TubeletConfig.preset("smile"), seed=0)
    data = PastedVideos(folder, paste, *((4, 32) if toy else (16, 224)))
    # Not by a fork of this process, which would wait for ever for threads that PyAV keeps for scaling.
    workers = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": "forkserver"}
    loaders = DataLoader(data, 4), DataLoader(data, 4, **workers)
    for epoch in range(2):
        paste.set_epoch(epoch)  # reaches the running workers
        alone, shared = (torch.cat(list(loader)) for loader in loaders)
        print(f"epoch {epoch}: {len(alone)} clips, 0 and 2 workers agree: {torch.equal(alone, shared)}")
        if not torch.equal(alone, shared):
            raise RuntimeError("workers changed the pixels")
    return alone.permute(0, 4, 1, 2, 3)  # a view as (B, C, T, H, W), channels last in memory


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), toy="toy" in sys.argv[2:])
