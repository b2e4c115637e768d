"""What only the compiler at hand would show of csrc/cpu: code that another one takes otherwise."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Smooths a path that lies at every place of 8 bytes there is within a cache line, on the heap and on the stack.
SMOOTHING = """
#include <cstdio>
#include <vector>
#include "cpu/smooth.h"

int main() {
  using namespace tubeletx;
  const int64_t radius = 6, count = 43;
  const std::vector<double> taps(radius + 1, 1.0 / (2 * radius + 1));
  for (int64_t shift = 0; shift < 8; ++shift) {
    std::vector<double> room(shift + count + 2 * radius), out(shift + count);
    double* padded = room.data() + shift;
    double* smoothed = out.data() + shift;
    for (int64_t i = 0; i < count; ++i) padded[radius + i] = static_cast<double>((7 * i) % 11);
    reflect_into_padding(padded, count, radius);
    cpu::smooth(padded, taps.data(), radius, count, smoothed);
    for (int64_t i = 0; i < count; ++i) {
      if (smoothed[i] != smoothed_point(padded, taps.data(), radius, i)) return 1;
    }
    const Span span = cpu::wide_span_of(smoothed, count), expected = span_of(smoothed, count);
    if (span.low != expected.low || span.range != expected.range) return 2;
  }
  std::puts("good");
}
"""


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_vectors_at_any_address(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    source, program = tmp_path / "smoothing.cpp", tmp_path / "smoothing"
    source.write_text(SMOOTHING, encoding="utf-8")
    options = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", f"-I{ROOT / 'csrc'}"]
    subprocess.run([compiler, *options, str(source), "-o", str(program)], check=True)
    assert subprocess.run([program], check=True, capture_output=True, text=True).stdout == "good\n"
