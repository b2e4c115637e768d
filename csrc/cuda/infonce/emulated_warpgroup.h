// The functions of warpgroup_device.h on the host. Products in the background are worked out when they are waited for,
// as late as they may; copies of boxes at once.
#pragma once

#include "cuda/device.h"

namespace tubeletx::device {

struct MatrixMap {
  const uint16_t* data;
  int64_t rows, columns, row_stride;
  int box_rows;
};

inline MatrixMap map_matrix(const char*, bool, const void* data, int64_t rows, int64_t columns, int64_t row_stride,
                            int box_rows) {
  emulation::require(reinterpret_cast<uintptr_t>(data) % 16 == 0 && row_stride % 8 == 0, "a map is not aligned");
  return {static_cast<const uint16_t*>(data), rows, columns, row_stride, box_rows};
}

struct TransferBarrier {
  int expected;
  int arrived;
  int64_t bytes;  // that are still to come
  int phase;

  void close_if_complete() {
    if (arrived < expected || bytes != 0) return;
    arrived = 0;
    ++phase;
  }
};

template <typename T>
T& fixed_shared_memory() {
  auto& memory = emulation::current()->fixed;
  if (memory == nullptr) {
    memory = std::unique_ptr<char[]>(new char[sizeof(T)]);
    std::memset(memory.get(), 0xff, sizeof(T));
  }
  return *reinterpret_cast<T*>(memory.get());
}

inline void initialise(TransferBarrier& barrier, int arrivals) { barrier = {arrivals, 0, 0, 0}; }
inline void arrive(TransferBarrier& barrier) {
  emulation::require(++barrier.arrived <= barrier.expected, "too many arrivals at a barrier");
  barrier.close_if_complete();
}
inline void arrive_and_expect(TransferBarrier& barrier, int bytes) {
  barrier.bytes += bytes;
  arrive(barrier);
}
inline void wait(TransferBarrier& barrier, int parity) {
  emulation::wait_until([&barrier, parity] { return barrier.phase % 2 != parity; });
}
inline void publish_shared_memory() {}

namespace emulation {

/// The 16-bit number in a row and column of a panel, of which `first` is the one at (0, 0) or a multiple of 8 away.
inline uint16_t& panel_element(const void* first, int row, int column) {
  const uintptr_t place = reinterpret_cast<uintptr_t>(first) + row * 128 + column * 2;
  return *reinterpret_cast<uint16_t*>(place ^ (place / 128 % 8 * 16));
}

}  // namespace emulation

inline void copy_box(void* panel, const MatrixMap& map, int row, int column, TransferBarrier& barrier) {
  emulation::require(reinterpret_cast<uintptr_t>(panel) % 1024 == 0, "a panel is not aligned");
  for (int y = 0; y < map.box_rows; ++y) {
    for (int x = 0; x < 64; ++x) {
      const bool inside = row + y < map.rows && column + x < map.columns;
      emulation::panel_element(panel, y, x) = inside ? map.data[(row + y) * map.row_stride + column + x] : 0;
    }
  }
  barrier.bytes -= map.box_rows * 128;
  barrier.close_if_complete();
}

template <int kCount>
void keep_few_registers() {}
template <int kCount>
void take_more_registers() {}

using Factor = const void*;
inline Factor factor_of(const void* first) { return first; }
inline Factor advance(Factor factor, int bytes) { return static_cast<const char*>(factor) + bytes; }

inline void begin_products() { synchronize_warp(); }
inline void commit_products() { emulation::fibre().products.emplace_back(); }
template <int kPending>
void wait_for_products() {
  auto& groups = emulation::fibre().products;  // the last one is still open
  while (groups.size() > kPending + 1) {
    for (const auto& product : groups.front()) product();
    groups.pop_front();
  }
  synchronize_warp();
}

template <int kTiles>
void touch(float (&)[kTiles][4]) {}

template <typename Element>
void multiply_rows(float (&sums)[16][4], Factor left, Factor right, bool add) {
  const int first_row = thread() % 128 / 32 * 16 + emulation::lane() / 4;
  const int first_column = emulation::lane() % 4 * 2;
  emulation::fibre().products.back().push_back([=, &sums] {
    const auto number = [](Factor factor, int row, int column) {
      return to_real(Element{emulation::panel_element(factor, row, column)});
    };
    for (int i = 0; i < 2; ++i) {
      float query[16];
      for (int k = 0; k < 16; ++k) query[k] = number(left, first_row + 8 * i, k);
      for (int n = 0; n < 16; ++n) {
        for (int c = 0; c < 2; ++c) {
          float& sum = sums[n][2 * i + c];
          if (!add) sum = 0;
          for (int k = 0; k < 16; ++k) sum += query[k] * number(right, 8 * n + first_column + c, k);
        }
      }
    }
  });
}

template <typename Element>
void multiply_columns(float (&sums)[8][4], const uint32_t (&left)[4], Factor right) {
  const auto join = [](uint32_t low, uint32_t high) { return low | static_cast<uint64_t>(high) << 32; };
  const emulation::Slot* slots = emulation::exchange({{join(left[0], left[1]), join(left[2], left[3]), 0, 0}});
  struct Rows {
    float weights[2][16];
  } rows;
  for (int i = 0; i < 2; ++i) {
    for (int k = 0; k < 16; ++k) {
      // Registers: rows 0-7 and 8-15 for k < 8, then for k >= 8.
      const uint64_t word = slots[emulation::lane() / 4 * 4 + k % 8 / 2].words[k / 8];
      rows.weights[i][k] = emulation::element<Element>(word, 2 * i + k % 2);
    }
  }
  const int first_column = emulation::lane() % 4 * 2;
  emulation::fibre().products.back().push_back([=, &sums] {
    for (int n = 0; n < 8; ++n) {
      for (int c = 0; c < 4; ++c) {
        for (int k = 0; k < 16; ++k) {
          const Element number{emulation::panel_element(right, k, 8 * n + first_column + c % 2)};
          sums[n][c] += rows.weights[c / 2][k] * to_real(number);
        }
      }
    }
  });
}

}  // namespace tubeletx::device
