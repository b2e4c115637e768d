"""An encoder with a linear classifier, and how it gets its weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from tubeletx_train.config.labelled import EncoderConfig
from tubeletx_train.config.pretrain import ModelConfig
from tubeletx_train.models import VideoEncoder
from tubeletx_train.models.weights import build_from_settings, load_encoder_weights, pretrained_settings

SCRATCH = "scratch"
_logger = logging.getLogger(__name__)


class VideoClassifier(nn.Module):
    """Encoder, average pooling, dropout, one linear layer (section 4.1 of the paper)."""

    def __init__(self, encoder: VideoEncoder, num_classes: int, dropout: float = 0.0) -> None:
        """Args: `dropout` is the share of the pooled features that training leaves out."""
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(encoder.feature_dim, num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        """Normalised (B, 3, T, H, W) clips to (B, num_classes) logits."""
        logits: Tensor = self.fc(self.dropout(self.encoder(clip)))
        return logits


@dataclass(frozen=True)
class PretrainedEncoder:
    """An encoder and where it comes from.

    Attributes:
        encoder: On the CPU.
        settings: What it was built with.
        source: What kind of checkpoint its weights are from, "scratch" if none.
    """

    encoder: VideoEncoder
    settings: ModelConfig
    source: str


def load_pretrained(checkpoint: str | Path, config: EncoderConfig, *, quiet: bool = False) -> PretrainedEncoder:
    """An encoder as its checkpoint has it, and its settings unless `config` says otherwise; or one from "scratch".

    Args:
        checkpoint: File, folder of a run, or "scratch".
        config: What is to be other than in the checkpoint.
        quiet: Do not log what the checkpoint filled.

    Raises:
        CheckpointError: The file cannot be read, or does not fit the encoder.
    """
    known = ModelConfig() if checkpoint == SCRATCH else pretrained_settings(checkpoint)
    chosen = {
        name: value for name in ("encoder", "width", "temporal_strides") if (value := getattr(config, name)) is not None
    }
    settings = replace(known, **chosen)
    encoder = build_from_settings(settings)
    if checkpoint == SCRATCH:
        return PretrainedEncoder(encoder, settings, SCRATCH)
    report = load_encoder_weights(encoder, checkpoint, config.allow_missing)
    if not quiet:
        _logger.info("%s: %s", checkpoint, report)
    return PretrainedEncoder(encoder, settings, report.source)
