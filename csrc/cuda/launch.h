// How the kernels run. A kernel is a struct: its members are its arguments, and its call operator is the work of one
// block, written as a sequence of regions that all threads of the block go through, with a barrier after each. nvcc
// makes a launch of it; any other compiler makes a loop, so that the same grid, tiles and indices are checked on a
// machine without a GPU.
//
//   struct Kernel {
//     static constexpr int kThreads = 256;           // of a block
//     static constexpr int kResident = 4;            // optional: blocks that a multiprocessor must have room for
//     int64_t num_blocks() const;
//     int64_t shared_bytes() const;                  // of a block, 0 for none
//     template <typename Block>
//     TUBELETX_HOST_DEVICE void operator()(const Block& block, void* shared) const {
//       block.each_thread([&](int thread) { ... });  // reads block.index, writes to `shared` or to global memory
//     }
//   };
//
// What one region leaves for the next goes through shared or global memory, and a region is entered by all threads of
// a block or by none.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "core/macros.h"

struct CUstream_st;

namespace tubeletx::cuda {

using Stream = CUstream_st*;  // cudaStream_t, also where there is no CUDA header

#ifdef __CUDACC__

struct Block {
  int64_t index;

  template <typename Region>
  __host__ __device__ __forceinline__ void each_thread([[maybe_unused]] const Region& region) const {
#ifdef __CUDA_ARCH__
    region(static_cast<int>(threadIdx.x));
    __syncthreads();
#endif
  }
};

template <typename Kernel, typename = void>
inline constexpr int kResidentBlocks = 1;
template <typename Kernel>
inline constexpr int kResidentBlocks<Kernel, std::void_t<decltype(Kernel::kResident)>> = Kernel::kResident;

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, kResidentBlocks<Kernel>)
    run(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int64_t blocks = kernel.num_blocks();
  for (int64_t index = blockIdx.x; index < blocks; index += gridDim.x) kernel(Block{index}, shared);
}

inline void check_launch(cudaError_t error, const char* name) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(name) + ": " + cudaGetErrorString(error));
}

/// Queues the kernel on the stream of the current device; `name` is for the error.
template <typename Kernel>
void launch(const char* name, const Kernel& kernel, Stream stream) {
  constexpr int64_t kMaxGrid = INT32_MAX;
  constexpr int64_t kSharedWithoutAsking = 48 * 1024;
  const int64_t blocks = kernel.num_blocks();
  if (blocks == 0) return;
  // Whole vectors: the compiler may read the last numbers together with what follows.
  constexpr int64_t kVector = 16;
  const int64_t shared = (kernel.shared_bytes() + kVector - 1) / kVector * kVector;
  if (shared > kSharedWithoutAsking) {
    check_launch(
        cudaFuncSetAttribute(run<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), name);
  }
  run<Kernel><<<static_cast<unsigned>(std::min(blocks, kMaxGrid)), Kernel::kThreads, shared, stream>>>(kernel);
  check_launch(cudaGetLastError(), name);
}

#else

struct Block {
  int64_t index;
  int threads;

  /// Not in the order of the threads: a region must not rely on it.
  template <typename Region>
  void each_thread(const Region& region) const {
    constexpr int kStep = 7;  // has no factor in common with a whole number of warps
    for (int i = 0; i < threads; ++i) region((i * kStep + 3) % threads);
  }
};

template <typename Kernel>
void launch(const char*, const Kernel& kernel, Stream) {
  static_assert(Kernel::kThreads % 32 == 0 && Kernel::kThreads % 7 != 0, "the emulation must visit every thread");
  std::vector<std::max_align_t> shared(kernel.shared_bytes() / sizeof(std::max_align_t) + 1);
  for (int64_t index = kernel.num_blocks(); index-- > 0;) kernel(Block{index, Kernel::kThreads}, shared.data());
}

#endif

}  // namespace tubeletx::cuda
