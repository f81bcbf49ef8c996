// A block of threads for each kGpuBlock elements of an item, neighbours in neighbouring threads. Factors are computed
// where they are used, from the items' sums: the host waits for nothing and decides nothing.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "perturb/gpu.h"

namespace buttress::perturbation {
namespace {

constexpr int kThreads = 256;

template <Type type>
struct Device;
template <>
struct Device<Type::float32> {
  using Stored = float;
  using Wide = float;
  static __device__ float widen(float x) { return x; }
  static __device__ float narrow(float x) { return x; }
};
template <>
struct Device<Type::float64> {
  using Stored = double;
  using Wide = double;
  static __device__ double widen(double x) { return x; }
  static __device__ double narrow(double x) { return x; }
};
template <>
struct Device<Type::float16> {
  using Stored = __half;
  using Wide = float;
  static __device__ float widen(__half x) { return __half2float(x); }
  static __device__ __half narrow(float x) { return __float2half_rn(x); }
};
template <>
struct Device<Type::bfloat16> {
  using Stored = __nv_bfloat16;
  using Wide = float;
  static __device__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
  static __device__ __nv_bfloat16 narrow(float x) { return __float2bfloat16_rn(x); }
};

struct Sums {
  double of[3] = {0, 0, 0};
};

// Sums over the threads of a block, in a fixed order; whole in thread 0.
__device__ Sums over_block(const Sums& own) {
  __shared__ double shared[3][kThreads];
  for (int k = 0; k < 3; ++k) shared[k][threadIdx.x] = own.of[k];
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (int(threadIdx.x) < half) {
      for (int k = 0; k < 3; ++k) shared[k][threadIdx.x] += shared[k][threadIdx.x + half];
    }
  }
  __syncthreads();
  Sums all;
  for (int k = 0; k < 3; ++k) all.of[k] = shared[k][0];
  __syncthreads();  // before the memory is used again
  return all;
}

// The elements of this block of threads, an item's arrays as what they hold; body(arrays, i, number) for each.
template <typename D>
struct Arrays {
  typename D::Stored *weight, *origin, *total;
  const typename D::Stored* direction;
};

template <typename D, typename Body>
__device__ void each_element_as(const Item& item, std::int64_t block, Body& body) {
  using Stored = typename D::Stored;
  const Arrays<D> arrays{static_cast<Stored*>(item.weight), static_cast<Stored*>(item.origin),
                         static_cast<Stored*>(item.total), static_cast<const Stored*>(item.direction)};
  const std::int64_t begin = (block - item.first) * kGpuBlock;
  const std::int64_t end = begin + kGpuBlock < item.size ? begin + kGpuBlock : item.size;
#pragma unroll 4
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) body(arrays, i, D{});
}

template <typename Body>
__device__ void each_element(const Item& item, std::int64_t block, Body body) {
  switch (item.type) {
    case Type::float32: return each_element_as<Device<Type::float32>>(item, block, body);
    case Type::float64: return each_element_as<Device<Type::float64>>(item, block, body);
    case Type::float16: return each_element_as<Device<Type::float16>>(item, block, body);
    case Type::bfloat16: return each_element_as<Device<Type::bfloat16>>(item, block, body);
  }
}

template <typename Stored>
__device__ double product(Stored a, Stored b) {
  return double(a) * double(b);
}

// First pass: what a block adds to its item's sums, and what changes before the norms are known.

struct PerturbSums {
  __device__ Sums operator()(const Item& item, int, std::int64_t block) const {
    Sums own;
    each_element(item, block, [&](const auto& t, std::int64_t i, auto d) {
      const auto w = d.widen(t.weight[i]), g = d.widen(t.direction[i]);
      own.of[0] += product(w, w);
      own.of[1] += product(g, g);
    });
    return own;
  }
};

struct AccumulateSums {
  const double* scales;
  const std::int64_t* kept;
  bool rescale, begin;

  __device__ Sums operator()(const Item& item, int at, std::int64_t block) const {
    Sums own;
    const bool some = kept == nullptr || *kept > 0;
    if (!some && !begin) return own;
    const double keep = begin ? 0.0 : rescale ? scales[at] : 1.0;
    each_element(item, block, [&](const auto& t, std::int64_t i, auto d) {
      using Wide = typename decltype(d)::Wide;
      if (begin) {
        const auto w = t.weight[i];
        t.origin[i] = w;
        own.of[0] += product(d.widen(w), d.widen(w));
        t.total[i] = some ? t.direction[i] : d.narrow(Wide(0));
      } else {
        t.total[i] = d.narrow(multiplier<Wide>(keep) * d.widen(t.total[i]) + d.widen(t.direction[i]));
      }
      own.of[1] += product(d.widen(t.total[i]), d.widen(t.total[i]));
    });
    return own;
  }
};

struct AscendSums {
  bool begin;

  __device__ Sums operator()(const Item& item, int, std::int64_t block) const {
    Sums own;
    each_element(item, block, [&](const auto& t, std::int64_t i, auto d) {
      const auto g = d.widen(t.direction[i]);
      own.of[0] += product(g, g);
      if (begin) return;
      const auto m = d.widen(t.total[i]);
      own.of[1] += product(m, g);
      own.of[2] += product(m, m);
    });
    return own;
  }
};

template <typename Pass>
__global__ void by_block(const Item* items, int n, double* partial, Pass pass) {
  const std::int64_t block = blockIdx.x;
  const int at = owner(items, n, block);
  const Sums sums = over_block(pass(items[at], at, block));
  if (threadIdx.x < 3) partial[3 * block + threadIdx.x] = sums.of[threadIdx.x];
}

// Second pass: one block of threads an item.

__global__ void by_item(const Item* items, int n, std::int64_t blocks, const double* partial, double* sums) {
  const int at = int(blockIdx.x);
  const std::int64_t end = at + 1 < n ? items[at + 1].first : blocks;
  Sums own;
  for (std::int64_t block = items[at].first + threadIdx.x; block < end; block += kThreads) {
    for (int k = 0; k < 3; ++k) own.of[k] += partial[3 * block + k];
  }
  const Sums all = over_block(own);
  if (threadIdx.x < 3) sums[3 * at + threadIdx.x] = all.of[threadIdx.x];
}

// Third pass: the update.

// The sums of all items, the same in every block and every thread.
__device__ Sums over_items(const double* sums, int n) {
  Sums own;
  for (int i = int(threadIdx.x); i < n; i += kThreads) {
    for (int k = 0; k < 3; ++k) own.of[k] += sums[3 * i + k];
  }
  return over_block(own);
}

__device__ Sums of_item(const double* sums, int at) {
  Sums own;
  for (int k = 0; k < 3; ++k) own.of[k] = sums[3 * at + k];
  return own;
}

struct Perturb {
  const double* sums;
  int n;
  double gamma;
  bool layer;

  __device__ void operator()(const Item& item, int at, std::int64_t block) const {
    const Sums s = layer ? of_item(sums, at) : over_items(sums, n);
    const double scale = relative_scale(gamma, sqrt(s.of[0]), sqrt(s.of[1]));
    each_element(item, block, [&](const auto& t, std::int64_t i, auto d) {
      using Wide = typename decltype(d)::Wide;
      const auto w = t.weight[i];
      if (t.origin != nullptr) t.origin[i] = w;
      t.weight[i] = d.narrow(d.widen(w) + multiplier<Wide>(scale) * d.widen(t.direction[i]));
    });
  }
};

struct Restore {
  __device__ void operator()(const Item& item, int, std::int64_t block) const {
    each_element(item, block, [](const auto& t, std::int64_t i, auto) { t.weight[i] = t.origin[i]; });
  }
};

struct Unperturb {
  __device__ void operator()(const Item& item, int, std::int64_t block) const {
    each_element(item, block, [](const auto& t, std::int64_t i, auto d) {
      t.weight[i] = d.narrow(unperturbed(d.widen(t.weight[i]), d.widen(t.origin[i]), d.widen(t.total[i])));
    });
  }
};

struct Accumulate {
  const double* sums;
  int n;
  double *norms, *scales;
  const std::int64_t* kept;
  double gamma;
  bool layer, begin;

  // Squares of the norms of origin and total: an item's, or all together.
  __device__ Sums squares(int at) const {
    Sums own;
    for (int i = layer ? at : int(threadIdx.x); i < (layer ? at + 1 : n); i += kThreads) {
      own.of[0] += begin ? sums[3 * i] : norms[i] * norms[i];
      own.of[1] += sums[3 * i + 1];
    }
    return layer ? own : over_block(own);
  }

  __device__ void operator()(const Item& item, int at, std::int64_t block) const {
    const bool some = kept == nullptr || *kept > 0;
    if (!some && !begin) return;
    const Sums s = squares(at);
    const double scale = relative_scale(gamma, sqrt(s.of[0]), sqrt(s.of[1]));
    if (block == item.first && threadIdx.x == 0) {  // read in other launches only (norms: in those that do not begin)
      scales[at] = scale;
      if (begin) norms[at] = sqrt(sums[3 * at]);
    }
    if (!some) return;
    each_element(item, block, [&](const auto& t, std::int64_t i, auto d) {
      using Wide = typename decltype(d)::Wide;
      t.weight[i] = d.narrow(d.widen(t.origin[i]) + multiplier<Wide>(scale) * d.widen(t.total[i]));
    });
  }
};

struct Ascend {
  const double* sums;
  int n;
  double* length;
  double xi, delta, clip;
  bool together, begin;

  __device__ double shrink_of(const Sums& s, double add) const {
    return into_ball(delta, stepped_norm({s.of[0], s.of[1], s.of[2]}, add));
  }

  __device__ void operator()(const Item& item, int at, std::int64_t block) const {
    const Sums all = over_items(sums, n);
    const double add = step_size(xi, clip, all.of[0]);
    const double shrink = shrink_of(together ? all : of_item(sums, at), add);
    if (block == 0) tell_length(all, add);
    each_element(item, block, [&](const auto& t, std::int64_t i, auto d) {
      using Wide = typename decltype(d)::Wide;
      const auto origin = begin ? t.weight[i] : t.origin[i];
      auto moved = begin ? Wide(0) : d.widen(t.total[i]);
      if (add != 0) moved = Wide(shrink) * (moved + Wide(add) * d.widen(t.direction[i]));  // else it is not finite
      if (begin) t.origin[i] = origin;
      t.total[i] = d.narrow(moved);
      t.weight[i] = d.narrow(d.widen(origin) + d.widen(t.total[i]));
    });
  }

  __device__ void tell_length(const Sums& all, double add) const {
    Sums own;
    for (int i = int(threadIdx.x); i < n; i += kThreads) {
      const Sums s = of_item(sums, i);
      const double each = shrink_of(together ? all : s, add) * stepped_norm({s.of[0], s.of[1], s.of[2]}, add);
      own.of[0] += each * each;
    }
    const Sums whole = over_block(own);
    if (threadIdx.x == 0) *length = sqrt(whole.of[0]);
  }
};

template <typename Pass>
__global__ void update(const Item* items, int n, Pass pass) {
  const std::int64_t block = blockIdx.x;
  const int at = owner(items, n, block);
  pass(items[at], at, block);
}

template <typename Pass>
int launch_update(const GpuJob& job, Pass pass) {
  if (job.blocks == 0) return int(cudaSuccess);
  update<<<unsigned(job.blocks), kThreads, 0, static_cast<cudaStream_t>(job.stream)>>>(job.items, job.n, pass);
  return int(cudaGetLastError());
}

template <typename First, typename Last>
int launch(const GpuJob& job, First first, Last last) {
  if (job.blocks == 0) return int(cudaSuccess);
  const auto stream = static_cast<cudaStream_t>(job.stream);
  by_block<<<unsigned(job.blocks), kThreads, 0, stream>>>(job.items, job.n, job.partial, first);
  by_item<<<unsigned(job.n), kThreads, 0, stream>>>(job.items, job.n, job.blocks, job.partial, job.sums);
  return launch_update(job, last);
}

}  // namespace

int perturb_gpu(const GpuJob& job, double gamma, bool layer) {
  return launch(job, PerturbSums{}, Perturb{job.sums, job.n, gamma, layer});
}

int restore_gpu(const GpuJob& job) { return launch_update(job, Restore{}); }

int unperturb_gpu(const GpuJob& job) { return launch_update(job, Unperturb{}); }

int accumulate_gpu(const GpuJob& job, double* state, double gamma, bool layer, bool rescale, const std::int64_t* kept,
                   bool begin) {
  double *norms = state, *scales = state + job.n;
  return launch(job, AccumulateSums{scales, kept, rescale, begin},
                Accumulate{job.sums, job.n, norms, scales, kept, gamma, layer, begin});
}

int ascend_gpu(const GpuJob& job, double* length, double xi, double delta, bool together, double clip, bool begin) {
  return launch(job, AscendSums{begin}, Ascend{job.sums, job.n, length, xi, delta, clip, together, begin});
}

}  // namespace buttress::perturbation
