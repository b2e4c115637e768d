"""`python -m tubeletx`: what was built, what can run here, and whether it gives the right results."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

import torch

from tubeletx._library import build_info, cuda_operators
from tubeletx._self_test import CHECKS, seconds_of_a_pair

_ADVICE_CUDA = "put nvcc on PATH and reinstall: TUBELETX_CUDA=on pip install --no-build-isolation --force-reinstall ."
_ADVICE_WRONG = (
    "reinstall from clean sources (rm -rf build; pip install --no-build-isolation --force-reinstall .); if it stays, "
    "report the lines above"
)


def report() -> dict[str, str]:
    """What was built and what it runs on, by name."""
    build = build_info()
    cuda_build = f"CUDA {build['cuda']}, architectures {build['cuda_architectures']}" if build["cuda"] else "CPU only"
    return {
        "tubeletx": build["version"],
        "built": f"{cuda_build}, against torch {build['torch']}, with compiler {build['compiler']}",
        "torch": f"{torch.__version__}, " + (f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"),
        "python": platform.python_version(),
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} threads",
        "GPUs": ", ".join(map(_gpu, range(torch.cuda.device_count()))) or "none that torch sees",
        "operators run on": "cpu" + (", cuda" if _runs_on_cuda() else ""),
    }


def problems() -> Iterator[str]:
    """What is wrong, and what to do about it; runs the operators on every kind of device that they should run on."""
    if torch.cuda.is_available() and not cuda_operators:
        yield f"torch sees a GPU, but tubeletx was built without CUDA: {_ADVICE_CUDA}"
    for device in _devices():
        for check in CHECKS:
            try:
                check(device)
            except AssertionError as error:
                yield f"{device}: wrong result, {error}: {_ADVICE_WRONG}"
            except RuntimeError as error:  # such as: no kernel image for this architecture
                yield f"{device}: {type(error).__name__}: {error}: {_advice_for_failure(device)}"


def main() -> int:
    """Prints the report, the result of the self-test and a time; returns 1 if something is wrong."""
    lines = report()
    found = list(problems())
    lines["self-test"] = "failed" if found else "passed: sampling, cropping, pasting, paths, loss, against NumPy"
    if not found:
        for device in _devices():
            pair, copy = seconds_of_a_pair(device)
            lines[f"a pair, {device}"] = (
                f"{pair * 1e6:.0f} us for two clips of 16 x 112 x 112, drawn, cropped and pasted; "
                f"a copy of the bytes written: {copy * 1e6:.1f} us"
            )
    for name, value in lines.items():
        print(f"{name + ':':<18}{value}")
    for problem in found:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if found else 0


def _devices() -> list[torch.device]:
    return [torch.device("cpu")] + ([torch.device("cuda")] if _runs_on_cuda() else [])


def _runs_on_cuda() -> bool:
    return cuda_operators and torch.cuda.is_available()


def _gpu(index: int) -> str:
    major, minor = torch.cuda.get_device_capability(index)
    return f"{torch.cuda.get_device_name(index)} (architecture {major}{minor})"


def _advice_for_failure(device: torch.device) -> str:
    if device.type == "cpu":
        return _ADVICE_WRONG
    major, minor = torch.cuda.get_device_capability(device)
    return (
        f"reinstall for this GPU: CMAKE_ARGS=-DCMAKE_CUDA_ARCHITECTURES={major}{minor} TUBELETX_CUDA=on "
        "pip install --no-build-isolation --force-reinstall ."
    )


if __name__ == "__main__":
    sys.exit(main())
