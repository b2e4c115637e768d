// The functions of device.h on the host. The threads of a block run one after the other, each until it waits for
// others: then it keeps its stack, and the next one runs on another. Asynchronous copies happen as late as they may (or
// as early, with TUBELETX_EMULATED_COPIES=early), shared memory starts as NaN, and fragments follow the layouts of the
// PTX manual, so that a forgotten barrier or a wrong index shows.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "core/blend.h"

#define TUBELETX_DEVICE inline
#define TUBELETX_KERNEL(threads, blocks) inline void
#define TUBELETX_KERNEL_ARGUMENT const

// Bytes for the variables of a thread.
#ifndef TUBELETX_EMULATED_STACK
#define TUBELETX_EMULATED_STACK (64 * 1024)
#endif

namespace tubeletx::device {
namespace emulation {

inline void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "emulated GPU: %s\n", what);
  std::abort();
}

/// Lets nobody pass before everybody has arrived.
struct Barrier {
  int expected = 0;
  int arrived = 0;
  int64_t generation = 0;

  void open_if_complete() {
    if (arrived == 0 || arrived < expected) return;
    arrived = 0;
    ++generation;
  }
  void leave() {
    --expected;
    open_if_complete();
  }
};

struct Slot {
  uint64_t words[4];
};

struct Warp {
  Barrier barrier;
  Slot slots[2][32];  // of this exchange and of the last, which slow threads may still be reading
};

struct Copy {
  void* target;
  const void* source;  // null for zeros

  void land() const {
    if (source == nullptr) {
      std::memset(target, 0, 16);
    } else {
      std::memcpy(target, source, 16);
    }
  }
};

/// A stack that threads run on. A thread that waits keeps it; after one that ends, the next one follows.
struct Worker {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
};

struct Fibre {
  Worker* worker = nullptr;  // of a thread that has started
  int thread = 0;
  int64_t exchanges = 0;
  std::vector<std::vector<Copy>> groups;
  std::deque<std::vector<std::function<void()>>> products;  // groups in the background, the last one still open
  std::function<bool()> may_go_on;                          // of a fibre that waits
  bool finished = false;
};

struct Block {
  int64_t x = 0, y = 0, blocks_x = 0;
  std::unique_ptr<char[]> shared;
  std::unique_ptr<char[]> fixed;  // shared memory whose size the kernel sets
  std::function<void()> kernel;
  std::vector<Fibre> fibres;
  std::vector<Warp> warps;
  Barrier barrier;
  ucontext_t scheduler;
  Fibre* running = nullptr;
};

inline Block*& current() {
  static thread_local Block* block = nullptr;
  return block;
}
inline Fibre& fibre() { return *current()->running; }
inline Warp& warp() { return current()->warps[fibre().thread / 32]; }
inline int lane() { return fibre().thread % 32; }

template <typename Condition>
void wait_until(const Condition& condition) {
  Fibre& self = fibre();
  while (!condition()) {
    self.may_go_on = condition;
    swapcontext(&self.worker->context, &current()->scheduler);
  }
  self.may_go_on = nullptr;
}

inline void wait(Barrier& barrier) {
  const int64_t generation = barrier.generation;
  ++barrier.arrived;
  barrier.open_if_complete();
  wait_until([&barrier, generation] { return barrier.generation != generation; });
}

/// What every thread of the warp brought.
inline const Slot* exchange(const Slot& mine) {
  Slot* slots = warp().slots[fibre().exchanges++ % 2];
  slots[lane()] = mine;
  wait(warp().barrier);
  return slots;
}

inline void run_thread() {
  current()->kernel();
  Fibre& self = fibre();
  require(self.groups.empty() || self.groups.back().empty(), "a thread ended with copies in flight");
  require(self.products.size() == 1, "a thread ended with products in flight");
  self.finished = true;
  warp().barrier.leave();
  current()->barrier.leave();
}

/// Workers that no thread has; those of a host thread outlive its launches.
inline std::vector<Worker*>& idle_workers() {
  static thread_local std::deque<Worker> all;
  static thread_local std::vector<Worker*> idle;
  if (idle.empty()) idle.push_back(&all.emplace_back());
  return idle;
}

/// What a worker does: the thread that it was given, and those of its warp that follow and have not started.
inline void work() {
  for (;;) {
    Block& block = *current();
    Worker* self = block.running->worker;
    run_thread();
    while (fibre().thread % 32 > 0 && (block.running - 1)->worker == nullptr) {
      --block.running;
      block.running->worker = self;
      run_thread();
    }
    idle_workers().push_back(self);
    swapcontext(&self->context, &block.scheduler);
  }
}

/// Lets a thread that has not started or may go on run until it waits.
inline void resume(Block& block, Fibre& fibre) {
  block.running = &fibre;
  if (fibre.worker == nullptr) {
    constexpr size_t kStackBytes = TUBELETX_EMULATED_STACK;
    fibre.worker = idle_workers().back();
    idle_workers().pop_back();
    if (fibre.worker->stack == nullptr) {
      ucontext_t& context = fibre.worker->context;
      fibre.worker->stack = std::unique_ptr<char[]>(new char[kStackBytes]);
      getcontext(&context);
      context.uc_stack.ss_sp = fibre.worker->stack.get();
      context.uc_stack.ss_size = kStackBytes;
      context.uc_link = nullptr;
      makecontext(&context, &work, 0);
    }
  }
  swapcontext(&block.scheduler, &fibre.worker->context);
}

/// Lets each thread of a warp run until it waits; false if all of them still do.
inline bool run_warp(Block& block, size_t warp) {
  bool moved = false;
  const size_t end = std::min(32 * (warp + 1), block.fibres.size());
  for (size_t thread = end; thread-- > 32 * warp;) {
    Fibre& fibre = block.fibres[thread];
    if (fibre.finished || (fibre.may_go_on != nullptr && !fibre.may_go_on())) continue;
    moved = true;
    resume(block, fibre);
  }
  return moved;
}

inline void run_block(Block& block, int threads) {
  current() = &block;
  block.fibres = std::vector<Fibre>(threads);
  block.warps = std::vector<Warp>((threads + 31) / 32);
  block.barrier.expected = threads;
  for (int thread = 0; thread < threads; ++thread) {
    Fibre& fibre = block.fibres[thread];
    fibre.thread = thread;
    fibre.groups.resize(1);
    fibre.products.resize(1);
    ++block.warps[thread / 32].barrier.expected;
  }
  // A warp runs until all of it waits for the rest of the block: no two are further apart on a GPU.
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t warp = block.warps.size(); warp-- > 0;) {
      while (run_warp(block, warp)) moved = true;
    }
  }
  for (const Fibre& fibre : block.fibres) require(fibre.finished, "the threads of a block wait for each other");
}

inline bool copies_land_early() {
  const char* when = std::getenv("TUBELETX_EMULATED_COPIES");
  return when != nullptr && std::strcmp(when, "early") == 0;
}

/// Ends all groups of copies but the last `pending`; tells of each copy first.
template <typename Tell>
void finish_copies(size_t pending, Tell tell) {
  auto& groups = fibre().groups;  // the last one is still open
  while (groups.size() > pending + 1) {
    for (const Copy& copy : groups.front()) {
      tell(copy);
      if (!copies_land_early()) copy.land();
    }
    groups.erase(groups.begin());
  }
}

/// The 16-bit number at `index` of a register.
template <typename Element>
float element(uint64_t word, int index) {
  return to_real(Element{static_cast<uint16_t>(word >> (16 * index))});
}

inline uint32_t two_elements(const uint16_t* first, const uint16_t* second) {
  return *first | static_cast<uint32_t>(*second) << 16;
}

template <bool kTransposed>
void load_matrices(uint32_t (&matrices)[4], const void* row) {
  require(reinterpret_cast<uintptr_t>(row) % 16 == 0, "a row of a matrix is not aligned");
  const Slot* slots = exchange({{reinterpret_cast<uint64_t>(row), 0, 0, 0}});
  const int i = lane() / 4;
  const int j = lane() % 4 * 2;
  for (int matrix = 0; matrix < 4; ++matrix) {
    const auto at = [&](int y, int x) { return reinterpret_cast<const uint16_t*>(slots[8 * matrix + y].words[0]) + x; };
    matrices[matrix] = kTransposed ? two_elements(at(j, i), at(j + 1, i)) : two_elements(at(i, j), at(i, j + 1));
  }
}

/// The product of mma.m16n8k16; `sum` adds the 16 products of an entry, which are exact, to what it was.
template <typename Element, typename Sum>
void multiply(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0, uint32_t right_1, Sum sum) {
  const auto join = [](uint32_t low, uint32_t high) { return low | static_cast<uint64_t>(high) << 32; };
  const Slot* slots = exchange({{join(left[0], left[1]), join(left[2], left[3]), join(right_0, right_1), 0}});
  for (int i = 0; i < 4; ++i) {
    const int row = lane() / 4 + i / 2 * 8;
    const int column = lane() % 4 * 2 + i % 2;
    double products[16];
    for (int k = 0; k < 16; ++k) {
      // Registers of the left factor: rows 0-7 and 8-15 for k < 8, then for k >= 8.
      const uint64_t a = slots[row % 8 * 4 + k % 8 / 2].words[k / 8];
      const uint64_t b = slots[column * 4 + k % 8 / 2].words[2];
      products[k] = static_cast<double>(element<Element>(a, row / 8 * 2 + k % 2)) *
                    static_cast<double>(element<Element>(b, k / 8 * 2 + k % 2));
    }
    sums[i] = sum(sums[i], products);
  }
}

}  // namespace emulation

inline int thread() { return emulation::fibre().thread; }
inline int64_t block_x() { return emulation::current()->x; }
inline int block_y() { return static_cast<int>(emulation::current()->y); }
inline int64_t blocks_of_grid() { return emulation::current()->blocks_x; }
inline void* shared_memory() { return emulation::current()->shared.get(); }
inline void synchronize_block() { emulation::wait(emulation::current()->barrier); }
inline void synchronize_warp() { emulation::wait(emulation::warp().barrier); }

template <typename T>
T shuffle(T value, int lane) {
  emulation::Slot slot{};
  static_assert(sizeof(T) <= sizeof(slot));
  std::memcpy(&slot, &value, sizeof value);
  std::memcpy(&value, &emulation::exchange(slot)[lane], sizeof value);
  return value;
}
template <typename T>
T shuffle_xor(T value, int mask) {
  return shuffle(value, emulation::lane() ^ mask);
}
inline uint32_t ballot(bool predicate) {
  const emulation::Slot* slots = emulation::exchange({{predicate, 0, 0, 0}});
  uint32_t votes = 0;
  for (int lane = 0; lane < 32; ++lane) votes |= static_cast<uint32_t>(slots[lane].words[0]) << lane;
  return votes;
}
inline int lowest_bit(uint32_t bits) { return __builtin_ctz(bits); }
inline int lowest_bit(uint64_t bits) { return __builtin_ctzll(bits); }
inline int count_bits(uint32_t bits) { return __builtin_popcount(bits); }

inline float power_of_two(float x) { return x < -126.0f ? 0.0f : std::exp2(x); }
inline double power_of_two(double x) { return std::exp2(x); }

inline float saturated_fma(float a, float b, float c) {
  const float sum = std::fma(a, b, c);
  return sum > 0 ? std::min(sum, 1.0f) : 0.0f;
}

inline void copy_16_bytes(void* shared, const void* global, bool valid) {
  const auto aligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  emulation::require(aligned(shared) && aligned(global), "a copy of 16 bytes is not aligned");
  const emulation::Copy copy{shared, valid ? global : nullptr};
  if (emulation::copies_land_early()) copy.land();
  emulation::fibre().groups.back().push_back(copy);
}
inline void commit_copies() { emulation::fibre().groups.emplace_back(); }
template <int kPending>
void wait_for_copies() {
  emulation::finish_copies(kPending, [](const emulation::Copy&) {});
}

inline void load_matrices(uint32_t (&matrices)[4], const void* row) { emulation::load_matrices<false>(matrices, row); }
inline void load_transposed_matrices(uint32_t (&matrices)[4], const void* row) {
  emulation::load_matrices<true>(matrices, row);
}

template <typename Element>
void multiply_accumulate(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0, uint32_t right_1) {
  emulation::multiply<Element>(sums, left, right_0, right_1, [](float sum, const double (&products)[16]) {
    for (const double product : products) sum += static_cast<float>(product);
    return sum;
  });
}

inline float widen(Half number) { return to_real(number); }

template <typename Element>
uint32_t pack(float low, float high) {
  return from_real<Element>(low).bits | static_cast<uint32_t>(from_real<Element>(high).bits) << 16;
}

inline void let_next_kernel_start() {}
inline void wait_for_previous_kernel() {}

enum class Start { kInOrder, kEarly };

template <typename Arguments>
void launch(const char*, void (*kernel)(Arguments), int64_t blocks_x, int64_t blocks_y, int threads,
            int64_t shared_bytes, const Arguments& arguments, cuda::Stream, Start = Start::kInOrder) {
  for (int64_t y = blocks_y; y-- > 0;) {
    for (int64_t x = blocks_x; x-- > 0;) {
      emulation::Block block;
      block.x = x;
      block.y = y;
      block.blocks_x = blocks_x;
      block.shared = std::unique_ptr<char[]>(new char[shared_bytes]);
      std::memset(block.shared.get(), 0xff, shared_bytes);
      block.kernel = [&] { kernel(arguments); };
      emulation::run_block(block, threads);
    }
  }
}

}  // namespace tubeletx::device
