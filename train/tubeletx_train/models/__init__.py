"""Video encoders, the projection head, and weights in files."""

from tubeletx_train.models.build import build_encoder, encoder_names
from tubeletx_train.models.encoder import VideoEncoder
from tubeletx_train.models.i3d import I3D
from tubeletx_train.models.projection import projection_head
from tubeletx_train.models.video_resnet import VideoResNet

__all__ = ["I3D", "VideoEncoder", "VideoResNet", "build_encoder", "encoder_names", "projection_head"]
