"""What a manifest of a million rows costs before the first batch: seconds, memory, and bytes sent to a worker.

The rows are those of checked videos, so that no file is touched; reading a clip is left out of it (frames of zeros
stand for decoded ones), since it does not depend on the length of the list. One process for each length, so that the
memory is its own; the time begins when Python does, and where other work shares the machine the processor's time says
what is the list's own.

Run: python benchmarks/long_manifest.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

from harness import write_result


def write_list(path: pathlib.Path, rows: int) -> None:
    """A manifest as `tubeletx-train manifest` writes it."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "num_frames", "fps", "width", "height"])
        for row in range(rows):
            name = f"videos/class_{row % 400:03}/{row:08x}_000010_000020.mp4"
            writer.writerow([name, f"class {row % 400}", "train", 250 + row % 50, 25.0, 340, 256])


def first_batch(manifest: str) -> dict[str, Any]:
    """Reads the list and takes one batch of pairs, as a pretraining does."""
    from multiprocessing import context, reduction

    import numpy as np

    from tubeletx_train.config.data import DataConfig
    from tubeletx_train.data import EpochSampler, PairDataset, build_loader, frames, prepare_videos

    imported = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    config = DataConfig(videos=manifest, num_workers=0, crop_size=32)
    videos, _ = prepare_videos(config, progress=False)
    listed = time.perf_counter()
    dataset = PairDataset(videos, config)
    made = time.perf_counter()

    class Sent:
        """Stands for a worker that is being started."""

        DupFd = staticmethod(int)

        def duplicate_for_child(self, file: int) -> int:
            return file

    context.set_spawning_popen(Sent())
    bytes_to_worker = len(reduction.ForkingPickler.dumps(dataset))
    context.set_spawning_popen(None)

    frames.FileFrames.read = lambda *_: np.zeros((config.num_frames, 32, 32, 3), np.uint8)  # type: ignore[method-assign]
    batch = next(iter(build_loader(dataset, EpochSampler(len(dataset), 32))))
    assert len(batch.sample_ids) == 32
    seconds, processor_seconds = time.perf_counter() - _STARTED, time.process_time()
    for name in ("path", "label", "split"):
        sum(1 for _ in videos.texts(name))  # shared memory counts once it is touched
    return {
        "import_seconds": imported - _STARTED,
        "list_seconds": listed - imported,
        "dataset_seconds": made - listed,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "memory_before_mb": before / 1e3,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "bytes_to_worker": bytes_to_worker,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--manifest", help=argparse.SUPPRESS)  # in the measured process
    arguments = parser.parse_args()
    if arguments.manifest is not None:
        print(json.dumps(first_batch(arguments.manifest)))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for rows in (1000, arguments.rows):
            manifest = pathlib.Path(folder) / f"{rows}.csv"
            write_list(manifest, rows)
            command = [sys.executable, __file__, "--manifest", str(manifest)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = results[str(rows)] = json.loads(output.splitlines()[-1])
            print(
                f"{rows:9,} rows: first batch after {found['seconds']:.1f} s ({found['import_seconds']:.1f} imports, "
                f"{found['list_seconds']:.1f} reading the list, {found['dataset_seconds']:.1f} the data set; "
                f"{found['processor_seconds']:.1f} of a processor in all); "
                f"{found['memory_mb']:.0f} MB at most ({found['memory_before_mb']:.0f} after the imports); "
                f"{found['bytes_to_worker']:,} bytes to a worker"
            )
    write_result("long_manifest", results)


_STARTED = time.perf_counter()

if __name__ == "__main__":
    main()
