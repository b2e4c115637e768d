#!/usr/bin/env bash
# Builds with CUDA, tests, sanitizes and benchmarks on a machine with a GPU and without network; prints a table last.
#
#   benchmarks/gpu_check.sh fetch FOLDER   with network: downloads what the machine may lack (Python 3.12, x86-64 Linux)
#   WHEELS=FOLDER benchmarks/gpu_check.sh  on the machine, which has torch with CUDA, nvcc and a C++ compiler
#
# ARCHITECTURES (default: that of the first GPU), OUT (default: build/gpu_check) and SECONDS_IN_ALL (default: 540; steps
# that find no time left are skipped, which counts as a failure) may be set. Nothing is installed
# outside of OUT, but for the compiled libraries, which go beside the Python sources.
set -uo pipefail
cd "$(dirname "$0")/.."

# Module=package; those after cv2 are what the trainer imports.
PACKAGES=(cmake=cmake ninja=ninja pybind11=pybind11 pytest=pytest hypothesis=hypothesis scipy=scipy numpy=numpy
  cv2=opencv-python-headless decord=decord docstring_parser=docstring-parser imageio_ffmpeg=imageio-ffmpeg
  jsonargparse=jsonargparse PIL=pillow safetensors=safetensors tqdm=tqdm yaml=pyyaml)
if [ "${1:-}" = fetch ]; then
  exec python3 -m pip download --dest "$2" --only-binary :all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 \
    "${PACKAGES[@]#*=}"
fi

OUT=$(realpath -m "${OUT:-build/gpu_check}")
mkdir -p "$OUT/site"
export PYTHONPATH="$PWD:$PWD/train:$PWD/tests:$OUT/site"
export PATH="$OUT/site/bin:$PATH:/usr/local/cuda/bin"
ROWS=()

# step NAME SECONDS COMMAND...: runs it, keeps its output in OUT/NAME.log and a row for the table.
step() {
  local name=$1 limit=$2 start=$SECONDS code left=$((${SECONDS_IN_ALL:-540} - SECONDS))
  shift 2
  echo "== $name"
  if [ $left -le 0 ]; then
    ROWS+=("$(printf '%-24s FAILED     no time left' "$name")")
    return 1
  fi
  if [ "$limit" -gt $left ]; then limit=$left; fi
  timeout "$limit" "$@" >"$OUT/$name.log" 2>&1
  code=$?
  tail -n 15 "$OUT/$name.log"
  ROWS+=("$(printf '%-24s %-10s %4d s   %s' "$name" "$([ $code = 0 ] && echo ok || echo "FAILED($code)")" \
    $((SECONDS - start)) "$(tail -n 1 "$OUT/$name.log")")")
  return $code
}

packages() {
  local missing=() pair
  for pair in "${PACKAGES[@]}"; do
    python3 -c "import ${pair%%=*}" 2>/dev/null || missing+=("${pair#*=}")
  done
  if [ ${#missing[@]} = 0 ]; then echo "nothing missing"; return; fi
  python3 -m pip install --quiet --no-index --find-links "${WHEELS:?missing: ${missing[*]}; set WHEELS}" \
    --target "$OUT/site" "${missing[@]}" && echo "installed: ${missing[*]}"
}

build() {
  local generator=()
  command -v ninja >/dev/null && generator=(-G Ninja)
  cmake -S . -B "$OUT/cmake" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DTUBELETX_CUDA=on -DTUBELETX_EMULATION=ON \
    -DCMAKE_CUDA_ARCHITECTURES="$ARCHITECTURES" -DPython_EXECUTABLE="$(command -v python3)" \
    -Dpybind11_DIR="$(python3 -m pybind11 --cmakedir)" -DSKBUILD_PROJECT_VERSION=0.1.0 \
    -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$PWD/tubeletx" &&
    cmake --build "$OUT/cmake" --parallel 16
}

# A small selection: every kernel, shared memory, runs of pixels, bands of rows, clips with views of their own.
SELECTION="interpolate or smooth_path or sample_tubelets or many_frames or thin_far or (crop_patches and uint8) \
  or (over_drawn_calls and uint8) or (backward and float32) or any_strides or (equals_the_reference and bfloat16)"
sanitize() {
  # Without the cache every tensor is an allocation of its own, with ends that can be overrun.
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$1" --error-exitcode 9 \
    python3 -m pytest -q -m cuda tests/cuda -k "$SELECTION" -p no:cacheprovider
}

python3 -c "import torch; assert torch.cuda.is_available()" || { echo "torch sees no GPU" >&2; exit 1; }
ARCHITECTURES=${ARCHITECTURES:-$(python3 -c "import torch; print('%d%d-real' % torch.cuda.get_device_capability())")}
step packages 60 packages && step build 200 build || exit 1
step self_test 60 python3 -m tubeletx
step emulated 60 python3 -m pytest -q tests/cuda -m "not cuda"
step cuda 150 python3 -m pytest -q tests/cuda -m cuda
for tool in memcheck racecheck initcheck; do step "$tool" 100 sanitize "$tool"; done
for name in sample paste infonce train_step; do
  grep -q -- --device "benchmarks/$name.py" && step "benchmark_$name" 100 python3 "benchmarks/$name.py" --device cuda
done

echo
python3 -c "import torch; print(torch.cuda.get_device_name(), 'torch', torch.__version__)"
printf '%s\n' "${ROWS[@]}"
grep -hE '^B=|share|ratio|to plain|of our step' "$OUT"/benchmark_*.log 2>/dev/null
[[ "${ROWS[*]}" != *FAILED* ]]
