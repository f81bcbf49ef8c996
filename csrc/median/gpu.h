// The per-element median of n arrays on a GPU; no torch in here.
#pragma once

#include <cstdint>

#include "median/cpu.h"

namespace buttress {

// Arrays whose addresses travel with the launch; more are read from `more`, an array in the device's memory.
constexpr int kRowsInLaunch = 256;

struct GpuJob {
  Type type;
  int n;
  std::int64_t size;  // elements of an array
  const void* const* rows;  // n addresses in the host's memory
  const void* const* more;  // the same in the device's memory, where n > kRowsInLaunch
  void* out;
  int lower, upper;
  bool mean;
};

// One launch on `stream`, a cudaStream_t; returns a cudaError_t.
int median_gpu(const GpuJob& job, void* stream);

}  // namespace buttress
