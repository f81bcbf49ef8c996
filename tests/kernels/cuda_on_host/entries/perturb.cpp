// The launch code of csrc/perturb/cuda.h for ctypes: numbers and addresses in, a cudaError_t out.
#include "perturb/cuda.h"

using namespace buttress::perturbation;

static_assert(sizeof(Item) == 56);  // as launches.py has it

namespace {

CudaJob job_of(const Item* items, int n, std::int64_t blocks, double* partial,
                             double* sums) {
  return {items, n, blocks, partial, sums, nullptr};
}

}  // namespace

extern "C" {

std::int64_t perturb_block = kCudaBlock;

using Items = const Item*;

int perturb(Items items, int n, std::int64_t blocks, double* partial, double* sums, double gamma, bool layer) {
  return perturb_cuda(job_of(items, n, blocks, partial, sums), gamma, layer);
}

int restore(Items items, int n, std::int64_t blocks) {
  return restore_cuda(job_of(items, n, blocks, nullptr, nullptr));
}

int unperturb(Items items, int n, std::int64_t blocks) {
  return unperturb_cuda(job_of(items, n, blocks, nullptr, nullptr));
}

int rwp_first_step(Items items, int n, std::int64_t blocks, double* partial, double* sums, double* state, double gamma,
                   bool layer, const std::int64_t* kept) {
  return rwp_first_step_cuda(job_of(items, n, blocks, partial, sums), state, gamma, layer, kept);
}

int rwp_step(Items items, int n, std::int64_t blocks, double* partial, double* sums, double* state, double gamma,
             bool layer, bool rescale, const std::int64_t* kept) {
  return rwp_step_cuda(job_of(items, n, blocks, partial, sums), state, gamma, layer, rescale, kept);
}

int amp_first_step(Items items, int n, std::int64_t blocks, double* partial, double* sums, double* length, double xi,
                   double delta, double clip, bool together) {
  return amp_first_step_cuda(job_of(items, n, blocks, partial, sums), length, {xi, delta, clip, together});
}

int amp_step(Items items, int n, std::int64_t blocks, double* partial, double* sums, double* length, double xi,
             double delta, double clip, bool together) {
  return amp_step_cuda(job_of(items, n, blocks, partial, sums), length, {xi, delta, clip, together});
}
}
