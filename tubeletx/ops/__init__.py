"""The compiled operators, one file each; shapes, dtypes and errors stand in their docstrings."""

from tubeletx.ops.augment_clips import augment_clips_
from tubeletx.ops.crop_patches import crop_patches
from tubeletx.ops.draw_leaves import draw_leaves
from tubeletx.ops.enqueue import enqueue_
from tubeletx.ops.interpolate_keyframes import interpolate_keyframes
from tubeletx.ops.paste_objects import paste_objects_
from tubeletx.ops.paste_tubelets import paste_tubelets, paste_tubelets_
from tubeletx.ops.queue_infonce import queue_infonce
from tubeletx.ops.sample_and_paste import sample_and_paste_
from tubeletx.ops.sample_augmentation import sample_augmentation
from tubeletx.ops.sample_tubelets import sample_tubelets
from tubeletx.ops.smooth_path import smooth_path
from tubeletx.ops.track_points import track_points

__all__ = [
    "augment_clips_",
    "crop_patches",
    "draw_leaves",
    "enqueue_",
    "interpolate_keyframes",
    "paste_objects_",
    "paste_tubelets",
    "paste_tubelets_",
    "queue_infonce",
    "sample_and_paste_",
    "sample_augmentation",
    "sample_tubelets",
    "smooth_path",
    "track_points",
]
