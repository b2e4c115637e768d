"""The ceiling of the motion probe: what the same network reaches when it is trained with the labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from tubeletx_train.data import normalize
from tubeletx_train.engine.schedule import cosine_schedule
from tubeletx_train.models import VideoEncoder
from tubeletx_train.pretrain.held_out import embed
from tubeletx_train.pretrain.motions import MOTION_NAMES
from tubeletx_train.pretrain.probe import ProbeTask, paste_motions

_LONGEST_WARMUP = 20  # steps


def supervised_ceiling(
    encoder: VideoEncoder,
    clips: Tensor,
    test: ProbeTask,
    *,
    steps: int,
    batch_size: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
) -> float:
    """Train an encoder and a linear layer on fresh motions over given frames; in place.

    Args:
        encoder: Trained in place, with bfloat16 autocast.
        clips: (N, 3, T, H, W) uint8 plain clips of the videos that may be trained on; each step draws frames and
            patches from them.
        test: What the accuracy is measured on.
        steps: Steps of AdamW with a cosine schedule.
        batch_size: Clips a step.
        lr: Peak learning rate.
        seed: Seed of the draws.

    Returns:
        Accuracy on `test`, as a share.
    """
    device = next(encoder.parameters()).device
    classifier = nn.Linear(encoder.feature_dim, len(MOTION_NAMES)).to(device)
    net = nn.Sequential(encoder, classifier)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-4)
    schedule = cosine_schedule(optimizer, steps, min(_LONGEST_WARMUP, steps // 10))
    generator = torch.Generator().manual_seed(seed)
    net.train()
    for _ in trange(steps, desc="supervised ceiling", unit="step", dynamic_ncols=True):
        labels = torch.randint(len(MOTION_NAMES), (batch_size,), generator=generator)
        background, source = torch.randint(len(clips), (2, batch_size), generator=generator)
        batch = normalize(paste_motions(clips[background], clips[source], labels, generator).to(device))
        with torch.autocast(device.type, torch.bfloat16):
            loss = F.cross_entropy(net(batch), labels.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    predicted = embed(net, test.clips, batch_size).argmax(1)
    return (predicted == test.labels).float().mean().item()
