// Exchange between the lanes of a warp: through slots, between two meetings of the lanes that the mask names.
#pragma once

#include <cstdint>
#include <cstring>

#include "on_host/launch.h"

namespace on_host {

constexpr int kLanes = 32;

unsigned lane();

// Waits for the lanes of the mask. Errors: the calling lane is not in it, or a lane of it has returned.
void meet(unsigned mask, int line);

// Eight bytes of a lane of the calling thread's warp.
void* slot(unsigned lane);

// Raises an error of the launch unless the lane takes part.
void expect_in_mask(unsigned lane, unsigned mask, int line);

template <typename T>
T exchange(unsigned mask, T value, int from, int line) {
  static_assert(sizeof(T) <= 8);
  expect_in_mask(unsigned(from), mask, line);
  std::memcpy(slot(lane()), &value, sizeof(T));
  meet(mask, line);
  std::memcpy(&value, slot(unsigned(from)), sizeof(T));
  meet(mask, line);
  return value;
}

// The first lane of the calling lane's group of `width`, a power of two.
inline int group(int width) { return int(lane()) & ~(width - 1); }

}  // namespace on_host

template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = on_host::kLanes, int line = __builtin_LINE()) {
  return on_host::exchange(mask, value, on_host::group(width) + (from & (width - 1)), line);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = on_host::kLanes, int line = __builtin_LINE()) {
  const int own = int(on_host::lane()), from = own ^ bits;
  return on_host::exchange(mask, value, from < on_host::group(width) + width ? from : own, line);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, int by, int width = on_host::kLanes, int line = __builtin_LINE()) {
  const int own = int(on_host::lane()), from = own - by;
  return on_host::exchange(mask, value, from >= on_host::group(width) ? from : own, line);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, int by, int width = on_host::kLanes, int line = __builtin_LINE()) {
  const int own = int(on_host::lane()), from = own + by;
  return on_host::exchange(mask, value, from < on_host::group(width) + width ? from : own, line);
}

inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) { on_host::meet(mask, line); }

inline unsigned __ballot_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
  std::memcpy(on_host::slot(on_host::lane()), &vote, sizeof vote);
  on_host::meet(mask, line);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < on_host::kLanes; ++lane) {
    int other = 0;
    if ((mask >> lane & 1) != 0) std::memcpy(&other, on_host::slot(lane), sizeof other);
    votes |= unsigned(other != 0) << lane;
  }
  on_host::meet(mask, line);
  return votes;
}

inline int __any_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
  return __ballot_sync(mask, vote, line) != 0;
}

inline int __all_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
  return __ballot_sync(mask, vote == 0, line) == 0;
}
