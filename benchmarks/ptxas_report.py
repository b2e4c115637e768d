"""Registers, shared memory, stack and spills of every CUDA kernel, from `nvcc -Xptxas -v`; needs no GPU.

Ends with an error where a kernel spills registers or keeps an array in local memory (a stack frame). The float64
instances are let off: they are there to check gradients.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLAGS = ("-std=c++17", "-O3", "--fmad=false", "-cubin", "-Xptxas", "-v", "-o", "/dev/null")

_KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Usage:
    """What one kernel takes; bytes but for the registers of a thread."""

    kernel: str
    registers: int
    shared: int
    stack: int
    spills: int


def kernel_name(symbol: str) -> str:
    """The kernel struct of a mangled instance of `run`."""
    text = subprocess.run(["c++filt", symbol], capture_output=True, text=True, check=True).stdout.strip()
    text = re.sub(r"\(anonymous namespace\)::|tubeletx::((cuda|device)::)?", "", text)
    inner = re.fullmatch(r"void run<(.*?) ?>\(\1\)", text)
    return inner[1] if inner else text.removeprefix("void ").split("(")[0]


def usage_of(source: pathlib.Path, nvcc: str, architecture: str) -> list[Usage]:
    """Compiles one file and reads the report of the assembler."""
    command = [
        nvcc,
        *FLAGS,
        f"-gencode=arch=compute_{architecture},code=sm_{architecture}",
        f"-I{ROOT / 'csrc'}",
        str(source),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(result.stderr)
    rows = []
    for match in _KERNEL.finditer(result.stderr):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        spills = int(match["stores"]) + int(match["loads"])
        rows.append(
            Usage(
                kernel_name(match["name"]),
                int(match["registers"]),
                int(shared[1]) if shared else 0,
                int(match["stack"]),
                spills,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="90a", help="as nvcc has it behind sm_")
    parser.add_argument("stems", nargs="*", help="files of csrc/cuda, without .cu; all by default")
    arguments = parser.parse_args()
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    sources = sorted((ROOT / "csrc/cuda").rglob("*.cu"))
    rows = [
        usage
        for source in sources
        if not arguments.stems or source.stem in arguments.stems
        for usage in usage_of(source, nvcc, arguments.architecture)
    ]
    print(f"{'sm_' + arguments.architecture:<56}{'registers':>10}{'static shared':>15}{'stack':>7}{'spills':>8}")
    for row in rows:
        print(f"{row.kernel:<56}{row.registers:>10}{row.shared:>15}{row.stack:>7}{row.spills:>8}")
    bad = [row.kernel for row in rows if (row.stack or row.spills) and "<double>" not in row.kernel]
    if bad:
        sys.exit("local memory is used by: " + ", ".join(bad))


if __name__ == "__main__":
    main()
