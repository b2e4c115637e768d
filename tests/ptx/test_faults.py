"""The checks on translated PTX find what they are for, and nothing else."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "csrc"
NVCC = shutil.which("nvcc", path=None) or shutil.which("nvcc", path="/usr/local/cuda/bin")
# What a finding begins with; which of two threads that race is found depends on the order that they run in.
FAULTS = {
    "none": "",
    "read before write": "shared memory is read",
    "write before read": "shared memory is ",
    "within a warp its barrier is enough": "",
    "between warps it is not": "shared memory is read",
    "uninitialised": "shared memory is read that nothing wrote in ",
    "blocks that write one place": "global memory is written while others use it in ",
    "global read before write": "global memory is ",
    "the last block": "",
    "the last block without a fence": "global memory is read while another thread writes it in ",
}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NVCC is None, reason="nvcc is not found")]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """faults.cu, built as CMakeLists.txt builds the kernels."""
    folder = tmp_path_factory.mktemp("faults")
    assert NVCC is not None

    def run(*command: object) -> None:
        answer = subprocess.run(
            [str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr

    device = ["-gencode", "arch=compute_80,code=compute_80", "--keep", "-Xcompiler=-fPIC"]
    run(NVCC, "-std=c++17", "-O3", *device, "-c", HERE / "faults.cu", "-o", "faults.o")
    run(sys.executable, HERE / "translate.py", "faults.ptx", "translated.cpp")
    run("c++", "-std=c++17", "-O1", "-w", "-fPIC", "-fvisibility=hidden", "-shared", "-o", "faults.so", "faults.o",
        "translated.cpp", HERE / "device.cpp", f"-I{HERE}", f"-I{SOURCES}", f"-I{include_of_cuda(folder)}")  # fmt: skip
    loaded = ctypes.CDLL(str(folder / "faults.so"))
    for function in (loaded.run_with_fault, loaded.run_with_threads):
        function.restype = ctypes.c_char_p
        function.argtypes = [ctypes.c_int, ctypes.c_void_p]
    return loaded


def include_of_cuda(folder: Path) -> str:
    """Where nvcc finds its headers."""
    answer = subprocess.run(
        [str(NVCC), "--dryrun", "-c", "nothing.cu"], cwd=folder, capture_output=True, text=True, check=False
    )
    (line,) = (line for line in answer.stderr.splitlines() if line.startswith("#$ INCLUDES="))
    return line.partition("-I")[2].split('"')[0].strip()


@pytest.mark.parametrize("fault", FAULTS)
def test_finds_a_fault(library: ctypes.CDLL, fault: str) -> None:
    memory = (ctypes.c_int * 2048)()
    finding = library.run_with_fault(list(FAULTS).index(fault), memory).decode()
    assert finding.startswith(FAULTS[fault])
    assert bool(finding) == bool(FAULTS[fault])
    if fault == "the last block":
        assert list(memory[1088 : 1088 + 64]) == [3 * thread for thread in range(64)]


def test_refuses_a_launch_that_does_not_fit(library: ctypes.CDLL) -> None:
    memory = (ctypes.c_int * 2048)()
    assert "cannot be launched" in library.run_with_threads(2048, memory).decode()
    assert library.run_with_threads(64, memory) == b""
