// The device under the translated kernels, on the fibres of the emulation (csrc/cuda/emulated_device.h), and the CUDA
// runtime that nvcc's host code calls. Beside what the emulation checks, every access is checked for its alignment, for
// the bounds of shared memory, for reading shared memory that nothing wrote, and for its order: of two threads that
// touch a byte, one of them writing, a barrier must lie between.
//
// Environment: TUBELETX_EMULATED_MULTIPROCESSORS, as in the emulation.
#include "device.h"

#include <cuda_runtime_api.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "core/blend.h"
#include "cuda/device.h"

namespace tubeletx::ptx {
namespace {

namespace emulation = device::emulation;

constexpr uint64_t kSharedBase = 1024;
constexpr size_t kSharedWithoutAsking = 48 * 1024;
constexpr int kWarp = 32;

enum Others : uint64_t { kNobody, kLanes, kWarps, kBlocks };

/// Who touched a byte, and how many barriers of its block and warp it had passed.
struct Access {
  uint64_t is_set : 1;
  uint64_t others : 2;  // who else has, of those that no barrier tells apart
  uint64_t block : 24;
  uint64_t thread : 10;
  uint64_t block_barriers : 14;
  uint64_t warp_barriers : 14;
};

struct Bytes {
  Access writer{};
  Access reader{};
};

constexpr uint64_t kPage = 4096;

/// A launch, and the block of it that runs.
struct Launch {
  std::string name;
  const char* parameters = nullptr;
  size_t parameter_bytes = 0;
  uint32_t blocks_x = 0, blocks_y = 0;
  int threads = 0;
  uint64_t fixed_bytes = 0, shared_bytes = 0;
  std::vector<Bytes> shared;
  std::vector<uint64_t> warp_barriers;  // by thread
  std::unordered_map<uint64_t, std::unique_ptr<std::array<Bytes, kPage>>> pages;
  uint64_t last_page = ~0ull;
  std::array<Bytes, kPage>* last = nullptr;
  // Blocks that let others see what they wrote, and whether this block has looked.
  std::unordered_set<uint64_t> released;
  bool has_fenced = false, has_seen = false;
  std::string finding;

  uint64_t blocks() const { return static_cast<uint64_t>(blocks_x) * blocks_y; }
};

Launch* launched = nullptr;

emulation::Block& block() { return *emulation::current(); }
uint64_t block_number() { return static_cast<uint64_t>(block().y * block().blocks_x + block().x); }

void find(const char* what) {
  if (!launched->finding.empty()) return;
  launched->finding = std::string(what) + " in " + launched->name + ", block " + std::to_string(block().x) +
                      ", thread " + std::to_string(thread());
}

Access now() {
  return {1,
          0,
          block_number(),
          thread(),
          static_cast<uint64_t>(block().barrier.generation),
          launched->warp_barriers[thread()]};
}

/// Whether an earlier access is sure to have happened before this one.
bool is_before(const Access& earlier, const Access& later) {
  if (earlier.others == kBlocks) return launched->has_seen && launched->released.size() + 1 >= launched->blocks();
  if (earlier.block != later.block) return launched->has_seen && launched->released.count(earlier.block) > 0;
  if (earlier.block_barriers != later.block_barriers) return true;
  if (earlier.others == kWarps) return false;
  if (earlier.others == kNobody && earlier.thread == later.thread) return true;
  return earlier.thread / kWarp == later.thread / kWarp && earlier.warp_barriers != later.warp_barriers;
}

void note_read(Bytes& bytes, const Access& access, const char* race) {
  if (bytes.writer.is_set && !is_before(bytes.writer, access)) find(race);
  const Access before = bytes.reader;
  bytes.reader = access;
  if (!before.is_set || is_before(before, access)) return;
  const bool is_same_warp = before.thread / kWarp == access.thread / kWarp;
  const Others others = before.block != access.block ? kBlocks : is_same_warp ? kLanes : kWarps;
  bytes.reader.others = std::max<uint64_t>(before.others, others);
}

/// Two that write the same value do no harm.
void note_write(Bytes& bytes, const Access& access, bool is_change, const char* race) {
  if (is_change && bytes.writer.is_set && !is_before(bytes.writer, access)) find(race);
  if (bytes.reader.is_set && !is_before(bytes.reader, access)) find(race);
  bytes = {access, {}};
}

void check_alignment(uint64_t address, int bytes) {
  if (address % static_cast<uint64_t>(bytes) != 0) fail("an access is not aligned");
}

/// The bytes at an address of shared memory, which must all be the block's.
char* shared_bytes(uint64_t address, int bytes) {
  check_alignment(address, bytes);
  const uint64_t offset = address - kSharedBase;
  if (offset + static_cast<uint64_t>(bytes) > launched->shared.size()) fail("an access is out of shared memory");
  return block().shared.get() + offset;
}

char* read_shared(uint64_t address, int bytes) {
  char* place = shared_bytes(address, bytes);
  const Access access = now();
  bool is_written = false;  // a structure may have gaps
  for (int i = 0; i < bytes; ++i) {
    Bytes& touched = launched->shared[address - kSharedBase + static_cast<uint64_t>(i)];
    is_written = is_written || touched.writer.is_set;
    note_read(touched, access, "shared memory is read while another thread writes it");
  }
  if (!is_written) find("shared memory is read that nothing wrote");
  return place;
}

/// Notes that these values are about to be written.
char* write_shared(uint64_t address, const void* values, int bytes) {
  char* place = shared_bytes(address, bytes);
  const Access access = now();
  for (int i = 0; i < bytes; ++i) {
    note_write(launched->shared[address - kSharedBase + static_cast<uint64_t>(i)], access,
               place[i] != static_cast<const char*>(values)[i], "shared memory is written while others use it");
  }
  return place;
}

std::array<Bytes, kPage>& page_of(uint64_t address) {
  const uint64_t number = address / kPage;
  if (number != launched->last_page) {
    auto& page = launched->pages[number];
    if (page == nullptr) page = std::make_unique<std::array<Bytes, kPage>>();
    launched->last_page = number;
    launched->last = page.get();
  }
  return *launched->last;
}

/// The notes on the bytes at an address of global memory.
Bytes* notes_at(uint64_t address, int bytes) {
  check_alignment(address, bytes);
  if (address < kPage) fail("a null pointer is followed");
  return page_of(address).data() + address % kPage;  // what is aligned crosses no page
}

const char* read_global(uint64_t address, int bytes) {
  Bytes* notes = notes_at(address, bytes);
  const Access access = now();
  for (int i = 0; i < bytes; ++i) note_read(notes[i], access, "global memory is read while another thread writes it");
  return reinterpret_cast<const char*>(address);
}

char* write_global(uint64_t address, const void* values, int bytes) {
  Bytes* notes = notes_at(address, bytes);
  const Access access = now();
  char* place = reinterpret_cast<char*>(address);
  for (int i = 0; i < bytes; ++i) {
    note_write(notes[i], access, place[i] != static_cast<const char*>(values)[i],
               "global memory is written while others use it");
  }
  return place;
}

bool is_in_shared(uint64_t address) {
  const auto begin = reinterpret_cast<uint64_t>(block().shared.get());
  return address >= begin && address < begin + launched->shared.size();
}

/// The matrix units at their worst: every term loses what lies below the last place of the largest, toward zero.
float sum_cut_off(const double* terms, int count) {
  double largest = 0;
  double plain = 0;
  for (int i = 0; i < count; ++i) {
    largest = std::max(largest, std::abs(terms[i]));
    plain += terms[i];
  }
  if (largest == 0 || !std::isfinite(plain)) return static_cast<float>(plain);
  int exponent = 0;
  std::frexp(largest, &exponent);
  const double place = std::ldexp(1.0, exponent - 24);
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += std::trunc(terms[i] / place) * place;
  const auto rounded = static_cast<float>(sum);
  return std::abs(static_cast<double>(rounded)) > std::abs(sum) ? std::nextafter(rounded, 0.0f) : rounded;
}

template <typename Element>
void multiply_accumulate(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0, uint32_t right_1) {
  emulation::multiply<Element>(sums, left, right_0, right_1, [](float before, const double (&products)[16]) {
    double terms[17];
    std::copy(products, products + 16, terms);
    terms[16] = before;
    return sum_cut_off(terms, 17);
  });
}

}  // namespace

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "translated GPU code: %s in %s, block %ld, thread %u\n", what, launched->name.c_str(),
               static_cast<long>(block().x), thread());
  std::abort();
}

uint32_t thread() { return static_cast<uint32_t>(emulation::fibre().thread); }
uint32_t threads() { return static_cast<uint32_t>(launched->threads); }
uint32_t lane() { return thread() % kWarp; }
uint32_t block_x() { return static_cast<uint32_t>(block().x); }
uint32_t block_y() { return static_cast<uint32_t>(block().y); }
uint32_t grid_x() { return launched->blocks_x; }
uint32_t grid_y() { return launched->blocks_y; }

uint64_t static_shared(uint64_t offset) { return kSharedBase + offset; }
uint64_t dynamic_shared() { return kSharedBase + launched->fixed_bytes; }
uint64_t generic_of_shared(uint64_t address) {
  return reinterpret_cast<uint64_t>(block().shared.get()) + address - kSharedBase;
}
uint64_t shared_of_generic(uint64_t address) {
  return address - reinterpret_cast<uint64_t>(block().shared.get()) + kSharedBase;
}

const void* load_shared(uint64_t address, int bytes) { return read_shared(address, bytes); }
const void* load_global(uint64_t address, int bytes) { return read_global(address, bytes); }
const void* load_generic(uint64_t address, int bytes) {
  return is_in_shared(address) ? load_shared(shared_of_generic(address), bytes) : load_global(address, bytes);
}
void store_shared(uint64_t address, const void* values, int bytes) {
  std::memcpy(write_shared(address, values, bytes), values, static_cast<size_t>(bytes));
}
void store_global(uint64_t address, const void* values, int bytes) {
  std::memcpy(write_global(address, values, bytes), values, static_cast<size_t>(bytes));
}
void store_generic(uint64_t address, const void* values, int bytes) {
  if (is_in_shared(address)) return store_shared(shared_of_generic(address), values, bytes);
  store_global(address, values, bytes);
}

const void* load_param(uint64_t address, int bytes) {
  check_alignment(address, bytes);
  const uint64_t offset = address - reinterpret_cast<uint64_t>(launched->parameters);
  if (offset + static_cast<uint64_t>(bytes) > launched->parameter_bytes) fail("an access is out of the parameters");
  return reinterpret_cast<const void*>(address);
}

// An atomic access races with none of its kind; only that and a fence order blocks.
void* atomic_shared(uint64_t address, int bytes) { return shared_bytes(address, bytes); }
void* atomic_global(uint64_t address, int bytes) {
  check_alignment(address, bytes);
  if (address < kPage) fail("a null pointer is followed");
  if (launched->has_fenced) launched->released.insert(block_number());
  launched->has_seen = true;
  return reinterpret_cast<void*>(address);
}
void* atomic_generic(uint64_t address, int bytes) {
  return is_in_shared(address) ? atomic_shared(shared_of_generic(address), bytes) : atomic_global(address, bytes);
}
void fence() { launched->has_fenced = true; }

void synchronize_block() { emulation::wait(block().barrier); }
void synchronize_warp() {
  emulation::wait(emulation::warp().barrier);
  ++launched->warp_barriers[thread()];
}
void needs_all_lanes(uint32_t mask) {
  if (mask != ~0u) fail("only a part of a warp works together");
}

// Neither exchange orders memory.
uint32_t shuffle_bfly(uint32_t value, uint32_t mask, uint32_t range) {
  if (range != kWarp - 1) fail("a shuffle within a part of a warp");
  return static_cast<uint32_t>(emulation::exchange({{value, 0, 0, 0}})[(lane() ^ mask) % kWarp].words[0]);
}
uint32_t shuffle_idx(uint32_t value, uint32_t from, uint32_t range) {
  if (range != kWarp - 1) fail("a shuffle within a part of a warp");
  return static_cast<uint32_t>(emulation::exchange({{value, 0, 0, 0}})[from % kWarp].words[0]);
}
uint32_t ballot(bool predicate) { return device::ballot(predicate); }

// A copy may land at any time from when it is asked for until it is waited for: it is noted at both ends.
void copy_later(uint64_t shared, uint64_t global, int bytes, uint32_t given) {
  static constexpr char kZeros[16] = {};
  if (bytes != 16 || (given != 0 && given != 16)) fail("a copy of other than 16 bytes or zeros");
  const char* source = given == 0 ? kZeros : read_global(global, 16);
  char* target = write_shared(shared, source, 16);
  device::copy_16_bytes(target, reinterpret_cast<const void*>(global), given != 0);
}
void commit_copies() { device::commit_copies(); }
void wait_for_copies(int pending) {
  static constexpr char kZeros[16] = {};
  emulation::finish_copies(static_cast<size_t>(pending), [](const emulation::Copy& copy) {
    const void* source = copy.source == nullptr ? kZeros : copy.source;
    write_shared(shared_of_generic(reinterpret_cast<uint64_t>(copy.target)), source, 16);
  });
}

template <bool kTransposed>
void load_matrices(uint32_t (&matrices)[4], uint64_t row) {
  emulation::load_matrices<kTransposed>(matrices, read_shared(row, 16));
}
template void load_matrices<false>(uint32_t (&)[4], uint64_t);
template void load_matrices<true>(uint32_t (&)[4], uint64_t);

void multiply_accumulate_f16(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0, uint32_t right_1) {
  multiply_accumulate<Half>(sums, left, right_0, right_1);
}
void multiply_accumulate_bf16(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0, uint32_t right_1) {
  multiply_accumulate<BFloat16>(sums, left, right_0, right_1);
}

uint32_t pack_f16x2(float high, float low) { return device::pack<Half>(low, high); }
uint32_t pack_bf16x2(float high, float low) { return device::pack<BFloat16>(low, high); }
float from_f16(uint16_t bits) { return to_real(Half{bits}); }
float from_bf16(uint16_t bits) { return to_real(BFloat16{bits}); }
uint16_t to_f16(float value) { return from_real<Half>(value).bits; }
uint16_t to_bf16(float value) { return from_real<BFloat16>(value).bits; }

// The runtime.

namespace {

std::unordered_map<std::string, Kernel>& kernels() {
  static std::unordered_map<std::string, Kernel> all;
  return all;
}

/// A kernel as the host code knows it; the code itself may become known later.
struct Function {
  std::string symbol;
  size_t allowed_shared = kSharedWithoutAsking;

  const Kernel& kernel() const { return kernels().at(symbol); }
};

std::map<const void*, Function>& functions() {
  static std::map<const void*, Function> all;
  return all;
}

struct Configuration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};
std::vector<Configuration> configurations;

cudaError_t last_error = cudaSuccess;
std::string last_message;

cudaError_t refuse(cudaError_t error, const std::string& message) {
  last_message = message;
  return last_error = error;
}

/// Of a multiprocessor; of it a block may ask for all but the last KiB.
size_t shared_of_multiprocessor() {
  const char* bytes = std::getenv("TUBELETX_EMULATED_SHARED_BYTES");
  return bytes == nullptr ? 228 * 1024 : static_cast<size_t>(std::atoll(bytes));
}
size_t most_shared() { return shared_of_multiprocessor() - 1024; }

cudaError_t run(const Function& function, dim3 grid, dim3 block, void* const* arguments, size_t shared) {
  const Kernel& kernel = function.kernel();
  const size_t all_shared = shared + kernel.fixed_shared_bytes;
  const bool fits = grid.x > 0 && grid.y > 0 && grid.z == 1 && grid.x <= INT32_MAX && grid.y <= UINT16_MAX &&
                    block.x > 0 && block.y == 1 && block.z == 1 && static_cast<int>(block.x) <= kernel.most_threads &&
                    shared <= function.allowed_shared && all_shared <= most_shared();
  if (!fits) {
    return refuse(cudaErrorInvalidConfiguration, std::string(kernel.symbol) + " cannot be launched: grid " +
                                                     std::to_string(grid.x) + " x " + std::to_string(grid.y) +
                                                     ", block " + std::to_string(block.x) + ", shared " +
                                                     std::to_string(shared));
  }
  Launch launch;
  launched = &launch;
  launch.name = kernel.symbol;
  std::vector<std::max_align_t> parameters(kernel.parameter_bytes / sizeof(std::max_align_t) + 1);
  std::memcpy(parameters.data(), arguments[0], kernel.parameter_bytes);
  launch.parameters = reinterpret_cast<const char*>(parameters.data());
  launch.parameter_bytes = kernel.parameter_bytes;
  launch.blocks_x = grid.x;
  launch.blocks_y = grid.y;
  launch.threads = static_cast<int>(block.x);
  launch.fixed_bytes = kernel.fixed_shared_bytes;
  for (int64_t number = static_cast<int64_t>(grid.x) * grid.y; number-- > 0;) {
    launch.shared.assign(all_shared, {});
    launch.warp_barriers.assign(block.x, 0);
    launch.has_fenced = launch.has_seen = false;
    emulation::Block running;
    running.x = number % grid.x;
    running.y = number / grid.x;
    running.blocks_x = grid.x;
    running.shared = std::unique_ptr<char[]>(new char[all_shared + 16]);
    std::memset(running.shared.get(), 0xff, all_shared);
    running.kernel = [&] { kernel.run(launch.parameters); };
    emulation::run_block(running, launch.threads);
    if (!launch.finding.empty()) return refuse(cudaErrorLaunchFailure, launch.finding);
  }
  return cudaSuccess;
}

}  // namespace

Registration::Registration(std::initializer_list<Kernel> list) {
  for (const Kernel& kernel : list) kernels().emplace(kernel.symbol, kernel);
}

}  // namespace tubeletx::ptx

// By these names nvcc's code calls the runtime; they are seen in this library alone.
extern "C" {

using tubeletx::ptx::configurations;
using tubeletx::ptx::functions;
using tubeletx::ptx::last_error;

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* symbol, int, void*, void*, void*, void*,
                            int*) {
  functions()[host].symbol = symbol;
}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st* stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const auto configuration = configurations.back();
  configurations.pop_back();
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  *static_cast<cudaStream_t*>(stream) = configuration.stream;
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared,
                             cudaStream_t) {
  return tubeletx::ptx::run(functions().at(function), grid, block, arguments, shared);
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                               cudaStream_t stream) {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* configuration, const void* function, void** arguments) {
  return cudaLaunchKernel(function, configuration->gridDim, configuration->blockDim, arguments,
                          configuration->dynamicSmemBytes, configuration->stream);
}

cudaError_t cudaFuncSetAttribute(const void* function, enum cudaFuncAttribute, int value) {
  if (static_cast<size_t>(value) > tubeletx::ptx::most_shared()) {
    return tubeletx::ptx::refuse(cudaErrorInvalidValue, "more shared memory than the multiprocessor has");
  }
  functions().at(function).allowed_shared = static_cast<size_t>(value);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  const auto& kernel = functions().at(function).kernel();
  *attributes = {};
  attributes->sharedSizeBytes = kernel.fixed_shared_bytes;
  attributes->maxThreadsPerBlock = kernel.most_threads;
  attributes->ptxVersion = attributes->binaryVersion = 80;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, enum cudaDeviceAttr attribute, int) {
  const char* count = std::getenv("TUBELETX_EMULATED_MULTIPROCESSORS");
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = count == nullptr ? 3 : std::atoi(count);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(tubeletx::ptx::shared_of_multiprocessor());
      return cudaSuccess;
    default:
      return tubeletx::ptx::refuse(cudaErrorInvalidValue, "an attribute that the stand-in does not know");
  }
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void**, unsigned, unsigned long long,
                                             enum cudaDriverEntryPointQueryResult*) {
  return tubeletx::ptx::refuse(cudaErrorNotSupported, "there is no driver");
}
cudaError_t cudaGetLastError(void) {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
const char* cudaGetErrorString(cudaError_t) { return tubeletx::ptx::last_message.c_str(); }

}  // extern "C"
