"""Video encoders and the projection head."""

from tubeletx_train.models.projection import projection_head
from tubeletx_train.models.video_resnet import VideoResNet, build_encoder, encoder_names

__all__ = ["VideoResNet", "build_encoder", "encoder_names", "projection_head"]
