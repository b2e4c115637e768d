"""Compiles every source that sees torch against the headers of the oldest and the newest torch there is, and those of
the CPU once more for other processors: without vector code, and for 64-bit ARM (by clang, of the package ziglang).

    python tests/building/torch_headers.py [VERSION ...]     (`make torch-headers`)

The headers come out of the smallest wheel of a version, that for macOS: they are the same for all systems. Wheels and
headers are kept in the user's cache folder. The files are checked, no more, and the kernels (`csrc/cuda/*.cu`)
only for being free of torch: what they become depends on no torch, and the build at hand compiles them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tubeletx" / "torch-headers"
HEADERS = ("torch/include/torch/csrc/", "torch/include/torch/headeronly/", "torch/include/c10/")
PLATFORMS = ("macosx_11_0_arm64", "macosx_14_0_arm64")


def oldest() -> str:
    """The oldest torch that the package metadata promises."""
    bound = re.search(r'^dependencies = .*"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert bound, "pyproject.toml names no oldest torch"
    return f"{bound[1]}.0"


def newest() -> str:
    """The newest release of torch that pip finds."""
    answer = pip("index", "versions", "torch")
    version = re.search(r"^torch \((\d[\w.]*)", answer, re.MULTILINE)
    assert version, f"pip names no version of torch: {answer}"
    return version[1]


def pip(*arguments: str) -> str:
    """What pip prints; a constraint that the machine sets for its users must not hide a version."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    environment = {**os.environ, "PIP_CONSTRAINT": os.devnull}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def headers_of(version: str) -> Path:
    """The folder of torch's headers of a version, fetched if it is not there."""
    folder = CACHE / version
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
            pip("download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.11", *platforms,
                f"--dest={scratch}", f"torch=={version}")  # fmt: skip
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(scratch, [name for name in archive.namelist() if name.startswith(HEADERS)])
            (Path(scratch) / "torch" / "include").rename(folder)
    return folder


def flags(headers: Path) -> list[str]:
    """Of the compiler, as CMake gives them where they decide what is accepted."""
    target = re.search(r"TORCH_TARGET_VERSION=\w+", (ROOT / "cmake" / "TorchStable.cmake").read_text())
    assert target, "cmake/TorchStable.cmake names no oldest torch"
    words = ["-std=c++17", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", f"-D{target[0]}", "-DUSE_CUDA"]
    return [*words, f"-I{CSRC}", "-isystem", str(headers)]


def compiler() -> list[str]:
    return [os.environ.get("CXX", "c++"), "-fsyntax-only"]


def arm_compiler() -> list[str]:
    return [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-gnu", "-c"]


def complaints(command: list[str], sources: list[Path], headers: Path, jobs: int) -> dict[Path, str]:
    """What a compiler has against the sources that it does not accept."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(jobs) as pool:

        def check(source: Path) -> str:
            words = [*command, *flags(headers), "-o", f"{scratch}/{source.stem}.o", str(source)]
            return subprocess.run(words, check=False, stderr=subprocess.PIPE, text=True).stderr

        return {source: text for source, text in zip(sources, pool.map(check, sources), strict=True) if text}


def main() -> int:
    parser = argparse.ArgumentParser(description="Compiles against the headers of several versions of torch.")
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="default: the oldest and the newest")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="files at a time (default: all processors)")
    options = parser.parse_args()
    of_cpu = sorted([*CSRC.glob("ops/*.cpp"), *CSRC.glob("cpu/*.cpp")])
    sources = of_cpu + sorted(CSRC.glob("cuda/*_binding.cpp"))
    kernels = sorted({*CSRC.glob("cuda/**/*.*"), *CSRC.glob("core/*")} - set(sources) - {CSRC / "cuda" / "binding.h"})
    failed = [kernel for kernel in kernels if re.search(r"#include [<\"](torch|ATen|c10)/", kernel.read_text())]
    for kernel in failed:
        print(f"{kernel.relative_to(ROOT)}: includes torch, which kernels and mathematics must not", file=sys.stderr)

    def report(what: str, command: list[str], tried: list[Path], headers: Path) -> None:
        bad = complaints(command, tried, headers, options.jobs)
        print("".join(bad.values()), file=sys.stderr, end="")
        print(f"{what}: {len(tried) - len(bad)} of {len(tried)} sources compile")
        failed.extend(bad)

    for version in options.versions or [oldest(), newest()]:
        headers = headers_of(version)
        report(f"torch {version}", compiler(), sources, headers)
    report("without vector code", [*compiler(), "-DTUBELETX_PLAIN_CODE"], of_cpu, headers)
    report("for 64-bit ARM", arm_compiler(), of_cpu, headers)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
