// What a kernel asks of a GPU of compute capability 9.0 beyond device.h: products of a warpgroup, copies of boxes of a
// matrix in the background, and the barriers that tell of them. Matrices in shared memory stand in panels of 64 columns
// of 16 bits; a panel is 1024-byte aligned, its rows of 128 bytes are dense, and of the eight 16-byte pieces of row r,
// piece p stands in place p ^ (r % 8), so that rows and columns alike lie in different banks.
#pragma once

#include <atomic>
#include <cstdint>

#include "cuda/device.h"

#ifdef __CUDACC__
#include <cuda.h>
#else
#include "cuda/infonce/emulated_warpgroup.h"
#endif

namespace tubeletx::device {

constexpr int kWarpgroup = 4 * kWarp;
constexpr int kPanelColumns = 64;
constexpr int kPanelAlignment = 1024;

/// Where piece `piece` of a row of a panel stands, in elements of 16 bits from the panel's start.
TUBELETX_DEVICE int panel_offset(int row, int piece) { return row * kPanelColumns + (piece ^ row % 8) * 8; }

#ifdef __CUDACC__

// The instructions exist for compute capability 9.0 alone, as "90a" among the architectures of the build.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TUBELETX_HAS_WARPGROUPS
#endif

/// A (rows, columns) matrix in global memory, of which boxes are copied.
using MatrixMap = CUtensorMap;

/// Opens when all arrivals and all bytes that it was told to expect are there; its phases are counted by their parity.
struct TransferBarrier {
  uint64_t state;
};

TUBELETX_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Shared memory of a fixed size.
template <typename T>
TUBELETX_DEVICE T& fixed_shared_memory() {
  __shared__ T memory;
  return memory;
}

#ifdef TUBELETX_HAS_WARPGROUPS

TUBELETX_DEVICE void initialise(TransferBarrier& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}
TUBELETX_DEVICE void arrive(TransferBarrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}
TUBELETX_DEVICE void arrive_and_expect(TransferBarrier& barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
               : "memory");
}
/// Returns once the phase of this parity is over.
TUBELETX_DEVICE void wait(TransferBarrier& barrier, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:\n"
      "}" ::"r"(shared_address(&barrier)),
      "r"(parity)
      : "memory");
}

/// Shows this thread's writes to shared memory, barriers included, to products and copies of boxes.
TUBELETX_DEVICE void publish_shared_memory() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Copies a box from (row, column) on into a panel, zeros past the ends of the matrix.
TUBELETX_DEVICE void copy_box(void* panel, const MatrixMap& map, int row, int column, TransferBarrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
          shared_address(panel)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier))
      : "memory");
}

/// Registers of a thread move between the warpgroups of a block.
template <int kCount>
TUBELETX_DEVICE void keep_few_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
TUBELETX_DEVICE void take_more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

/// Rows of a panel, or its columns, as the factor of a product.
using Factor = uint64_t;

/// Of the panel's rows, the 16 columns from `first` on; or of its columns, the 16 rows from `first` on, whose address
/// is given.
TUBELETX_DEVICE Factor factor_of(const void* first) {
  constexpr uint64_t kSwizzle128Bytes = uint64_t{1} << 62;
  constexpr uint64_t kEightRows = uint64_t{1024 / 16} << 32;
  constexpr uint64_t kUnused = uint64_t{1} << 16;
  return kSwizzle128Bytes | kEightRows | kUnused | (shared_address(first) & 0x3ffff) >> 4;
}

/// The factor `bytes` further on in shared memory.
TUBELETX_DEVICE Factor advance(Factor factor, int bytes) { return factor + bytes / 16; }

/// Before products that read registers written since the last ones.
TUBELETX_DEVICE void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/// Closes the group of the products since the last one.
TUBELETX_DEVICE void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits for all groups but the last `kPending`.
template <int kPending>
TUBELETX_DEVICE void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Tells the compiler that sums in flight change here.
template <int kTiles>
TUBELETX_DEVICE void touch(float (&sums)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) asm volatile("" : "+f"(sums[n][c])::"memory");
  }
}

/// sums = left right^T, or that added to them, for 16 columns of left (64 rows) and right (128 rows); in the
/// background.
template <typename Element>
TUBELETX_DEVICE void multiply_rows(float (&sums)[16][4], Factor left, Factor right, bool add);

/// sums += left right for left (64, 16) in registers and right (16, 64) in a panel; in the background.
template <typename Element>
TUBELETX_DEVICE void multiply_columns(float (&sums)[8][4], const uint32_t (&left)[4], Factor right);

#define TUBELETX_PLACES_32                                                                               \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define TUBELETX_PLACES_64                                                                               \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, " \
  "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, " \
  "%62, %63"
#define TUBELETX_SUMS_4(n) "+f"(sums[n][0]), "+f"(sums[n][1]), "+f"(sums[n][2]), "+f"(sums[n][3])
#define TUBELETX_SUMS_16(n) TUBELETX_SUMS_4(n), TUBELETX_SUMS_4(n + 1), TUBELETX_SUMS_4(n + 2), TUBELETX_SUMS_4(n + 3)
#define TUBELETX_SUMS_32 TUBELETX_SUMS_16(0), TUBELETX_SUMS_16(4)
#define TUBELETX_SUMS_64 TUBELETX_SUMS_32, TUBELETX_SUMS_16(8), TUBELETX_SUMS_16(12)
#define TUBELETX_PRODUCTS(Element, type)                                                                         \
  template <>                                                                                                    \
  TUBELETX_DEVICE void multiply_rows<Element>(float (&sums)[16][4], Factor left, Factor right, bool add) {       \
    asm volatile(                                                                                                \
        "{\n"                                                                                                    \
        ".reg .pred add;\n"                                                                                      \
        "setp.ne.b32 add, %66, 0;\n"                                                                             \
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" TUBELETX_PLACES_64                     \
        "}, %64, %65, add, "                                                                                     \
        "1, 1, 0, 0;\n"                                                                                          \
        "}"                                                                                                      \
        : TUBELETX_SUMS_64                                                                                       \
        : "l"(left), "l"(right), "r"(static_cast<int>(add)));                                                    \
  }                                                                                                              \
  template <>                                                                                                    \
  TUBELETX_DEVICE void multiply_columns<Element>(float (&sums)[8][4], const uint32_t (&left)[4], Factor right) { \
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" TUBELETX_PLACES_32             \
                 "}, "                                                                                           \
                 "{%32, %33, %34, %35}, %36, 1, 1, 1, 1;"                                                        \
                 : TUBELETX_SUMS_32                                                                              \
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right));                          \
  }
TUBELETX_PRODUCTS(Half, "f16")
TUBELETX_PRODUCTS(BFloat16, "bf16")
#undef TUBELETX_PRODUCTS
#undef TUBELETX_SUMS_64
#undef TUBELETX_SUMS_32
#undef TUBELETX_SUMS_16
#undef TUBELETX_SUMS_4
#undef TUBELETX_PLACES_64
#undef TUBELETX_PLACES_32

#endif  // TUBELETX_HAS_WARPGROUPS

/// The map of a dense-rowed matrix of 16-bit numbers, for boxes of `box_rows` rows and the columns of a panel.
/// `row_stride` counts elements, a multiple of 8; `data` is 16-byte aligned.
inline MatrixMap map_matrix(const char* name, bool is_half, const void* data, int64_t rows, int64_t columns,
                            int64_t row_stride, int box_rows) {
  // Through the runtime, so that the library needs no driver to be loaded.
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  cuda::check_launch(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found), name);
#else
  cuda::check_launch(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found), name);
#endif
  if (found != cudaDriverEntryPointSuccess) cuda::check_launch(cudaErrorNotSupported, name);
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);

  MatrixMap map;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(row_stride) * sizeof(uint16_t)};
  const cuuint32_t box[] = {kPanelColumns, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[] = {1, 1};
  const CUresult result =
      encode(&map, is_half ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
             const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) cuda::check_launch(cudaErrorInvalidValue, name);
  return map;
}

/// Whether the kernel's body was compiled for the current device: alone there does it have fixed shared memory.
template <typename Arguments>
bool has_fixed_shared_memory(void (*kernel)(Arguments), const char* name) {
  constexpr int kMostDevices = 64;
  enum Answer : int { kUnknown, kYes, kNo };
  static std::atomic<int> answers[kMostDevices];
  int device = 0;
  cuda::check_launch(cudaGetDevice(&device), name);
  if (device >= kMostDevices) return false;
  int answer = answers[device].load(std::memory_order_relaxed);
  if (answer == kUnknown) {
    cudaFuncAttributes attributes{};
    cuda::check_launch(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)), name);
    answer = attributes.sharedSizeBytes > 0 ? kYes : kNo;
    answers[device].store(answer, std::memory_order_relaxed);
  }
  return answer == kYes;
}
#endif  // __CUDACC__

/// The launch's shared memory, from the first multiple of `kAlignment` on.
template <int kAlignment>
TUBELETX_DEVICE void* aligned_shared_memory() {
  char* memory = static_cast<char*>(shared_memory());
  return memory + (kAlignment - reinterpret_cast<uintptr_t>(memory) % kAlignment) % kAlignment;
}

}  // namespace tubeletx::device
