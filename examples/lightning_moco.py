"""Tubelet contrast in Lightning: pairs are made on the device. Run: python examples/lightning_moco.py [toy]."""

import copy
import sys

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tubeletx import QueueInfoNCE, TubeletConfig, TubeletPair


class Clips(Dataset):
    """Two clips of different videos a sample, uint8 (C, T, H, W); here noise, in earnest decoded frames."""

    def __init__(self, count: int, side: int) -> None:
        self.videos = torch.randint(256, (count, 3, 8, side, side), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        return {"clip_1": self.videos[index], "clip_2": self.videos[index - 1], "sample_ids": index}


class TubeletMoCo(lightning.LightningModule):
    """Momentum contrast between the two clips of a pair."""

    def __init__(self, dim: int = 64, queue: int = 1024) -> None:
        super().__init__()
        self.pair = TubeletPair(TubeletConfig.preset("paper"), seed=0, inplace=True)
        self.query_encoder = nn.Sequential(
            nn.Conv3d(3, 16, (3, 7, 7), stride=(1, 4, 4)),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(16, dim),
        )
        self.key_encoder = copy.deepcopy(self.query_encoder).requires_grad_(False)
        self.contrast = QueueInfoNCE(dim=dim, size=queue, temperature=0.2)
        self.losses: list[float] = []

    def on_after_batch_transfer(self, batch: dict[str, Tensor], _dataloader_idx: int) -> tuple[Tensor, ...]:
        """Frames of the data set into positive pairs, on the device."""
        *clips, _ = self.pair(**batch, epoch=self.current_epoch)
        return tuple(clip / 127.5 - 1 for clip in clips)

    def training_step(self, batch: tuple[Tensor, ...]) -> Tensor:
        """One step; the keys join the queue."""
        with torch.no_grad():
            for key, query in zip(self.key_encoder.parameters(), self.query_encoder.parameters(), strict=True):
                key.lerp_(query, 0.01)
            keys = self.key_encoder(batch[1])
        losses, rank = self.contrast(self.query_encoder(batch[0]), keys)
        self.contrast.enqueue(keys)
        self.log("top-1", (rank == 0).float().mean(), prog_bar=True)
        self.losses.append(losses.mean().item())
        return losses.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, for the sake of a short example."""
        return torch.optim.Adam(self.query_encoder.parameters(), lr=1e-3)


def main(toy: bool) -> list[float]:
    """Trains for two epochs and returns the losses of the steps."""
    torch.manual_seed(0)
    model = TubeletMoCo(queue=64 if toy else 4096)  # random at first: the loss rises until real keys fill it
    loader = DataLoader(Clips(*((8, 32) if toy else (256, 112))), batch_size=4 if toy else 32, shuffle=True)
    lightning.Trainer(max_epochs=2, logger=False, enable_checkpointing=False).fit(model, loader)
    print(f"{len(model.losses)} steps, loss {model.losses[0]:.3f} -> {model.losses[-1]:.3f}")
    return model.losses


if __name__ == "__main__":
    main(toy="toy" in sys.argv[1:])
