"""What `cmake/Cuda.cmake` decides; it runs as a script up to where it enables the language."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RULE = Path(__file__).parents[2] / "cmake" / "Cuda.cmake"
CMAKE = shutil.which("cmake", path=Path(sys.executable).parent) or shutil.which("cmake")
ENABLED = "enable_language"


def decide(choice: str, *, nvcc: str, torch_cuda: str) -> tuple[int, str]:
    given = {"TUBELETX_CUDA": choice, "TUBELETX_NVCC": nvcc, "TORCH_CUDA_VERSION": torch_cuda, "TORCH_VERSION": "2.13"}
    given["CMAKE_CUDA_ARCHITECTURES"] = "90"
    command = [CMAKE, *(f"-D{name}={value}" for name, value in given.items()), "-P", RULE]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.returncode, " ".join((answer.stdout + answer.stderr).split())


@pytest.mark.parametrize("choice", ["auto", "AUTO"])
def test_auto_leaves_cuda_out_where_torch_could_not_load_it(choice):
    status, text = decide(choice, nvcc="/usr/bin/nvcc", torch_cuda="")
    assert status == 0
    assert "nvcc was found, but torch 2.13 has no CUDA" in text
    assert "CUDA operators OFF" in text


def test_auto_leaves_cuda_out_without_nvcc():
    status, text = decide("auto", nvcc="nvcc-NOTFOUND", torch_cuda="13.0")
    assert status == 0
    assert "CUDA operators OFF" in text


@pytest.mark.parametrize(("choice", "torch_cuda"), [("auto", "13.0"), ("on", "13.0"), ("on", "")])
def test_cuda_is_built_where_both_have_it_and_where_it_is_asked_for(choice, torch_cuda):
    assert ENABLED in decide(choice, nvcc="/usr/bin/nvcc", torch_cuda=torch_cuda)[1]


def test_on_without_nvcc_is_an_error():
    status, text = decide("on", nvcc="nvcc-NOTFOUND", torch_cuda="13.0")
    assert status != 0
    assert "TUBELETX_CUDA is on but nvcc was not found" in text


def test_another_word_is_an_error():
    status, text = decide("yes", nvcc="", torch_cuda="")
    assert status != 0
    assert "TUBELETX_CUDA is 'yes'; it must be auto, on or off" in text
