#!/usr/bin/env python3
"""Builds, checks and measures on a machine with a GPU and without network, within a time limit; a table comes last.

    python3 benchmarks/gpu_check.py fetch FOLDER          with network: the wheels that the machine lacks
    python3 benchmarks/gpu_check.py run --wheels FOLDER   on the machine: torch with CUDA, nvcc, a C++ compiler

A step that is at its limit is killed, one that finds no time left is not started; both count as failures. After each
step, `summary.txt`, `results.json` and `logs.tgz` in the folder of `--out` are brought up to date, so that a check that
is cut off leaves what it found. Everything else goes into the folder of `--work`, whose build a second check takes up
again; nothing is written into the sources.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
SECONDS, SHORT_SECONDS = 520, 200
# For killing what runs and writing what was found.
RESERVE = 8
FETCH_LIMIT = 64 * 2**20

# By module; what is built with, what the tests import, and what the trainer does.
PACKAGES = {
    "cmake": "cmake",
    "ninja": "ninja",
    "pybind11": "pybind11",
    "scikit_build_core": "scikit-build-core",
    "pytest": "pytest",
    "pytest_timeout": "pytest-timeout",
    "hypothesis": "hypothesis",
    "numpy": "numpy",
    "scipy": "scipy",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "docstring_parser": "docstring-parser",
    "jsonargparse": "jsonargparse",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "yaml": "pyyaml",
}
# Those that an installation of torch with its usual companions lacks.
FETCHED = ("docstring-parser", "jsonargparse")

# One process for each operator, so that an illegal access of one poisons no other: a file of tests/cuda and its tests.
SMOKE = {
    "interpolate_keyframes": ("cuda/test_equals_cpu.py", "interpolate_keyframes"),
    "smooth_path": ("cuda/test_equals_cpu.py", "smooth_path"),
    "sample_tubelets": ("cuda/test_equals_cpu.py", "sample_tubelets and not limits"),
    "crop_patches": ("cuda/test_equals_cpu.py", "crop_patches and uint8"),
    "paste_tubelets": ("cuda/test_equals_cpu.py", "over_drawn_calls and uint8"),
    "paste_tubelets_backward": ("cuda/test_equals_cpu.py", "paste_tubelets_backward and float32"),
    "sample_and_paste_": ("cuda/test_equals_cpu.py", "test_sample_and_paste"),
    "augment_clips_": ("cuda/test_augment_clips.py", "cpu and not contiguous or sample_augmentation or foreign"),
    "enqueue_": ("cuda/test_enqueue.py", "any_strides or out_of_range"),
    "queue_infonce, float32": ("cuda/test_queue_infonce.py", "equals_the_reference and not float16"),
    "queue_infonce, bfloat16": ("cuda/test_queue_infonce.py", "equals_the_reference and bfloat16"),
    "queue_infonce_backward": ("cuda/test_queue_infonce_backward.py", "equals_the_reference or strides"),
}
# About a dozen tests: every kernel, shared memory, runs of pixels, bands of rows, clips with views of their own. No
# graph and no compiled test, since these need torch's cache of memory.
SANITIZED = (
    "(interpolate_keyframes and int32) or (smooth_path and 6) or (test_sample_tubelets and (paper or smile))"
    " or many_frames or thin_far or (crop_patches and uint8 and 3) or (over_drawn_calls and uint8 and (3 or 7))"
    " or (paste_tubelets_backward and float32 and offsets) or (equals_the_reference and 33 and (bfloat16 or float32))"
    " or (test_any_strides and not float16) or (test_augment_clips and (no_foreign or (channels_last and not float16)))"
)


@dataclass(frozen=True)
class Step:
    """Commands that succeed or fail as one.

    Attributes:
        name: As in the table.
        seconds: After which what still runs is killed.
        commands: By the name of their log.
        parallel: How many commands run at a time.
        needed: Whether the steps after it are in vain without it.
        in_short: Whether the short form has it.
        environment: Variables on top of those of every step.
        shown: How many of the last lines of its output the table ends with.
    """

    name: str
    seconds: float
    commands: dict[str, Sequence[str]]
    parallel: int = 1
    needed: bool = False
    in_short: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    shown: int = 0


def plan(python: str, work: pathlib.Path, wheels: str, architecture: str) -> list[Step]:
    """The steps in their order: what most depends on comes first."""

    def script(name: str, *arguments: str) -> list[str]:
        return [python, str(ROOT / "benchmarks" / f"{name}.py"), *arguments]

    def tests(path: str, *arguments: str) -> list[str]:
        # Without pytest's own handler of fatal signals, which would replace that of native_trace.
        options = ["-v", "-m", "cuda", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
        options += ["--timeout=90", "--timeout-method=signal"]
        return [python, "-m", "pytest", *options, str(ROOT / "tests" / path), *arguments]

    def sanitized(tool: str) -> list[str]:
        return ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *tests("cuda", "-k", SANITIZED)]

    build = [python, "-m", "pip", "install", "--verbose", "--no-index", "--no-deps", "--no-build-isolation"]
    build += ["--no-cache-dir", "--upgrade", "--target", str(work / "site")]
    build += [f"--config-settings=build-dir={work / 'build'}", "--config-settings=cmake.define.TUBELETX_CUDA=on"]
    build += [f"--config-settings=cmake.define.CMAKE_CUDA_ARCHITECTURES={architecture}", str(ROOT)]
    files = sorted((ROOT / "tests" / "cuda").glob("test_*.py"))
    files += [path for path in (ROOT / "tests" / "ops").glob("test_*.py") if "pytest.mark.cuda" in path.read_text()]
    gpu = ("--device", "cuda")
    trace = work / "native_trace.so"
    compile_trace = ["cc", "-shared", "-fPIC", "-o", str(trace), str(ROOT / "benchmarks" / "native_trace.c")]
    traced = {"LD_PRELOAD": str(trace)}
    counters = ["ncu", "--clock-control", "none", "--kernel-name-base", "demangled", "--kernel-name", "regex:tubeletx"]
    counters += ["--set", "basic", "--section", "MemoryWorkloadAnalysis", "--section", "WarpStateStats"]
    return [
        Step("packages", 40, {"packages": script("gpu_check", "install", wheels, str(work / "packages"))}, needed=True),
        Step("build", 180, {"build": build, "trace": compile_trace}, parallel=2, needed=True),
        Step("self-test", 40, {"self-test": [python, "-m", "tubeletx"]}, shown=2),
        Step(
            "smoke",
            60,
            {f"smoke {name}": tests(path, "-k", chosen) for name, (path, chosen) in SMOKE.items()},
            parallel=11,
            environment=traced,
        ),
        Step("paste", 40, {"paste": script("paste", *gpu)}, shown=12),
        Step("augment", 40, {"augment": script("augment", *gpu)}, shown=10),
        Step("infonce", 60, {"infonce": script("infonce", *gpu, "--headline")}, shown=10),
        Step("kernels", 40, {"kernels": script("kernel_times")}, shown=40),
        Step(
            "tests",
            150,
            {f"tests {path.parent.name} {path.stem}": tests(str(path)) for path in files},
            parallel=6,
            environment=traced,
        ),
        Step(
            "sanitizers",
            150,
            {tool: sanitized(tool) for tool in ("memcheck", "racecheck", "initcheck")},
            parallel=3,
            in_short=False,
            # Without the cache every tensor is an allocation of its own, with ends that can be overrun.
            environment={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        ),
        Step("counters", 60, {"counters": [*counters, *script("kernel_times", "--once")]}, in_short=False),
        Step("sample", 40, {"sample": script("sample", *gpu)}, in_short=False, shown=6),
        Step("infonce, all", 60, {"infonce-all": script("infonce", *gpu)}, in_short=False, shown=8),
        Step(
            "compiled",
            90,
            {
                f"compiled {name}": script(name, *gpu, "--compiled")
                for name in ("paste", "infonce", "sample", "augment")
            },
            in_short=False,
            shown=12,
        ),
        Step("precision", 60, {"precision": script("precision_check", *gpu)}, in_short=False, shown=4),
        Step("train_step", 90, {"train_step": script("train_step", *gpu, "--synthetic")}, in_short=False, shown=16),
    ]


class Check:
    """Runs steps and writes down what they gave."""

    def __init__(self, out: pathlib.Path, work: pathlib.Path, end: float, header: str) -> None:
        """`end` is by the monotonic clock."""
        self.out, self.work, self.end, self.header = out, work, end, header
        self.logs = work / "logs"
        self.results = work / "results"
        for folder in (self.logs, self.results):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (out, self.logs, self.results):
            folder.mkdir(parents=True, exist_ok=True)
        self.rows: list[dict[str, Any]] = []
        self.shown: list[str] = []
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        paths = [work / "site", work / "packages", ROOT / "tests"]
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PATH": os.pathsep.join([str(work / "packages" / "bin"), os.environ["PATH"], "/usr/local/cuda/bin"]),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPYCACHEPREFIX": str(work / "bytecode"),
            "TUBELETX_RESULTS": str(self.results),
            "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
        }

    def run(self, step: Step) -> bool:
        """Runs a step; returns whether all of its commands succeeded."""
        print(f"== {step.name}", flush=True)
        start = time.monotonic()
        outcomes = self._execute(step, min(start + step.seconds, self.end - RESERVE))
        failed = {name: outcome for name, outcome in outcomes.items() if outcome != "ok"}
        detail = "; ".join(f"{name}: {outcome}" for name, outcome in failed.items())
        self._note(step.name, not failed, time.monotonic() - start, detail or self._last_line(step))
        for name in step.commands:
            lines = self._lines(name)
            if name in failed:
                print(f"-- end of {name}.log", *lines[-25:], sep="\n", flush=True)
            elif step.shown:
                self.shown += lines[-step.shown :]
        self.write()
        return not failed

    def skip(self, step: Step, reason: str) -> None:
        """Notes a step that was not run as failed."""
        self._note(step.name, False, 0.0, reason)
        self.write()

    def close(self) -> None:
        """Kills what runs, writes everything and prints the table."""
        self._kill_running()
        self.write()
        print("\n" + self.summary(), flush=True)

    def summary(self) -> str:
        """The table, and the ends of the outputs that are shown."""
        lines = [self.header]
        for row in self.rows:
            outcome = "ok" if row["ok"] else "FAILED"
            lines.append(f"{row['step']:14} {outcome:7} {row['seconds']:6.1f} s  {row['detail']}")
        return "\n".join([*lines, *self.shown])

    def write(self) -> None:
        """Brings the three files up to date, each put in place whole."""
        records = {}
        for path in sorted(self.results.rglob("*.json")):
            records[path.relative_to(self.results).with_suffix("").as_posix()] = json.loads(path.read_text())
        answer = {"machine": self.header, "steps": self.rows, "benchmarks": records}
        with _replacing(self.out / "summary.txt") as path:
            path.write_text(self.summary() + "\n")
        with _replacing(self.out / "results.json") as path:
            path.write_text(json.dumps(answer, indent=2) + "\n")
        with _replacing(self.out / "logs.tgz") as path, tarfile.open(path, "w:gz") as archive:
            archive.add(self.logs, "logs")

    def _execute(self, step: Step, limit: float) -> dict[str, str]:
        waiting, outcomes = dict(step.commands), {}
        while (waiting or self._running) and time.monotonic() < limit:
            while waiting and len(self._running) < step.parallel:
                name = next(iter(waiting))
                try:
                    self._running[name] = self._start(name, waiting.pop(name), step.environment)
                except OSError as error:
                    outcomes[name] = str(error)
            for name, process in list(self._running.items()):
                if process.poll() is not None:
                    del self._running[name]
                    _kill([process])  # what it left behind
                    outcomes[name] = "ok" if process.returncode == 0 else f"exit status {process.returncode}"
            time.sleep(0.02)
        outcomes |= dict.fromkeys(self._running, "killed at its limit")
        self._kill_running()
        return {name: outcomes.get(name, "no time left") for name in step.commands}

    def _kill_running(self) -> None:
        _kill(list(self._running.values()))
        self._running.clear()

    def _start(self, name: str, command: Sequence[str], extra: dict[str, str]) -> subprocess.Popen[bytes]:
        with self._log(name).open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.work,
                env={**self.environment, **extra},
                start_new_session=True,
            )

    def _note(self, name: str, ok: bool, seconds: float, detail: str) -> None:
        self.rows.append({"step": name, "ok": ok, "seconds": round(seconds, 1), "detail": detail[:300]})
        print(f"{name}: {'ok' if ok else 'FAILED'} after {seconds:.1f} s; {detail[:300]}", flush=True)

    def _last_line(self, step: Step) -> str:
        return "" if len(step.commands) > 1 else next(iter(self._lines(next(iter(step.commands)))[-1:]), "")

    def _log(self, name: str) -> pathlib.Path:
        return self.logs / (name.replace(" ", "_").replace(",", "") + ".log")

    def _lines(self, name: str) -> list[str]:
        path = self._log(name)
        return [line[:400] for line in path.read_text(errors="replace").splitlines()] if path.exists() else []


def _kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends processes that lead a session each, and all that they started there."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + 2
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))


@contextlib.contextmanager
def _replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path beside the given one, which it replaces at the end."""
    part = path.with_name(f".{path.name}.part")
    yield part
    part.replace(path)


def describe(python: str) -> tuple[str, str] | None:
    """What GPU torch sees, in words, and the architecture to build for; None where it sees none."""
    code = (
        "import json, torch; assert torch.cuda.is_available(), 'torch sees no GPU'; "
        "p = torch.cuda.get_device_properties(0); "
        "print(json.dumps([p.name, p.major, p.minor, p.multi_processor_count, torch.__version__]))"
    )
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        print(answer.stderr, file=sys.stderr)
        return None
    name, major, minor, multiprocessors, version = json.loads(answer.stdout.splitlines()[-1])
    with contextlib.suppress(OSError):
        subprocess.run(["nvidia-smi"], check=False)
    # Of compute capability 9.0 there is a second set of instructions, which no later one has.
    suffix = "a" if (major, minor) == (9, 0) else ""
    header = f"{name}, {multiprocessors} multiprocessors, torch {version}"
    return header, f"{major}{minor}{suffix}-real"


def fetch(folder: str) -> None:
    """Downloads wheels for Python 3.12 on x86-64 Linux; raises SystemExit where pip fails or they are too many."""
    platforms = [f"--platform=manylinux{name}_x86_64" for name in ("_2_28", "_2_17", "2014", "1")]
    command = [sys.executable, "-m", "pip", "download", "--dest", folder, "--no-deps", "--only-binary=:all:"]
    command += ["--python-version=3.12", "--implementation=cp", *platforms]
    command += ["--constraint", str(ROOT / "constraints.txt"), *FETCHED]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit("pip could not download all of: " + ", ".join(FETCHED))
    size = sum(path.stat().st_size for path in pathlib.Path(folder).iterdir())
    print(f"{size / 2**20:.1f} MiB in {folder}")
    if size > FETCH_LIMIT:
        raise SystemExit(f"{folder} holds {size} bytes, more than the {FETCH_LIMIT} that may travel")


def install(wheels: str, target: str) -> None:
    """Installs from a folder of wheels what cannot be imported; raises SystemExit where pip fails."""
    missing = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if not missing:
        print("nothing missing")
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--find-links", wheels]
    command += ["--upgrade", "--target", target, *missing]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit(f"missing: {', '.join(missing)}; needs their wheels in the folder of --wheels, got {wheels!r}")
    print("installed:", ", ".join(missing))


def check(arguments: argparse.Namespace) -> int:
    """Runs the plan; returns 0 if every step succeeded."""
    seconds = arguments.seconds or (SHORT_SECONDS if arguments.short else SECONDS)
    end = time.monotonic() + seconds
    found = describe(arguments.python)
    if found is None:
        return 2
    header, architecture = found
    out, work = pathlib.Path(arguments.out).resolve(), pathlib.Path(arguments.work).resolve()
    wheels = str(pathlib.Path(arguments.wheels).resolve())
    steps = plan(arguments.python, work, wheels, arguments.architecture or architecture)
    unknown = {*arguments.only, *arguments.skip} - {step.name for step in steps}
    if unknown:
        raise SystemExit(f"no such step: {', '.join(unknown)}; there are: {', '.join(step.name for step in steps)}")
    run = Check(out, work, end, header)
    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, _stop) for number in signals}
    in_vain = ""
    try:
        for step in steps:
            chosen = step.needed or step.name in arguments.only
            if not arguments.only:
                chosen = step.in_short or not arguments.short
            if not chosen or step.name in arguments.skip:
                continue
            if in_vain:
                run.skip(step, f"not run, since {in_vain} failed")
            elif not run.run(step) and step.needed:
                in_vain = step.name
    finally:
        run.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if all(row["ok"] for row in run.rows) else 1


def _stop(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_fetch = commands.add_parser("fetch", help="download the wheels that the machine lacks")
    of_fetch.add_argument("folder")
    of_install = commands.add_parser("install", help="install what cannot be imported (a step of run)")
    of_install.add_argument("wheels")
    of_install.add_argument("target")
    of_run = commands.add_parser("run", help="build, check and measure")
    of_run.add_argument("--out", default=os.environ.get("OUT", "build/gpu_check"), help="default: OUT, build/gpu_check")
    of_run.add_argument("--work", default=str(pathlib.Path(tempfile.gettempdir()) / "tubeletx_gpu_check"))
    of_run.add_argument("--wheels", default=os.environ.get("WHEELS", ".whl"), help="default: WHEELS, .whl")
    of_run.add_argument("--short", action="store_true", help=f"the first steps alone, in {SHORT_SECONDS} s")
    of_run.add_argument("--seconds", type=float, help=f"for everything; default {SECONDS}")
    of_run.add_argument("--only", nargs="+", default=[], metavar="STEP", help="these, and what they need")
    of_run.add_argument("--skip", nargs="+", default=[], metavar="STEP", help="all but these steps")
    of_run.add_argument("--architecture", help="as CMake takes it; default: that of the first GPU")
    of_run.add_argument("--python", default=sys.executable, help="the interpreter of the steps")
    parsed = parser.parse_args(arguments)
    called: dict[str, Callable[[], int | None]] = {
        "fetch": lambda: fetch(parsed.folder),
        "install": lambda: install(parsed.wheels, parsed.target),
        "run": lambda: check(parsed),
    }
    return called[parsed.command]() or 0


if __name__ == "__main__":
    sys.exit(main())
