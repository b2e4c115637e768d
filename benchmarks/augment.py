"""From decoded bytes to network input: random window, antialiased resize, flip, colour jitter, normalisation to floats.

Clips are 16 x 256 x 340 (as Kinetics is kept) or 16 x 128 x 171, bytes, channels last; what comes out is 16 x 112 x 112
float32. Every candidate does the same steps with the same windows, flips and factors, its results in fresh memory:

- ours: AugmentClips, one operator.
- torch: interpolate(antialias=True) of bytes, which has vector code of its own, and one affine map of the colours as a
  matrix product a clip, which is the least that torch can do; as this project's trainer did it.
- opencv: cv2.resize a frame and cv2.transform by the same affine map, then the normalisation in it. INTER_LINEAR where
  the window is not smaller than the output and INTER_AREA else, the nearest that it has to antialiasing.
- kornia: its VideoSequential of RandomResizedCrop, RandomHorizontalFlip, ColorJitter, Normalize, on floats.
- albumentations: ReplayCompose of the same, frame by frame with one draw a clip; where it is installed.

The floor on one thread is writing 2.4 MB of floats a clip, some 0.2 ms.

Everything runs on one thread, by its processor time. "loader" is the same in two workers of a DataLoader, wall time, so
that the bytes through the queue count too: ours sends the windows of the source as bytes and augments in the parent's
thread, or augments in the workers.

Run: python benchmarks/augment.py

With `--device cuda`: 64 clips at a time on a GPU, replayed as CUDA graphs over clips too many for its cache, beside
torch's interpolate and the same colour map, eager or (`--compiled`) compiled. The floor is the memory: the windows read,
the floats written, once each, at the speed of a device copy measured in the same run.
"""

from __future__ import annotations
