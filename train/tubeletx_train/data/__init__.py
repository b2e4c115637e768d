"""Videos to batches: manifests, checks, decoders, clip sampling, the loader, colour augmentation."""

from tubeletx_train.config.data import ColorConfig, DataConfig, ReadingConfig
from tubeletx_train.data.augment import ColorJitterNormalize, normalize
from tubeletx_train.data.bad_videos import BadVideo, BadVideoTracker
from tubeletx_train.data.check import check_videos, measured, prepare_videos
from tubeletx_train.data.errors import (
    DataError,
    ManifestError,
    NoUsableVideos,
    TooManyBadVideos,
    VideoError,
)
from tubeletx_train.data.loader import ClipLoader, PairBatch, build_clip_loader, build_loader
from tubeletx_train.data.manifest import class_names, read_manifest, scan_folder, write_manifest
from tubeletx_train.data.pair_dataset import pair_dataset
from tubeletx_train.data.pairs import PairDataset, PairSample
from tubeletx_train.data.readers import ClipReader, open_record, open_video
from tubeletx_train.data.record import TimedLabel, VideoRecord
from tubeletx_train.data.sampler import EpochSampler
from tubeletx_train.data.videos import load_videos

__all__ = [
    "BadVideo",
    "BadVideoTracker",
    "ClipLoader",
    "ClipReader",
    "ColorConfig",
    "ColorJitterNormalize",
    "DataConfig",
    "DataError",
    "EpochSampler",
    "ManifestError",
    "NoUsableVideos",
    "PairBatch",
    "PairDataset",
    "PairSample",
    "ReadingConfig",
    "TimedLabel",
    "TooManyBadVideos",
    "VideoError",
    "VideoRecord",
    "build_clip_loader",
    "build_loader",
    "check_videos",
    "class_names",
    "load_videos",
    "measured",
    "normalize",
    "open_record",
    "open_video",
    "pair_dataset",
    "prepare_videos",
    "read_manifest",
    "scan_folder",
    "write_manifest",
]
