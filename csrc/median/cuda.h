// The per-element median of n versions of one or several tensors on CUDA; no torch in here.
#pragma once

#include <cstdint>

#include "median/cpu.h"

namespace buttress {

// Elements of one tensor that a block takes at a time.
constexpr int kTile = 1024;

// A launch takes a record of each tensor: kHead + n integers, which are its first tile, its number of elements, the
// address of its output, the bits that are set in any of its addresses (how they are aligned), and the addresses of its
// n versions.
constexpr int kHead = 4;

// Versions whose record travels with the launch where there is one tensor only.
constexpr int kRowsInLaunch = 256;

struct CudaJob {
  Type type;
  int n;
  std::int64_t tensors, tiles;
  const std::int64_t* records;  // in the host's memory
  const std::int64_t* table;    // the same in the device's memory, where tensors > 1 or n > kRowsInLaunch
  int lower, upper;
  bool mean;
};

// One launch on `stream`, a cudaStream_t; returns a cudaError_t.
int median_cuda(const CudaJob& job, void* stream);

}  // namespace buttress
