"""Encoder weights in files: our own checkpoints, exports, torchvision's names, and other methods' checkpoints."""

from tubeletx_train.models.weights.export import ExportFormat, export_encoder
from tubeletx_train.models.weights.load import (
    WeightReport,
    build_from_settings,
    encoder_settings,
    load_encoder,
    load_encoder_weights,
    pretrained_settings,
)

__all__ = [
    "ExportFormat",
    "WeightReport",
    "build_from_settings",
    "encoder_settings",
    "export_encoder",
    "load_encoder",
    "load_encoder_weights",
    "pretrained_settings",
]
