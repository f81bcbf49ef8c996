// A warp an example for everything with classes in it; the mean over the batch is one block, which sums in a fixed
// order.
#include <cuda_runtime.h>

#include <limits>

#include "lsc/cuda.h"

namespace buttress {
namespace {

constexpr int kWarp = 32, kThreads = 256, kMeanThreads = 1024;
constexpr std::int64_t kBlocks = 1 << 16;

unsigned blocks_for(std::int64_t work, std::int64_t each) {
  const std::int64_t wanted = (work + each - 1) / each;
  return unsigned(wanted < kBlocks ? wanted : kBlocks);
}

template <typename T>
__device__ T largest_in_warp(T x) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(~0u, x, step);
    x = x < other ? other : x;
  }
  return x;
}

template <typename T>
__device__ T sum_in_warp(T x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
  return x;
}

// -log softmax of the target, from the row's largest logit and its sum of exp(x_k - largest): exact where x - largest
// is.
template <typename T>
__device__ T cross_entropy(T target_logit, T largest, T sum) {
  return log(sum) - (target_logit - largest);
}

template <typename T>
__device__ LscRow<T> row_of(T loss, T largest, T sum, const LscCondition& condition) {
  return {largest, condition.keeps(loss) ? T(1) / sum : T(0)};
}

template <typename T>
__global__ void losses_kernel(LscLogits<T> logits, LscCondition condition, T* losses, LscRow<T>* rows) {
  const int lane = threadIdx.x % kWarp;
  const std::int64_t warps = std::int64_t(gridDim.x) * (kThreads / kWarp);
  for (std::int64_t i = (std::int64_t(blockIdx.x) * kThreads + threadIdx.x) / kWarp; i < logits.batch; i += warps) {
    const T* row = logits.values + i * logits.classes;
    T largest = row[0];
    for (std::int64_t k = lane; k < logits.classes; k += kWarp) largest = largest < row[k] ? row[k] : largest;
    largest = largest_in_warp(largest);
    T sum = 0;
    for (std::int64_t k = lane; k < logits.classes; k += kWarp) sum += exp(row[k] - largest);
    sum = sum_in_warp(sum);
    if (lane != 0) continue;
    const std::int64_t target = logits.targets[i];
    constexpr T nan = std::numeric_limits<T>::quiet_NaN();
    const bool known = is_class(target, logits.classes);
    losses[i] = known ? cross_entropy(row[target], largest, sum) : nan;
    rows[i] = known ? row_of(losses[i], largest, sum, condition) : LscRow<T>{largest, nan};
  }
}

template <typename T>
__global__ void gradients_kernel(LscLogits<T> logits, const LscRow<T>* rows, const T* grad, T* out) {
  const int lane = threadIdx.x % kWarp;
  const T share = *grad / T(logits.batch);
  const std::int64_t warps = std::int64_t(gridDim.x) * (kThreads / kWarp);
  for (std::int64_t i = (std::int64_t(blockIdx.x) * kThreads + threadIdx.x) / kWarp; i < logits.batch; i += warps) {
    const LscRow<T> of = rows[i];
    const std::int64_t target = logits.targets[i], start = i * logits.classes;
    for (std::int64_t k = lane; k < logits.classes; k += kWarp) {
      const T softmax = of.scale != 0 ? exp(logits.values[start + k] - of.largest) * of.scale : T(0);
      out[start + k] = of.scale != 0 ? (softmax - T(k == target)) * share : T(0);
    }
  }
}

template <typename T>
__global__ void mean_kernel(const T* losses, const LscRow<T>* rows, std::int64_t n, LscCondition condition, T* mean,
                            std::int64_t* kept) {
  __shared__ double totals[kMeanThreads];
  __shared__ std::int64_t counts[kMeanThreads];
  double total = 0;
  std::int64_t count = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += kMeanThreads) {
    const bool keeps = condition.keeps(losses[i]);
    total += keeps ? double(losses[i]) : 0.0;
    count += keeps;
    if (rows != nullptr && isnan(rows[i].scale)) total = std::numeric_limits<double>::quiet_NaN();
  }
  totals[threadIdx.x] = total;
  counts[threadIdx.x] = count;
  for (int half = kMeanThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      totals[threadIdx.x] += totals[threadIdx.x + half];
      counts[threadIdx.x] += counts[threadIdx.x + half];
    }
  }
  if (threadIdx.x == 0) {
    *mean = T(totals[0] / double(n > 0 ? n : 1));
    *kept = counts[0];
  }
}

template <typename T>
__global__ void mask_kernel(const T* losses, std::int64_t n, LscCondition condition, const T* grad, T* out) {
  const T share = *grad / T(n);
  const std::int64_t stride = std::int64_t(gridDim.x) * kThreads;
  for (std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x; i < n; i += stride) {
    out[i] = condition.keeps(losses[i]) ? share : T(0);
  }
}

}  // namespace

template <typename T>
int lsc_losses_cuda(const LscLogits<T>& logits, const LscCondition& condition, T* losses, LscRow<T>* rows,
                    void* stream) {
  if (logits.batch == 0) return int(cudaSuccess);
  losses_kernel<<<blocks_for(logits.batch, kThreads / kWarp), kThreads, 0, cudaStream_t(stream)>>>(logits, condition,
                                                                                                   losses, rows);
  return int(cudaGetLastError());
}

template <typename T>
int lsc_gradients_cuda(const LscLogits<T>& logits, const LscRow<T>* rows, const T* grad, T* out, void* stream) {
  if (logits.batch == 0) return int(cudaSuccess);
  gradients_kernel<<<blocks_for(logits.batch, kThreads / kWarp), kThreads, 0, cudaStream_t(stream)>>>(logits, rows,
                                                                                                      grad, out);
  return int(cudaGetLastError());
}

template <typename T>
int lsc_mean_cuda(const T* losses, const LscRow<T>* rows, std::int64_t n, const LscCondition& condition, T* mean,
                  std::int64_t* kept, void* stream) {
  mean_kernel<<<1, kMeanThreads, 0, cudaStream_t(stream)>>>(losses, rows, n, condition, mean, kept);
  return int(cudaGetLastError());
}

template <typename T>
int lsc_mask_cuda(const T* losses, std::int64_t n, const LscCondition& condition, const T* grad, T* out, void* stream) {
  if (n == 0) return int(cudaSuccess);
  mask_kernel<<<blocks_for(n, kThreads), kThreads, 0, cudaStream_t(stream)>>>(losses, n, condition, grad, out);
  return int(cudaGetLastError());
}

#define BUTTRESS_FOR(T)                                                                                                \
  template int lsc_losses_cuda(const LscLogits<T>&, const LscCondition&, T*, LscRow<T>*, void*);                       \
  template int lsc_gradients_cuda(const LscLogits<T>&, const LscRow<T>*, const T*, T*, void*);                         \
  template int lsc_mean_cuda(const T*, const LscRow<T>*, std::int64_t, const LscCondition&, T*, std::int64_t*, void*); \
  template int lsc_mask_cuda(const T*, std::int64_t, const LscCondition&, const T*, T*, void*);
BUTTRESS_FOR(float)
BUTTRESS_FOR(double)
#undef BUTTRESS_FOR

}  // namespace buttress
