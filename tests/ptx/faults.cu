// Kernels with and without a planted fault, each found or let off by the checks of device.cpp.
#include <cuda_runtime.h>

namespace {

enum Fault : int {
  kNone,
  kReadBeforeWrite,
  kWriteBeforeRead,
  kWarpIsEnough,
  kWarpIsNotEnough,
  kUninitialised,
  kBlocksWriteOnePlace,
  kGlobalReadBeforeWrite,
  kLastBlock,
  kLastBlockWithoutFence,
};

/// As the project's kernels, these take one argument.
struct Arguments {
  int fault;
  int* global;
};

__global__ void exchange(const __grid_constant__ Arguments arguments) {
  const auto [fault, global] = arguments;
  __shared__ int shared[64];
  const int thread = static_cast<int>(threadIdx.x);
  if (fault != kUninitialised || thread > 0) shared[thread] = thread;
  if (fault == kWarpIsEnough) {
    __syncwarp();
    global[64 * blockIdx.x + thread] = shared[thread ^ 1];
    return;
  }
  if (fault == kWarpIsNotEnough) {
    __syncwarp();
  } else if (fault != kReadBeforeWrite) {
    __syncthreads();
  }
  const int other = shared[63 - thread];
  if (fault != kWriteBeforeRead) __syncthreads();
  shared[thread] = other;
  global[fault == kBlocksWriteOnePlace ? thread : 64 * blockIdx.x + thread] = other + static_cast<int>(blockIdx.x);
  if (fault == kGlobalReadBeforeWrite && global[64 * blockIdx.x + (thread ^ 32)] < 0) shared[thread] = 0;
}

__global__ void sum_by_the_last_block(const __grid_constant__ Arguments arguments) {
  const auto [fault, global] = arguments;
  __shared__ bool is_last;
  const int thread = static_cast<int>(threadIdx.x);
  int* counter = global + 1024;
  global[64 * blockIdx.x + thread] = thread;
  if (fault != kLastBlockWithoutFence) __threadfence();
  __syncthreads();
  if (thread == 0) is_last = atomicAdd(counter, 1) == static_cast<int>(gridDim.x) - 1;
  __syncthreads();
  if (!is_last) return;
  int sum = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) sum += global[64 * block + thread];
  global[1088 + thread] = sum;
}

}  // namespace

/// What is found in three blocks of 64 threads; empty if nothing is.
extern "C" __attribute__((visibility("default"))) const char* run_with_fault(int fault, int* global) {
  if (fault < kLastBlock) {
    exchange<<<3, 64>>>({fault, global});
  } else {
    sum_by_the_last_block<<<3, 64>>>({fault, global});
  }
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

extern "C" __attribute__((visibility("default"))) const char* run_with_threads(int threads, int* global) {
  exchange<<<1, threads>>>({kNone, global});
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}
