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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

# Another folder where the sources are not to be written to.
RESULTS = pathlib.Path(os.environ.get("TUBELETX_RESULTS") or pathlib.Path(__file__).with_name("results"))
_PACKAGES = ("torch", "numpy", "scipy", "opencv-python-headless", "kornia", "albumentationsx", "tubeletx")


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


def measure_gpu(candidates: dict[str, Callable[[], object]], repeats: int, calls: int = 20) -> dict[str, float]:
    """Times the candidates in turn on the current GPU, by events around some calls in a row.

    Short calls are bound by the host; `measure_replayed` takes it out.

    Args:
        candidates: What to call, by name. Each is called a few times first, untimed.
        repeats: How many rounds; every round times each candidate once.
        calls: How many calls in a row.

    Returns:
        The median seconds of one call, by name.
    """
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


def measure_replayed(candidates: Mapping[str, Sequence[Callable[[], object]]], repeats: int) -> dict[str, float]:
    """Times what the candidates do on the current GPU, without the host: all calls of one are one CUDA graph.

    Args:
        candidates: The calls, by name. Those of a candidate may differ in their inputs, so that together they fill no
            cache; some twenty make the launch of the graph small beside them. One that cannot be captured is reported
            and left out.
        repeats: How many rounds; every round times each graph once.

    Returns:
        The median seconds of one call, by name.
    """
    graphs: dict[str, torch.cuda.CUDAGraph] = {}
    for name, calls in candidates.items():
        try:
            graphs[name] = _captured(calls)
        except RuntimeError as error:
            print(f"{name}: cannot be captured: {(str(error).splitlines() or [repr(error)])[0]}")
    seconds = measure_gpu({name: graph.replay for name, graph in graphs.items()}, repeats, calls=3)
    return {name: value / len(candidates[name]) for name, value in seconds.items()}


def _captured(calls: Sequence[Callable[[], object]]) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    # Entered here too, since a capture that fails does not leave it.
    with torch.cuda.stream(stream):
        for _ in range(2):  # what is loaded, chosen or allocated at a first call
            for call in calls:
                call()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            for call in calls:
                call()
    torch.cuda.synchronize()
    return graph


def copy_bandwidth() -> float:
    """Bytes a second that a copy of 512 MiB within the GPU's memory moves, reads and writes counted."""
    source = torch.randint(0, 256, (2**29,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / measure_gpu({"copy": lambda: target.copy_(source)}, repeats=10)["copy"]


def product_rate(dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product on the current GPU."""
    size = 8192
    left, right, out = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(3))
    return 2 * size**3 / measure_gpu({"product": lambda: torch.mm(left, right, out=out)}, repeats=3, calls=8)["product"]


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
    folder = pathlib.Path(__file__).parent
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


# Of when a script began: what it measures was imported then, whatever is committed or installed while it runs.
_MEASURED = {"commit": _commit(), "versions": _versions()}


def write_result(name: str, payload: dict[str, Any]) -> pathlib.Path:
    """Writes `results/NAME.json`: the payload with hardware, date, and the script's first versions and commit.

    Written anew after each figure, the file holds what is known whenever a script is stopped.

    Args:
        name: Path of the file without its suffix.
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
        **_MEASURED,
        "machine": machine,
        **payload,
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(record, indent=2) + "\n")
    part.replace(path)
    return path


def device_parser(description: str | None) -> argparse.ArgumentParser:
    """The command line of a script that measures on either: `--device cpu` (default) or `--device cuda`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compiled", action="store_true", help="beside compiled torch; on a GPU in place of eager")
    return parser
