"""Video encoders, the embedding that is contrasted, and weights in files."""

from tubeletx_train.models.build import build_encoder, encoder_names
from tubeletx_train.models.embedding import EmbeddingNet, projection_head
from tubeletx_train.models.encoder import VideoEncoder
from tubeletx_train.models.i3d import I3D
from tubeletx_train.models.video_resnet import VideoResNet

__all__ = ["I3D", "EmbeddingNet", "VideoEncoder", "VideoResNet", "build_encoder", "encoder_names", "projection_head"]
