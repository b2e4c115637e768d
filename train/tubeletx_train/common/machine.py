"""What a run is made on, by name: results of another processor need not be the same."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

import tubeletx


def made_on(device: torch.device, precision: str) -> dict[str, str]:
    """What a file of results names: processor, precision, torch and this package."""
    return {
        "processor": processor_name(device),
        "precision": precision,
        "torch": str(torch.__version__),
        "tubeletx": tubeletx.__version__,
    }


def processor_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with the bfloat16 arithmetic that torch finds there."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    units = f"{bfloat16_units() or 'no'} bfloat16"
    # oneDNN then takes the kernels of an older processor.
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{_model_name()}, {units}" + (f", ONEDNN_MAX_CPU_ISA={limit}" if limit else "")


def bfloat16_units() -> str | None:
    """What multiplies in bfloat16 on this machine's CPU: "AMX", "AVX-512", or None."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX-512" if torch.cpu._is_avx512_bf16_supported() else None


def _model_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
