"""The library on processors without this one's vector units, under an emulator."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

EMULATOR = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
SCRIPT = """
import hashlib, torch
from tubeletx import AugmentClips, TubeletConfig, TubeletPair, TubeletSampler
from tubeletx.ops import draw_leaves
generator = torch.Generator().manual_seed(0)
shape = (2, 1, 4, 24, 28, 3)
clips = torch.randint(256, shape, dtype=torch.uint8, generator=generator).permute(0, 1, 5, 2, 3, 4)
pair = TubeletPair(TubeletConfig.preset("released"), seed=0)
digest = hashlib.sha256()
for sample in range(4):
    for clip in pair(*clips, torch.tensor([sample]))[:2]:
        digest.update(clip.numpy().tobytes())
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    (view,), _ = AugmentClips((20, 15), dtype=dtype)([clips[0]], torch.tensor([1]))
    digest.update(view.permute(0, 2, 3, 4, 1).contiguous().view(torch.uint8).numpy().tobytes())
digest.update(draw_leaves(torch.arange(2), num_frames=3, height=30, width=45).contiguous().numpy().tobytes())
for part in TubeletSampler()(torch.arange(2), num_frames=4, height=24, width=28).tracks((9, 7)):
    digest.update(part.numpy().tobytes())
print(torch.ops.tubeletx.limit_instructions(2), digest.hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64, of Debian's qemu-user")
@pytest.mark.parametrize(("processor", "instructions"), [("Nehalem", "0"), ("Haswell", "1")])
def test_loads_and_gives_the_same_bits(processor: str, instructions: str) -> None:
    def run(*emulator: str) -> list[str]:
        command = [*emulator, sys.executable, "-c", SCRIPT]
        # What is said there of this processor is not true of another.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=environment)
        return answer.stdout.split()

    assert EMULATOR is not None
    here, there = run(), run(EMULATOR, "-cpu", processor)
    assert there[0] == instructions
    assert there[1] == here[1]
