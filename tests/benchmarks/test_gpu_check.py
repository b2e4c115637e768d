"""The check on a GPU machine, walked through without one: stand-ins for the interpreter, the tools and the GPU."""

from __future__ import annotations

import functools
import importlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu_check.py"
STEPS = ["packages", "build", "self-test", "smoke", "paste", "augment", "infonce", "kernels", "tests"]
LONG_STEPS = ["sanitizers", "counters", "sample", "infonce, all", "compiled", "precision", "train_step"]

# What it is called with decides what it does: FAIL, HANG and DIE are patterns of calls that go wrong.
STAND_IN = """#!/usr/bin/env bash
call="${0##*/} $*"
printf '%s\\t%s\\t%s\\n' "$PWD" "$PYTHONPATH" "$call" >>"$CALLS"
matches() { [ -n "$1" ] && [[ "$call" =~ $1 ]]; }
if [[ "$call" == *get_device_properties* ]]; then
  if matches "$FAIL"; then echo "AssertionError: torch sees no GPU" >&2; exit 1; fi
  echo '["Stand-in", 9, 0, 132, "2.11.0"]'
  exit
fi
echo "output of ${call: -60}"
if [[ "$call" == */paste.py* ]]; then
  mkdir -p "$TUBELETX_RESULTS/cuda"
  echo '{"seconds": 1}' >"$TUBELETX_RESULTS/cuda/paste.json"
fi
if matches "$FAIL"; then echo "the reason"; exit 3; fi
if matches "$HANG"; then
  trap '' TERM
  sleep 600 &
  echo $! >"$(dirname "$CALLS")/child"
  wait
fi
if matches "$DIE"; then kill -SEGV $$; fi
"""

Walk = Callable[..., "Walked"]


class Walked:
    """What a check left behind."""

    def __init__(self, folder: pathlib.Path, status: int, output: str) -> None:
        self.status, self.output, self.out = status, output, folder / "out"
        lines = (folder / "calls").read_text().splitlines()
        self.calls = [dict(zip(("cwd", "path", "call"), line.split("\t"), strict=True)) for line in lines]

    @property
    def results(self) -> dict[str, Any]:
        return json.loads((self.out / "results.json").read_text())

    @property
    def steps(self) -> dict[str, bool]:
        return {row["step"]: row["ok"] for row in self.results["steps"]}

    def detail(self, step: str) -> str:
        (detail,) = (row["detail"] for row in self.results["steps"] if row["step"] == step)
        return detail

    def log(self, name: str) -> str:
        with tarfile.open(self.out / "logs.tgz") as archive:
            member = archive.extractfile(f"logs/{name}.log")
            assert member is not None
            return member.read().decode()


def command(folder: pathlib.Path, *arguments: str) -> list[str]:
    stand_ins = folder / "bin"
    stand_ins.mkdir(exist_ok=True)
    for name in ("python3", "cc", "nvidia-smi", "compute-sanitizer", "ncu"):
        path = stand_ins / name
        path.write_text(STAND_IN)
        path.chmod(0o755)
    places = ["--out", str(folder / "out"), "--work", str(folder / "work"), "--wheels", str(folder / "wheels")]
    return [sys.executable, str(SCRIPT), "run", "--python", str(stand_ins / "python3"), *places, *arguments]


def environment(folder: pathlib.Path, **variables: str) -> dict[str, str]:
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "CALLS": str(folder / "calls"), "PYTHONPATH": "", **variables}


@pytest.fixture
def walk(tmp_path: pathlib.Path) -> Walk:
    def call(*arguments: str, **variables: str) -> Walked:
        answer = subprocess.run(
            command(tmp_path, *arguments),
            env=environment(tmp_path, **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return Walked(tmp_path, answer.returncode, answer.stdout)

    return call


def test_all_steps_succeed(walk: Walk) -> None:
    walked = walk()
    assert walked.status == 0, walked.output
    assert walked.steps == dict.fromkeys(STEPS + LONG_STEPS, True)
    assert sorted(path.name for path in walked.out.iterdir()) == ["logs.tgz", "results.json", "summary.txt"]
    assert walked.results["benchmarks"] == {"cuda/paste": {"seconds": 1}}
    summary = (walked.out / "summary.txt").read_text()
    assert walked.output.endswith(summary)  # the table comes last
    assert len(summary) < 12_000
    assert "output of" in walked.log("build")
    (build,) = (call["call"] for call in walked.calls if "pip install" in call["call"])
    assert "CMAKE_CUDA_ARCHITECTURES=90a-real" in build
    steps = [call for call in walked.calls if call["path"]]
    assert len(steps) > 20
    assert all(not pathlib.Path(call["cwd"]).is_relative_to(ROOT) for call in steps)


def test_the_short_form_leaves_out_the_long_steps(walk: Walk) -> None:
    walked = walk("--short")
    assert (walked.status, list(walked.steps)) == (0, STEPS)


def test_chosen_steps_bring_those_that_they_need(walk: Walk) -> None:
    assert list(walk("--only", "smoke", "paste").steps) == ["packages", "build", "smoke", "paste"]
    assert list(walk("--only", "smoke", "--skip", "packages").steps) == ["build", "smoke"]
    assert list(walk("--short", "--skip", "tests").steps) == STEPS[:-1]


def test_an_unknown_step_is_refused(walk: Walk) -> None:
    walked = walk("--only", "smok")
    assert walked.status == 1
    assert "no such step: smok" in walked.output


def test_no_gpu(walk: Walk) -> None:
    walked = walk(FAIL="get_device_properties")
    assert walked.status == 2
    assert "torch sees no GPU" in walked.output


@pytest.mark.parametrize(("pattern", "step"), [("gpu_check.py install", "packages"), ("pip install", "build")])
def test_nothing_runs_without_packages_and_build(walk: Walk, pattern: str, step: str) -> None:
    walked = walk(FAIL=pattern)
    assert walked.status == 1
    assert walked.detail(step) == f"{step}: exit status 3"
    after = (STEPS + LONG_STEPS)[STEPS.index(step) + 1 :]
    assert [walked.detail(name) for name in after] == [f"not run, since {step} failed"] * len(after)
    assert "the reason" in walked.output
    assert not any("-m pytest" in call["call"] for call in walked.calls)


@pytest.mark.parametrize(
    ("variables", "step", "detail"),
    [
        ({"FAIL": "out_of_range"}, "smoke", "smoke enqueue_: exit status 3"),
        ({"DIE": "over_drawn_calls"}, "smoke", f"smoke paste_tubelets: exit status {-signal.SIGSEGV}"),
        ({"FAIL": "/paste.py --device cuda$"}, "paste", "paste: exit status 3"),
        ({"FAIL": "racecheck"}, "sanitizers", "racecheck: exit status 3"),
        ({"FAIL": "infonce.py --device cuda --compiled"}, "compiled", "compiled infonce: exit status 3"),
    ],
    ids=str,
)
def test_a_step_that_fails_fails_alone(walk: Walk, variables: dict[str, str], step: str, detail: str) -> None:
    walked = walk(**variables)
    assert walked.status == 1
    failed = [name for name, ok in walked.steps.items() if not ok]
    # The sanitizers run some of the tests of the smoke.
    assert set(failed) - {"sanitizers"} <= {step}
    assert detail in walked.detail(step)


def test_a_missing_tool_is_a_failure_of_its_step(walk: Walk, tmp_path: pathlib.Path) -> None:
    command(tmp_path)
    gpu_check = importlib.import_module("gpu_check")
    run = gpu_check.Check(tmp_path / "out", tmp_path / "work", time.monotonic() + 60, "header")
    assert not run.run(gpu_check.Step("counters", 5, {"counters": ["no-such-tool"]}))
    assert "No such file" in run.rows[0]["detail"]


def is_running(process: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_when_time_is_over_what_hangs_is_killed_and_the_rest_is_skipped(walk: Walk, tmp_path: pathlib.Path) -> None:
    start = time.monotonic()
    walked = walk("--seconds", "14", "--only", "paste", "infonce", HANG="/paste.py")
    assert time.monotonic() - start < 14
    assert walked.status == 1
    assert walked.detail("paste") == "paste: killed at its limit"
    assert walked.detail("infonce") == "infonce: no time left"
    assert "output of" in walked.log("paste")
    assert walked.results["benchmarks"] == {"cuda/paste": {"seconds": 1}}  # what it had written by then
    assert not is_running(int((tmp_path / "child").read_text()))


def test_a_check_that_is_ended_from_outside_leaves_what_it_found(tmp_path: pathlib.Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, "--only", "smoke", "paste"),
        env=environment(tmp_path, HANG="/paste.py"),
        stdout=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "child").exists() and process.poll() is None:
        time.sleep(0.05)
    process.terminate()
    output, _ = process.communicate(timeout=30)
    walked = Walked(tmp_path, process.returncode, output)
    assert walked.status == 128 + signal.SIGTERM
    assert walked.steps == dict.fromkeys(["packages", "build", "smoke"], True)
    assert "output of" in walked.log("paste")
    assert not is_running(int((tmp_path / "child").read_text()))


def test_a_missing_wheel_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    gpu_check = importlib.import_module("gpu_check")
    monkeypatch.setattr(gpu_check, "PACKAGES", {"json": "json", "surely_absent": "surely-absent"})
    with pytest.raises(SystemExit, match="missing: surely-absent"):
        gpu_check.install(str(tmp_path), str(tmp_path / "target"))
    monkeypatch.setattr(gpu_check, "PACKAGES", {"json": "json"})
    gpu_check.install(str(tmp_path), str(tmp_path / "target"))
    assert "nothing missing" in capfd.readouterr().out


def planned(name: str) -> dict[str, Sequence[str]]:
    gpu_check = importlib.import_module("gpu_check")
    steps = gpu_check.plan(sys.executable, pathlib.Path("/work"), "/wheels", "90a-real")
    (step,) = (step for step in steps if step.name == name)
    return step.commands


def collected(commands: Sequence[Sequence[str]]) -> list[list[str]]:
    """The tests that each command of the plan selects; all in one process, which imports torch once."""
    options = [
        [*(word for word in command[3:] if not word.startswith("--timeout")), "--collect-only", "-qq"]
        for command in commands
    ]
    code = f"import pytest\nfor options in {options!r}:\n    print('next', pytest.main(options))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    parts = re.split(r"^next .*$", answer.stdout, flags=re.MULTILINE)[:-1]
    return [re.findall(r"^\S.*::.*$", part, re.MULTILINE) for part in parts]


def test_the_smoke_and_the_sanitizers_select_tests() -> None:
    smoke = planned("smoke")
    sanitizer = list(planned("sanitizers")["memcheck"])
    *small, large = collected([*smoke.values(), sanitizer[sanitizer.index("9") + 1 :]])
    for name, chosen in zip(smoke, small, strict=True):
        assert 1 <= len(chosen) <= 60, name
        assert all("cuda" in test for test in chosen)
    assert 8 <= len(large) <= 40
    assert not any(re.search("captur|compile|TestOnTheGpu|test_device", test) for test in large)


def test_every_file_with_tests_of_a_gpu_is_run() -> None:
    """Files of one name in two folders were taken for one."""
    commands = planned("tests")
    paths = {word for command in commands.values() for word in command if word.endswith(".py")}
    marked = [path for path in (ROOT / "tests" / "ops").glob("test_*.py") if "pytest.mark.cuda" in path.read_text()]
    assert paths == {str(path) for path in [*(ROOT / "tests" / "cuda").glob("test_*.py"), *marked]}
    assert all(collected(list(commands.values())))


def test_the_tests_run_under_a_trace_of_what_kills_them(tmp_path: pathlib.Path) -> None:
    library = tmp_path / "native_trace.so"
    source = ROOT / "benchmarks" / "native_trace.c"
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True)
    answer = subprocess.run(
        [sys.executable, "-c", "import ctypes, os; os.dup2(os.open(os.devnull, os.O_WRONLY), 2); ctypes.string_at(8)"],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == -signal.SIGSEGV
    assert "native trace: signal 11" in answer.stderr
    assert "at address 0x8" in answer.stderr
    assert "_ctypes" in answer.stderr


def note(reached: list[str], name: str, *_: object) -> dict[str, object]:
    reached.append(name)
    return {}


@pytest.mark.parametrize(
    "step", ["paste", "augment", "infonce", "kernels", "sample", "infonce, all", "compiled", "precision", "train_step"]
)
def test_the_scripts_take_their_options(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed by the scripts themselves, which measure nothing here."""
    for _, path, *options in planned(step).values():
        script = importlib.import_module(pathlib.Path(path).stem)
        reached: list[str] = []
        for name in ("on_gpu", "make_videos", "compare", "calls", "measure"):
            if hasattr(script, name):
                monkeypatch.setattr(script, name, functools.partial(note, reached, name))
        if hasattr(script, "write_result"):
            monkeypatch.setattr(script, "write_result", lambda *_: "nowhere")
        monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "stand-in")
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
        monkeypatch.setattr("torch.set_num_threads", lambda _: None)
        monkeypatch.setattr(sys, "argv", [path, *options])
        script.main()
        assert reached
        assert "make_videos" not in reached
