"""`python -m tubeletx`: what was built and what can run here."""

from __future__ import annotations

import platform

import torch

from tubeletx._library import build_info, cuda_operators


def report() -> str:
    """Lines of `name: value` about the build, the running torch and the devices."""
    build = build_info()
    cuda_build = f"CUDA {build['cuda']}, architectures {build['cuda_architectures']}" if build["cuda"] else "CPU only"
    if cuda_operators and torch.cuda.is_available():
        runs_on = f"cpu, {torch.cuda.get_device_name()}"
    elif cuda_operators:
        runs_on = "cpu (torch sees no CUDA device)"
    elif torch.version.cuda is None:
        runs_on = "cpu (this torch was built without CUDA)"
    else:
        runs_on = "cpu (tubeletx was built without CUDA: put nvcc on PATH and reinstall with TUBELETX_CUDA=on)"
    lines = {
        "tubeletx": build["version"],
        "built": f"{cuda_build}, against torch {build['torch']}, with {build['compiler']}",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "operators run on": runs_on,
    }
    return "\n".join(f"{name + ':':<18}{value}" for name, value in lines.items())


if __name__ == "__main__":
    print(report())
