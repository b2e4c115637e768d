"""Masked video modelling with moving objects: Hugging Face's VideoMAE on clips with tubelets, masked where they move.

The `smile` preset and masking rule of SMILE (CVPR 2025): cells that a tubelet touches are hidden, except at one moment,
so that the model has to carry the motion on from there. Run: python examples/videomae.py [toy]
"""

import sys

import torch
from torch import Tensor
from transformers import VideoMAEConfig, VideoMAEForPreTraining

from tubeletx import PasteTubelets, TubeletConfig, Tubelets


def smile_mask(tubelets: Tubelets, cell: tuple[int, int, int], ratio: float, generator: torch.Generator) -> Tensor:
    """Which cells to hide, the same number in each clip: (B, cells), True is hidden."""
    touched = tubelets.coverage(cell, per_tubelet=True) > 0  # (B, M, T', H', W')
    batch, num_tubelets, moments = touched.shape[:3]
    shown = torch.randint(moments, (batch, num_tubelets, 1, 1, 1), generator=generator)
    touched &= torch.arange(moments)[:, None, None] != shown
    wanted = touched.any(1).flatten(1)
    # The ratio decides how many; cells of tubelets come first, chance decides among equals.
    score = wanted + torch.rand(wanted.shape, generator=generator)
    hidden = score.topk(round(ratio * wanted.shape[1]), dim=1).indices
    return torch.zeros_like(wanted).scatter_(1, hidden, True)


def main(toy: bool) -> list[float]:
    """Trains on one batch of noise and returns the losses."""
    torch.manual_seed(0)
    side, patch, width, layers = (32, 8, 32, 1) if toy else (224, 16, 384, 4)
    config = VideoMAEConfig(
        image_size=side,
        patch_size=patch,
        num_frames=8,
        tubelet_size=2,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * width,
        decoder_hidden_size=width,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=4 * width,
    )
    model = VideoMAEForPreTraining(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    paste = PasteTubelets(TubeletConfig.preset("smile"), seed=0, layout="BTCHW")

    clips = torch.randint(256, (2, config.num_frames, 3, side, side), dtype=torch.uint8)  # as VideoMAE wants its axes
    sample_ids = torch.arange(len(clips))
    paste(clips, sample_ids)
    tubelets = paste.sampler(sample_ids, num_frames=config.num_frames, height=side, width=side)
    cell = (config.tubelet_size, patch, patch)
    mask = smile_mask(tubelets, cell, ratio=0.75, generator=torch.Generator().manual_seed(0))

    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = (clips / 255 - mean) / deviation
    losses = []
    for step in range(3):
        loss = model(pixels, bool_masked_pos=mask).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {losses[-1]:.4f}, {mask.float().mean():.0%} of the cells hidden")
    return losses


if __name__ == "__main__":
    main(toy="toy" in sys.argv[1:])
