"""Frozen features of videos, computed once and kept in a file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tubeletx_train.common.checkpoint import checkpoint_file, load_checkpoint, save_checkpoint
from tubeletx_train.common.files import file_digest
from tubeletx_train.config.labelled import EvaluateConfig
from tubeletx_train.config.tree import to_tree
from tubeletx_train.data import BadVideo, VideoRecord
from tubeletx_train.data.manifest import fingerprint
from tubeletx_train.evaluation.inference import ViewOutputs, run_on_views
from tubeletx_train.models.classifier import SCRATCH, PretrainedEncoder

_logger = logging.getLogger(__name__)

# What decides which pixels a view shows.
_VIEW_SETTINGS = (
    "num_frames",
    "fps",
    "stride",
    "short",
    "crop_size",
    "decode_size",
    "test_clips",
    "test_crops",
    "test_crop_share",
    "mean",
    "std",
    "reader",
)


def frozen_features(
    pretrained: PretrainedEncoder,
    records: Sequence[VideoRecord],
    config: EvaluateConfig,
    device: torch.device,
    title: str,
) -> ViewOutputs:
    """Pooled features of every view, from `config.features` where they are there already.

    The encoder is in evaluation mode: batch norms use their running statistics, and keep them.

    Args:
        pretrained: Encoder, on the device.
        records: Checked videos.
        config: Settings.
        device: Of the encoder.
        title: Of the progress bar.
    """
    folder = Path(config.features)
    path = folder / f"{_key(pretrained, records, config)}.pt"
    if path.is_file():
        _logger.info("features of %d %s: %s", len(records), title, path)
        kept = load_checkpoint(path)
        return ViewOutputs(kept["values"], kept["places"], [BadVideo(*video) for video in kept["unreadable"]])
    outputs = run_on_views(
        pretrained.encoder,
        records,
        config.data,
        device=device,
        batch_size=config.batch_size,
        precision=config.precision,
        progress=f"features of {title}",
    )
    assert outputs is not None
    if not outputs.unreadable:  # a file may read better next time
        state: dict[str, Any] = {"values": outputs.values, "places": outputs.places, "unreadable": []}
        save_checkpoint(state, path)
    return outputs


def _key(pretrained: PretrainedEncoder, records: Sequence[VideoRecord], config: EvaluateConfig) -> str:
    """A name for the features of these weights on these views."""
    weights = (
        f"{SCRATCH} {config.seed}" if config.checkpoint == SCRATCH else file_digest(checkpoint_file(config.checkpoint))
    )
    views = {name: getattr(config.data, name) for name in _VIEW_SETTINGS}
    parts = [weights, fingerprint(records), views, to_tree(pretrained.settings), config.precision]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
