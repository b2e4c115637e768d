"""The networks that measurements compare, and the retrieval measurement of a checkpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tubeletx.pair import TubeletPair
from tubeletx_train.common.checkpoint import CheckpointError, checkpoint_file, load_checkpoint
from tubeletx_train.common.device import resolve_device
from tubeletx_train.common.files import write_json
from tubeletx_train.common.machine import made_on
from tubeletx_train.common.seeding import seed_everything
from tubeletx_train.config.parse import config_from_tree
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.data import prepare_videos
from tubeletx_train.evaluation.embed import calibrate_batch_norm, held_out_batches
from tubeletx_train.evaluation.pair_retrieval import Retrieval, draw_pair_set, held_out_retrieval
from tubeletx_train.models import EmbeddingNet
from tubeletx_train.models.weights import build_from_settings

_KIND = "a checkpoint of `pretrain`"


@dataclass(frozen=True)
class RetrievalConfig:
    """Settings of a retrieval measurement; clips and tubelets are drawn as the checkpoint's run drew them.

    Attributes:
        checkpoint: A checkpoint of `pretrain`, or the folder of a run, whose newest it then is.
        videos: A manifest or folder of videos that were not trained on.
        split: Keep only the manifest's rows of this split.
        pairs: Clips N searched.
        sets: Sets drawn; their spread is reported.
        seed: Seed of the draws.
        device: "auto", "cpu", "cuda" or "cuda:N".
        num_workers: Decoding processes.
        output: JSON file to write; null writes none.
    """

    checkpoint: str
    videos: str
    split: str | None = None
    pairs: int = 256
    sets: int = 3
    seed: int = 1
    device: str = "auto"
    num_workers: int = 2
    output: str | None = None


def load_pretraining(path: str | Path) -> tuple[PretrainConfig, dict[str, torch.Tensor]]:
    """Configuration and weights of a checkpoint, of a run's folder those of the newest.

    Raises:
        CheckpointError: It cannot be read, or is of something other than a pretraining.
    """
    path = checkpoint_file(path)
    state = load_checkpoint(path, ("config", "model"), _KIND)
    if "contrast" not in state["config"]:
        raise CheckpointError(f"{path}: not {_KIND}")
    return config_from_tree(PretrainConfig, state["config"], str(path)), state["model"]


def untrained_net(config: PretrainConfig, clips: torch.Tensor, device: torch.device | None = None) -> EmbeddingNet:
    """The query network as a run with this configuration begins, a fair baseline of what training brings.

    Args:
        config: Of the run; its seed draws the weights.
        clips: (N, 3, T, H, W) uint8, which batch norm's running statistics are taken from.
        device: Where the network shall live; None is the CPU.
    """
    seed_everything(config.run.seed)
    net = _net(config).to(device or torch.device("cpu"))
    calibrate_batch_norm(net, clips)
    return net


def trained_net(
    config: PretrainConfig, weights: dict[str, torch.Tensor], device: torch.device | None = None
) -> EmbeddingNet:
    """The query network of a checkpoint, see `load_pretraining`."""
    net = _net(config)
    prefix = "query_net."
    net.load_state_dict({name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)})
    return net.to(device or torch.device("cpu"))


def _net(config: PretrainConfig) -> EmbeddingNet:
    return EmbeddingNet(build_from_settings(config.model), config.model.dim)


def evaluate_retrieval(config: RetrievalConfig) -> dict[str, Retrieval]:
    """Retrieval of the "trained" and an "untrained" network on the same sets."""
    trained, weights = load_pretraining(config.checkpoint)
    device = resolve_device(config.device)
    data = dataclasses.replace(trained.data, videos=config.videos, split=config.split, num_workers=config.num_workers)
    videos, _ = prepare_videos(data)
    batch_size = min(64, config.pairs)
    batches = held_out_batches(
        videos,
        data,
        count=config.sets * -(-config.pairs // batch_size) * batch_size,
        batch_size=batch_size,
        seed=config.seed,
    )
    pair = TubeletPair(trained.tubelets, seed=config.seed)
    still = trained.contrast.still_background
    sets = [draw_pair_set(batches, pair, config.pairs, still_background=still) for _ in range(config.sets)]
    results = {
        "trained": held_out_retrieval(trained_net(trained, weights, device), sets),
        "untrained": held_out_retrieval(untrained_net(trained, sets[0].query, device), sets),
    }
    if config.output is not None:
        report: dict[str, Any] = {name: dataclasses.asdict(item) | item.summary() for name, item in results.items()}
        write_json(config.output, report | {"checkpoint": config.checkpoint, **made_on(device, "float32")})
    return results


def format_report(results: dict[str, Retrieval]) -> str:
    """A small table of `evaluate_retrieval`'s results."""
    size, sets = next((result.size, len(result.recall_at_1)) for result in results.values())
    lines = [f"retrieval among {size} held-out clips, {sets} sets (mean +- standard deviation)"]
    for name, result in results.items():
        values = result.summary()
        lines.append(
            f"  {name:10} " + "  ".join(f"R@{k} {values[f'r@{k}']:6.1%} +- {values[f'r@{k}_std']:.1%}" for k in (1, 5))
        )
    chance = next(iter(results.values())).summary()
    lines.append(f"  {'chance':10} R@1 {chance['r@1_chance']:6.1%}          R@5 {chance['r@5_chance']:6.1%}")
    return "\n".join(lines)
