"""Tubelet-contrastive self-supervision for video: compiled operators, tubelet sampler, pair maker, queue InfoNCE."""

from tubeletx import ops
from tubeletx._library import build_info
from tubeletx.augment import Augmentation, AugmentClips, AugmentConfig
from tubeletx.config import TubeletConfig
from tubeletx.contrast import QueueInfoNCE, QueueInfoNCEOutput
from tubeletx.loader import KeptMemoryLoader
from tubeletx.objects import ObjectPatches
from tubeletx.pair import TubeletPair
from tubeletx.paste import PasteTubelets
from tubeletx.sampler import TubeletSampler
from tubeletx.tracks import Flow, Tracks
from tubeletx.tubelets import Tubelets

__version__ = build_info()["version"]

__all__ = [
    "AugmentClips",
    "AugmentConfig",
    "Augmentation",
    "Flow",
    "KeptMemoryLoader",
    "ObjectPatches",
    "PasteTubelets",
    "QueueInfoNCE",
    "QueueInfoNCEOutput",
    "Tracks",
    "TubeletConfig",
    "TubeletPair",
    "TubeletSampler",
    "Tubelets",
    "build_info",
    "ops",
]
