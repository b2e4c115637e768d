"""The CUDA kernels run on the host, block by block, against the CPU operators: the same grid, tiles and indices."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch
from ops.test_crop_patches import draw as draw_crop

import tubeletx

EMULATION = pathlib.Path(tubeletx.__file__).with_name("_C_emulation.so")
if EMULATION.exists():
    torch.ops.load_library(EMULATION)
pytestmark = pytest.mark.skipif(not EMULATION.exists(), reason="built without TUBELETX_EMULATION")
emulated = torch.ops.tubeletx_emulation
cpu = torch.ops.tubeletx


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_crop_patches(dtype: torch.dtype, channels: int) -> None:
    for seed in range(3):
        clip, frame, box, (height, width) = draw_crop(seed, dtype, channels=channels)
        for layout in (clip, clip.contiguous(memory_format=torch.channels_last_3d), clip.mT.contiguous().mT):
            for size in ((height, width), (40, 37)):
                got = emulated.crop_patches(layout, frame, box, *size)
                assert torch.equal(got, cpu.crop_patches(clip, frame, box, *size))
                assert got.movedim(2, -1).is_contiguous()
