// Weight perturbations on CUDA, all items in one launch a pass; no torch in here.
#pragma once

#include <cstdint>

#include "perturb/update.h"

namespace buttress::perturbation {

// Elements of a block of threads. Sums are taken by block and added in the blocks' order.
constexpr std::int64_t kCudaBlock = 1 << 13;

// All pointers are to the device's memory.
struct CudaJob {
  const Item* items;  // [n]
  int n;
  std::int64_t blocks;
  double* partial;  // [blocks, 3], scratch; null for the operations without sums
  double* sums;     // [n, 3], scratch; likewise
  void* stream;     // a cudaStream_t
};

// Each is one launch (restore, unperturb) or three: sums by block, sums by item, update. They return a cudaError_t.
int perturb_cuda(const CudaJob& job, double gamma, bool layer);
int restore_cuda(const CudaJob& job);
int unperturb_cuda(const CudaJob& job);

// state [2, n]: norms of the origins, factors of the totals. kept: one number, or null. Nothing moves where it is 0.
int rwp_first_step_cuda(const CudaJob& job, double* state, double gamma, bool layer, const std::int64_t* kept);
int rwp_step_cuda(const CudaJob& job, double* state, double gamma, bool layer, bool rescale, const std::int64_t* kept);

// length: one number, the length of the total after the step, all items together.
int amp_first_step_cuda(const CudaJob& job, double* length, AmpSettings settings);
int amp_step_cuda(const CudaJob& job, double* length, AmpSettings settings);

}  // namespace buttress::perturbation
