// What a kernel asks of the GPU, in one place: who a thread is, exchange within a warp and a block, asynchronous
// copies, products on the matrix units, the launch. Everything else in a kernel is plain C++, so a host compiler that
// is given these few functions (emulated_device.h) runs the kernels as they stand.
//
// A kernel is a function of one struct, its arguments. Most are structs that do the work themselves, and then `run` is
// the function:
//
//   struct Kernel {
//     static constexpr int kThreads = 256;           // of a block
//     static constexpr int kResident = 4;            // optional: blocks that a multiprocessor must have room for
//     int64_t num_blocks() const;
//     int64_t shared_bytes() const;                  // of a block, 0 for none
//     TUBELETX_DEVICE void operator()(int64_t block) const;  // what a thread does
//   };
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "core/blend.h"
#include "cuda/stream.h"

#ifndef __CUDACC__
#include "cuda/emulated_device.h"
#else

#define TUBELETX_DEVICE __device__ __forceinline__
#define TUBELETX_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define TUBELETX_KERNEL_ARGUMENT const __grid_constant__

namespace tubeletx::cuda {

inline void check_launch(cudaError_t error, const char* name) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(name) + ": " + cudaGetErrorString(error));
}

}  // namespace tubeletx::cuda

namespace tubeletx::device {

using cuda::check_launch;

TUBELETX_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
TUBELETX_DEVICE int64_t block_x() { return blockIdx.x; }
TUBELETX_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
TUBELETX_DEVICE int64_t blocks_of_grid() { return gridDim.x; }

/// Shared memory whose size the launch sets.
TUBELETX_DEVICE void* shared_memory() {
  extern __shared__ int4 tubeletx_shared_memory[];
  return tubeletx_shared_memory;
}

TUBELETX_DEVICE void synchronize_block() { __syncthreads(); }
TUBELETX_DEVICE void synchronize_warp() { __syncwarp(); }

// All 32 threads of the warp must call these together.
template <typename T>
TUBELETX_DEVICE T shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
template <typename T>
TUBELETX_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
TUBELETX_DEVICE uint32_t ballot(bool predicate) { return __ballot_sync(0xffffffffu, predicate); }

TUBELETX_DEVICE int lowest_bit(uint32_t bits) { return __ffs(static_cast<int>(bits)) - 1; }
TUBELETX_DEVICE int lowest_bit(uint64_t bits) { return __ffsll(static_cast<long long>(bits)) - 1; }
TUBELETX_DEVICE int count_bits(uint32_t bits) { return __popc(bits); }

/// 2^x to two units in the last place; 0 for an x below -126.
TUBELETX_DEVICE float power_of_two(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}
TUBELETX_DEVICE double power_of_two(double x) { return exp2(x); }

/// a b + c within 0 and 1, and 0 for what is no number.
TUBELETX_DEVICE float saturated_fma(float a, float b, float c) {
  float result;
  asm("fma.rn.sat.f32 %0, %1, %2, %3;" : "=f"(result) : "f"(a), "f"(b), "f"(c));
  return result;
}

/// Copies 16 bytes to shared memory, or zeros where `valid` is false, in the background.
TUBELETX_DEVICE void copy_16_bytes(void* shared, const void* global, bool valid) {
  const uint32_t target = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(global), "r"(bytes) : "memory");
}
/// Closes the group of this thread's copies since the last one.
TUBELETX_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits for all of this thread's groups but the last `kPending`.
template <int kPending>
TUBELETX_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Loads four 8 x 8 matrices of 16-bit numbers; thread i names the row i % 8 of matrix i / 8, 16 bytes in shared
/// memory. The thread gets, of each matrix, the two numbers from column 2 (i % 4) on in row i / 4.
TUBELETX_DEVICE void load_matrices(uint32_t (&matrices)[4], const void* row) {
  const uint32_t source = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(source)
               : "memory");
}
/// The same, each matrix transposed.
TUBELETX_DEVICE void load_transposed_matrices(uint32_t (&matrices)[4], const void* row) {
  const uint32_t source = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(source)
               : "memory");
}

/// sums += left right for left (16, 16) and right (16, 8), in the layout of mma.m16n8k16.
template <typename Element>
TUBELETX_DEVICE void multiply_accumulate(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0,
                                         uint32_t right_1);

template <>
TUBELETX_DEVICE void multiply_accumulate<Half>(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0,
                                               uint32_t right_1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}
template <>
TUBELETX_DEVICE void multiply_accumulate<BFloat16>(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0,
                                                   uint32_t right_1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}

/// The same as to_real, in one instruction.
TUBELETX_DEVICE float widen(Half number) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(number.bits));
  return wide;
}

/// Two numbers rounded to 16 bits, the first in the low half.
template <typename Element>
TUBELETX_DEVICE uint32_t pack(float low, float high);

template <>
TUBELETX_DEVICE uint32_t pack<Half>(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
template <>
TUBELETX_DEVICE uint32_t pack<BFloat16>(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

/// Lets the next kernel of the stream start as soon as all blocks are here, if it was launched to start early.
TUBELETX_DEVICE void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/// Returns when the kernels before this one in the stream are over and what they wrote can be seen.
TUBELETX_DEVICE void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// When a kernel starts: after the one before it in the stream, or, where that is possible, while that still runs. The
/// latter is for kernels that wait_for_previous_kernel before they read or write.
enum class Start { kInOrder, kEarly };

/// Whether the code of a kernel for the current device knows how to wait, and graphs take it over. Asked once.
inline bool can_start_early(const char* name, const void* kernel) {
  constexpr int kHasWaits = 90, kCapturesEarlyStarts = 12030;
  static thread_local std::map<std::pair<int, const void*>, bool> known;
  int device = 0;
  check_launch(cudaGetDevice(&device), name);
  const std::pair key(device, kernel);
  if (const auto found = known.find(key); found != known.end()) return found->second;
  int driver = 0;
  check_launch(cudaDriverGetVersion(&driver), name);
  cudaFuncAttributes code{};
  check_launch(cudaFuncGetAttributes(&code, kernel), name);
  const bool captures = driver >= kCapturesEarlyStarts && CUDART_VERSION >= kCapturesEarlyStarts;
  return known[key] = code.ptxVersion >= kHasWaits && captures;
}

/// Queues the kernel on the stream of the current device; `name` is for the error.
template <typename Arguments>
void launch(const char* name, void (*kernel)(Arguments), int64_t blocks_x, int64_t blocks_y, int threads,
            int64_t shared_bytes, const Arguments& arguments, cuda::Stream stream, Start start = Start::kInOrder) {
  constexpr int64_t kSharedWithoutAsking = 48 * 1024, kVector = 16;
  // Whole vectors: the compiler may read the last numbers together with what follows.
  shared_bytes = (shared_bytes + kVector - 1) / kVector * kVector;
  if (shared_bytes > kSharedWithoutAsking) {
    check_launch(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
        name);
  }
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks_x), static_cast<unsigned>(blocks_y));
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = &early;
  const void* code = reinterpret_cast<const void*>(kernel);
  config.numAttrs = start == Start::kEarly && can_start_early(name, code) ? 1 : 0;
  void* pointers[] = {const_cast<Arguments*>(&arguments)};
  check_launch(cudaLaunchKernelExC(&config, code, pointers), name);
}

}  // namespace tubeletx::device

#endif

namespace tubeletx::device {

constexpr int kWarp = 32;

template <typename Kernel, typename = void>
inline constexpr int kResidentBlocks = 1;
template <typename Kernel>
inline constexpr int kResidentBlocks<Kernel, std::void_t<decltype(Kernel::kResident)>> = Kernel::kResident;

template <typename Kernel>
TUBELETX_KERNEL(Kernel::kThreads, kResidentBlocks<Kernel>)
run(TUBELETX_KERNEL_ARGUMENT Kernel kernel) {
  kernel(block_x());
}

/// Queues a kernel that does the work itself.
template <typename Kernel>
void launch(const char* name, const Kernel& kernel, cuda::Stream stream, Start start = Start::kInOrder) {
  constexpr int64_t kMostBlocks = 0x7fffffff;
  const int64_t blocks = kernel.num_blocks();
  if (blocks > kMostBlocks) throw std::runtime_error(std::string(name) + ": too much work for one call");
  if (blocks == 0) return;
  launch(name, run<Kernel>, blocks, 1, Kernel::kThreads, kernel.shared_bytes(), kernel, stream, start);
}

/// Sum over the warp, in one order and with the same bits in every thread.
template <typename T>
TUBELETX_DEVICE T warp_sum(T value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

/// Largest value of the warp that is a number, if there is one.
template <typename T>
TUBELETX_DEVICE T warp_maximum(T value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const T other = shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

}  // namespace tubeletx::device
