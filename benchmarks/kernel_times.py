"""Each kernel of a pair (sampler, crop, paste) and of InfoNCE with its gradient: time, grid, registers, occupancy.

From torch's profiler on a GPU; every call is repeated, and the medians are shown. `--once` calls each once and profiles
nothing, for a profiler around this process.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from harness import write_result
from infonce import HEADLINE, draw_on_gpu, forward_backward, ours
from paste import Pair
from torch.profiler import ProfilerActivity, profile

from tubeletx.pair import TubeletPair

REPEATS = 20


def calls() -> dict[str, Callable[[], object]]:
    pair, ids, module = Pair(32, seed=32).to("cuda"), torch.arange(32, device="cuda"), TubeletPair(seed=0, inplace=True)
    found: dict[str, Callable[[], object]] = {"32 pairs": lambda: module(*pair.clips, ids)}
    for shape in HEADLINE:
        inputs = draw_on_gpu(*shape, torch.bfloat16, seed=0)
        name = "InfoNCE B={} K={}".format(*shape)
        found[name] = lambda x=inputs: forward_backward(ours, x.query, x.key, x.queue)
    return found


def traced(call: Callable[[], object]) -> list[dict[str, Any]]:
    """What ran on the GPU, in its order."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as session:
        for _ in range(REPEATS):
            call()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "trace.json"
        session.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return sorted((event for event in events if event.get("cat") in ("kernel", "gpu_memset", "gpu_memcpy")), key=_start)


def _start(event: dict[str, Any]) -> float:
    return float(event["ts"])


def short(name: str) -> str:
    """A kernel's name without namespaces and arguments."""
    name = re.sub(r"\(anonymous namespace\)::|\w+::|^void ", "", name)
    return re.sub(r"\(.*", "", name)[:64]


def table(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each kernel, those that take longest in all first."""
    alike: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        alike[event["name"]].append(event)
    rows = []
    for name, same in alike.items():
        facts = same[0].get("args", {})
        rows.append(
            {
                "kernel": name,
                "calls": len(same) / REPEATS,
                "microseconds": statistics.median(event["dur"] for event in same),
                "grid": facts.get("grid"),
                "block": facts.get("block"),
                "registers": facts.get("registers per thread"),
                "shared": facts.get("shared memory"),
                "occupancy": facts.get("est. achieved occupancy %"),
            }
        )
    return sorted(rows, key=lambda row: -row["calls"] * row["microseconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="call each once, without torch's profiler")
    arguments = parser.parse_args()
    report = {}
    for name, call in calls().items():
        if arguments.once:
            call()
            continue
        rows = table(traced(call))
        report[name] = rows
        total = sum(row["calls"] * row["microseconds"] for row in rows)
        print(f"{name}: {sum(row['calls'] for row in rows):.0f} kernels, {total:.1f} us in them")
        for row in rows:
            print(
                f"  {row['microseconds']:7.1f} us x {row['calls']:<4.1f} {short(row['kernel'])}: grid {row['grid']}, "
                f"block {row['block']}, {row['registers']} registers, {row['shared']} bytes shared, "
                f"occupancy {row['occupancy']} %"
            )
        write_result("cuda/kernel_times", {"calls": report})
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
