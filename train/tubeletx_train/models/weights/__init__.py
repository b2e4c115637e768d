"""Encoder weights in files: our own checkpoints, exports, torchvision's names, and other methods' checkpoints."""

from tubeletx_train.models.weights.load import WeightReport, encoder_settings, load_encoder_weights

__all__ = ["WeightReport", "encoder_settings", "load_encoder_weights"]
