"""What tells the classes of a rendered set: pixels without motion, the same in order, and networks trained on them.

    tubeletx-train render gym --output gym/ --size 64 --clips_per_class 48
    python benchmarks/rendered_controls.py gym/manifest.csv [--epochs 60] [--device cuda]

The controls are linear classifiers on grey levels; "two" are pairs of classes that differ in the way alone, which no
frames without their order can tell. Both splits hold cameras, speeds and colours never trained on, the second
another motion as well. With --epochs a small network is trained with the labels, on the frames in order, which is the
ceiling, and on the same frames shuffled.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from harness import write_result
from torch import Tensor, nn
from tqdm import trange

from tubeletx_train.data import DataConfig
from tubeletx_train.evaluation.controls import read_out_controls
from tubeletx_train.evaluation.labelled import LabelledClips, read_labelled
from tubeletx_train.rendered.gym.classes import WAYS
from tubeletx_train.rendered.manipulate.classes import OPPOSITES
from tubeletx_train.rendered.splits import OTHER_MOTION, TEST, TRAIN

PAIRS = {"gym": WAYS, "manipulate": OPPOSITES}
BATCH_SIZE = 32
LARGEST_SHIFT = 4  # pixels of 32, in training
LARGEST_DELAY = 2  # frames, likewise


def controls(videos: LabelledClips, pairs: tuple[tuple[str, str], ...]) -> dict[str, dict[str, float]]:
    """Percent right of all classes, and of one of two, by control."""
    found: dict[str, dict[str, float]] = {"percent of all": {}, "percent of two": {}}
    for name, readout in read_out_controls(videos, pairs).items():
        found["percent of all"][name] = 100 * readout.linear
        found["percent of two"][name] = 100 * float(np.mean(list(readout.pairs.values())))
    return found


def moving_parts(clips: Tensor) -> Tensor:
    """(N, 3, T, S, S) uint8 to (N, 1, T, S, S): grey levels less their mean over time, of one spread in every clip."""
    grey = clips.float().mean(1, keepdim=True)
    grey = grey - grey.mean(2, keepdim=True)
    return grey / grey.std((2, 3, 4), keepdim=True)


def small_network(num_classes: int) -> nn.Sequential:
    """A convolutional network in space and time that keeps the order of eight stretches of time to the end."""

    def stage(inputs: int, outputs: int, kernel: int, stride: tuple[int, int, int]) -> list[nn.Module]:
        conv = nn.Conv3d(inputs, outputs, (3, kernel, kernel), stride, (1, kernel // 2, kernel // 2), bias=False)
        return [conv, nn.BatchNorm3d(outputs), nn.ReLU()]

    return nn.Sequential(
        *stage(1, 16, 5, (1, 2, 2)),
        *stage(16, 32, 3, (1, 2, 2)),
        *stage(32, 64, 3, (1, 2, 2)),
        *stage(64, 64, 3, (2, 1, 1)),
        nn.AdaptiveAvgPool3d((8, 1, 1)),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(8 * 64, num_classes),
    )


def ceiling(videos: LabelledClips, epochs: int, device: str, *, shuffled: bool) -> dict[str, float]:
    """Percent right of a small network that is trained with the labels, by split.

    Args:
        videos: The set.
        epochs: Passes over the training split.
        device: That it is trained on.
        shuffled: Whether frames come in an order drawn anew for each clip each time, in training and test.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    clips, labels = moving_parts(videos.clips[:, 0]).to(device), videos.labels.to(device)
    splits = {name: torch.tensor([own == name for own in videos.splits]) for name in (TRAIN, TEST, OTHER_MOTION)}
    frames = clips.shape[2]

    def seen(rows: Tensor, training: bool) -> Tensor:
        chosen = clips[rows]
        if training:
            rows_columns = torch.randint(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (2,), generator=generator).tolist()
            delay = int(torch.randint(-LARGEST_DELAY, LARGEST_DELAY + 1, (), generator=generator))
            chosen = chosen.roll((delay, *rows_columns), (2, 3, 4))
        if shuffled:
            order = torch.rand(len(chosen), frames, generator=generator).argsort(1).to(device)
            chosen = chosen.gather(2, order[:, None, :, None, None].expand_as(chosen))
        return chosen

    net = small_network(len(videos.names)).to(device)
    fit = splits[TRAIN].nonzero()[:, 0]
    steps = len(fit) // BATCH_SIZE
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=epochs * steps)
    for _ in trange(epochs, desc="network", unit="epoch"):
        net.train()
        for rows in fit[torch.randperm(len(fit), generator=generator)][: steps * BATCH_SIZE].split(BATCH_SIZE):
            loss = F.cross_entropy(net(seen(rows, True)), labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()
    percent = {}
    with torch.no_grad():
        for split in (TEST, OTHER_MOTION):
            rows = splits[split].nonzero()[:, 0]
            predicted = torch.cat([net(seen(some, False)).argmax(1) for some in rows.split(BATCH_SIZE)])
            percent[split] = 100 * (predicted == labels[rows]).float().mean().item()
    return percent


def measure(manifest: str, epochs: int, device: str) -> Iterator[dict[str, object]]:
    """What is known of a set after each step."""
    settings = json.loads(Path(manifest).with_name("settings.json").read_text(encoding="utf-8"))
    num_frames, size = settings["num_frames"], settings["size"]
    data = DataConfig(videos=manifest, num_frames=num_frames, strides=(1,), crop_size=32, decode_size=None)
    videos, unreadable = read_labelled(manifest, data, clips=1)
    if unreadable:
        raise SystemExit(f"cannot be read: {unreadable[0]}")
    found: dict[str, object] = {
        "set": settings["set"],
        "videos": len(videos.clips),
        "videos tested by": videos.splits.count(TEST),
        "frames": num_frames,
        "size": size,
        "classes": len(videos.names),
        "chance, percent": 100 / len(videos.names),
        **controls(videos, PAIRS[settings["set"]]),
    }
    yield found
    if epochs:
        networks: dict[str, float] = {}
        for what in ("frames in order", "shuffled frames"):
            for split, percent in ceiling(videos, epochs, device, shuffled=what.startswith("shuffled")).items():
                networks[f"{what}, {split}"] = percent
            yield {**found, "percent of all, by a network": networks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", help="of sets that `tubeletx-train render` made")
    parser.add_argument("--epochs", type=int, default=0, help="that the networks are trained for; 0 leaves them out")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for manifest in options.manifests:
        for found in measure(manifest, options.epochs, options.device):
            path = write_result(f"rendered_controls_{found['set']}", found)
        print(json.dumps(found, indent=1))
        print(path)


if __name__ == "__main__":
    main()
