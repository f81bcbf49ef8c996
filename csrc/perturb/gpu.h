// Weight perturbations on a GPU, all items in one launch a pass; no torch in here.
#pragma once

#include <cstdint>

#include "perturb/update.h"

namespace buttress::perturbation {

// Elements of a block of threads. Sums are taken by block and added in the blocks' order.
constexpr std::int64_t kGpuBlock = 1 << 13;

// All pointers are to the device's memory.
struct GpuJob {
  const Item* items;  // [n]
  int n;
  std::int64_t blocks;
  double* partial;  // [blocks, 3], scratch; null for the operations without sums
  double* sums;     // [n, 3], scratch; likewise
  void* stream;     // a cudaStream_t
};

// Each is one launch (restore, unperturb) or three: sums by block, sums by item, update. They return a cudaError_t.
int perturb_gpu(const GpuJob& job, double gamma, bool layer);
int restore_gpu(const GpuJob& job);
int unperturb_gpu(const GpuJob& job);

// state [2, n]; kept: one number, or null. Nothing moves where it is 0.
int accumulate_gpu(const GpuJob& job, double* state, double gamma, bool layer, bool rescale, const std::int64_t* kept,
                   bool begin);

// length: one number, the length of what has been accumulated, all items together.
int ascend_gpu(const GpuJob& job, double* length, double xi, double delta, bool together, double clip, bool begin);

}  // namespace buttress::perturbation
