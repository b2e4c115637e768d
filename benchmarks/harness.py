"""What the benchmark scripts share: interleaved timing, and results that say where they were measured."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch

RESULTS = pathlib.Path(__file__).with_name("results")
_PACKAGES = ("torch", "numpy", "scipy", "opencv-python-headless", "tubeletx")


# Short calls are timed together until they last this long, so that each is timed warm and the clock's cost is nothing.
_SHORTEST_SECONDS = 2e-3


def _seconds_of(candidate: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        candidate()
    return (clock() - start) / calls


def measure(
    candidates: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Times the candidates in turn, so that a noisy machine is noisy for all of them.

    Args:
        candidates: What to call, by name. Each is called twice first, untimed.
        repeats: How many rounds; every round times each candidate once.
        clock: Gives seconds; `time.thread_time` for work on one thread leaves out what else the machine does.

    Returns:
        The median seconds of one call, by name.
    """
    calls: dict[str, int] = {}
    for name, candidate in candidates.items():
        candidate()
        calls[name] = max(1, round(_SHORTEST_SECONDS / _seconds_of(candidate, 1, clock)))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            seconds[name].append(_seconds_of(candidate, calls[name], clock))
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure_gpu(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Times the candidates in turn on the current GPU, by events around some calls in a row.

    Short calls are bound by the host; `replayed` takes it out.

    Args:
        candidates: What to call, by name. Each is called a few times first, untimed.
        repeats: How many rounds; every round times each candidate once.

    Returns:
        The median seconds of one call, by name.
    """
    calls = 20
    for candidate in candidates.values():
        for _ in range(3):
            candidate()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(calls):
                candidate()
            end.record()
            end.synchronize()
            seconds[name].append(start.elapsed_time(end) / 1e3 / calls)
    return {name: statistics.median(values) for name, values in seconds.items()}


def replayed(candidate: Callable[[], object]) -> Callable[[], None]:
    """The work of a call as a CUDA graph, so that only the time on the device counts."""
    candidate()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        candidate()
    return graph.replay


def copy_bandwidth() -> float:
    """Bytes a second that a copy of 512 MiB within the GPU's memory moves, reads and writes counted."""
    source = torch.empty(2**29, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / measure_gpu({"copy": lambda: target.copy_(source)}, repeats=10)["copy"]


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    answer = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def write_result(name: str, payload: dict[str, Any]) -> pathlib.Path:
    """Writes `results/NAME.json`: the payload with hardware, versions, date and commit.

    Args:
        name: Stem of the file.
        payload: The figures; anything that JSON holds.

    Returns:
        The path written.
    """
    machine: dict[str, Any] = {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    record = {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine,
        "versions": _versions(),
        **payload,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def run_on_device(description: str | None, on_cpu: Callable[[], None], on_gpu: Callable[[], None]) -> None:
    """The command line of a script that measures on either: `--device cpu` (default) or `--device cuda`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    if parser.parse_args().device == "cuda":
        on_gpu()
    else:
        on_cpu()
