"""Time and memory of a motion report card of R(2+1)D-18, its small form.

    python benchmarks/report_card.py [--rendered gym/] [--threads 2]

With fresh weights, which take as long as trained ones; the untrained twin and all controls are asked too. Seconds of
the clock and of the processor, which on a busy machine is the one to read; memory is the largest of the process.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import torch
from harness import write_result

from tubeletx_train.evaluation.report_card import ReportConfig, report_card
from tubeletx_train.models import build_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rendered", help="the folder of a set that `tubeletx-train render` made")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--num_frames", type=int, help="other than the form's, for a trial")
    parser.add_argument("--side", type=int, help="likewise")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "r2plus1d_18.pth"
        torch.save({"state_dict": build_encoder("r2plus1d_18").state_dict()}, weights)
        config = ReportConfig(
            str(weights), rendered=options.rendered, num_frames=options.num_frames, side=options.side, output=folder
        )
        wall, processor = time.perf_counter(), time.process_time()
        (grades,) = report_card(config)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    frames, height, width = grades.size
    found: dict[str, object] = {
        "frames": frames,
        "height": height,
        "width": width,
        "clips": grades.clips,
        "seconds": {"clock": wall, "processor": processor},
        "peak memory, GB": grades.peak_memory / 1e9,
    }
    trial = (options.num_frames, options.side) != (None, None)
    print(found if trial else write_result("report_card", {"with rendered actions": bool(options.rendered), **found}))


if __name__ == "__main__":
    main()
