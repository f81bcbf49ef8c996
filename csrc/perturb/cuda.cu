// A block of threads for each kCudaBlock elements of an item, neighbours in neighbouring threads. Factors are computed
// where they are used, from the items' sums: the host waits for nothing and decides nothing.
#include <cuda_runtime.h>

#include "perturb/cuda.h"

namespace buttress::perturbation {
namespace {

constexpr int kThreads = 256;

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
  const std::int64_t begin = (block - item.first) * kCudaBlock;
  const std::int64_t end = begin + kCudaBlock < item.size ? begin + kCudaBlock : item.size;
#pragma unroll 4
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) body(arrays, i, D{});
}

template <typename Body>
__device__ void each_element(const Item& item, std::int64_t block, Body body) {
  with_number(item.type, [&](auto number) { each_element_as<decltype(number)>(item, block, body); });
}

template <typename Stored>
__device__ double product(Stored a, Stored b) {
  return double(a) * double(b);
}

// First pass: the terms that a block adds to its item's sums, and the writes that need no norm.

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

// Whether a step of RWP moves anything.
__device__ bool some(const std::int64_t* kept) { return kept == nullptr || *kept > 0; }

struct RwpFirstSums {
  const std::int64_t* kept;

  __device__ Sums operator()(const Item& item, int, std::int64_t block) const {
    Sums own;
    const bool move = some(kept);
    each_element(item, block, [&](const auto& t, std::int64_t i, auto d) {
      using Wide = typename decltype(d)::Wide;
      const auto w = t.weight[i];
      t.origin[i] = w;
      t.total[i] = move ? t.direction[i] : d.narrow(Wide(0));
      own.of[0] += product(d.widen(w), d.widen(w));
      own.of[1] += product(d.widen(t.total[i]), d.widen(t.total[i]));
    });
    return own;
  }
};

struct RwpSums {
  const double* scales;
  const std::int64_t* kept;
  bool rescale;

  __device__ Sums operator()(const Item& item, int at, std::int64_t block) const {
    Sums own;
    if (!some(kept)) return own;
    const double keep = rescale ? scales[at] : 1.0;
    each_element(item, block, [&](const auto& t, std::int64_t i, auto d) {
      using Wide = typename decltype(d)::Wide;
      t.total[i] = d.narrow(multiplier<Wide>(keep) * d.widen(t.total[i]) + d.widen(t.direction[i]));
      own.of[1] += product(d.widen(t.total[i]), d.widen(t.total[i]));
    });
    return own;
  }
};

template <bool first>
struct AmpSums {
  __device__ Sums operator()(const Item& item, int, std::int64_t block) const {
    Sums own;
    each_element(item, block, [&](const auto& t, std::int64_t i, auto d) {
      const auto g = d.widen(t.direction[i]);
      own.of[0] += product(g, g);
      if (first) return;  // the total is 0
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

template <bool first>
struct Rwp {
  const double* sums;
  int n;
  double *norms, *scales;
  const std::int64_t* kept;
  double gamma;
  bool layer;

  // Squares of the norms of origin and total: an item's, or all together.
  __device__ Sums squares(int at) const {
    Sums own;
    for (int i = layer ? at : int(threadIdx.x); i < (layer ? at + 1 : n); i += kThreads) {
      own.of[0] += first ? sums[3 * i] : norms[i] * norms[i];
      own.of[1] += sums[3 * i + 1];
    }
    return layer ? own : over_block(own);
  }

  __device__ void operator()(const Item& item, int at, std::int64_t block) const {
    const bool move = some(kept);
    if (!move && !first) return;
    const Sums s = squares(at);
    const double scale = relative_scale(gamma, sqrt(s.of[0]), sqrt(s.of[1]));
    if (block == item.first && threadIdx.x == 0) {  // read in other launches only (norms: in those of later steps)
      scales[at] = scale;
      if (first) norms[at] = sqrt(sums[3 * at]);
    }
    if (!move) return;
    each_element(item, block, [&](const auto& t, std::int64_t i, auto d) {
      using Wide = typename decltype(d)::Wide;
      t.weight[i] = d.narrow(d.widen(t.origin[i]) + multiplier<Wide>(scale) * d.widen(t.total[i]));
    });
  }
};

template <bool first>
struct Amp {
  const double* sums;
  int n;
  double* length;
  AmpSettings settings;

  __device__ double shrink_of(const Sums& s, double add) const {
    return into_ball(settings.delta, stepped_norm({s.of[0], s.of[1], s.of[2]}, add));
  }

  __device__ void operator()(const Item& item, int at, std::int64_t block) const {
    const Sums all = over_items(sums, n);
    const double add = step_size(settings.xi, settings.clip, all.of[0]);
    const double shrink = shrink_of(settings.together ? all : of_item(sums, at), add);
    if (block == 0) write_length(all, add);
    each_element(item, block, [&](const auto& t, std::int64_t i, auto d) {
      using Wide = typename decltype(d)::Wide;
      const auto origin = first ? t.weight[i] : t.origin[i];
      auto moved = first ? Wide(0) : d.widen(t.total[i]);
      if (add != 0) moved = Wide(shrink) * (moved + Wide(add) * d.widen(t.direction[i]));  // else it is not finite
      if (first) t.origin[i] = origin;
      t.total[i] = d.narrow(moved);
      t.weight[i] = d.narrow(d.widen(origin) + d.widen(t.total[i]));
    });
  }

  __device__ void write_length(const Sums& all, double add) const {
    Sums own;
    for (int i = int(threadIdx.x); i < n; i += kThreads) {
      const Sums s = of_item(sums, i);
      const double each = shrink_of(settings.together ? all : s, add) * stepped_norm({s.of[0], s.of[1], s.of[2]}, add);
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
int launch_update(const CudaJob& job, Pass pass) {
  if (job.blocks == 0) return int(cudaSuccess);
  update<<<unsigned(job.blocks), kThreads, 0, static_cast<cudaStream_t>(job.stream)>>>(job.items, job.n, pass);
  return int(cudaGetLastError());
}

template <typename First, typename Last>
int launch(const CudaJob& job, First first, Last last) {
  if (job.blocks == 0) return int(cudaSuccess);
  const auto stream = static_cast<cudaStream_t>(job.stream);
  by_block<<<unsigned(job.blocks), kThreads, 0, stream>>>(job.items, job.n, job.partial, first);
  by_item<<<unsigned(job.n), kThreads, 0, stream>>>(job.items, job.n, job.blocks, job.partial, job.sums);
  return launch_update(job, last);
}

}  // namespace

int perturb_cuda(const CudaJob& job, double gamma, bool layer) {
  return launch(job, PerturbSums{}, Perturb{job.sums, job.n, gamma, layer});
}

int restore_cuda(const CudaJob& job) { return launch_update(job, Restore{}); }

int unperturb_cuda(const CudaJob& job) { return launch_update(job, Unperturb{}); }

int rwp_first_step_cuda(const CudaJob& job, double* state, double gamma, bool layer, const std::int64_t* kept) {
  return launch(job, RwpFirstSums{kept}, Rwp<true>{job.sums, job.n, state, state + job.n, kept, gamma, layer});
}

int rwp_step_cuda(const CudaJob& job, double* state, double gamma, bool layer, bool rescale, const std::int64_t* kept) {
  return launch(job, RwpSums{state + job.n, kept, rescale},
                Rwp<false>{job.sums, job.n, state, state + job.n, kept, gamma, layer});
}

int amp_first_step_cuda(const CudaJob& job, double* length, AmpSettings settings) {
  return launch(job, AmpSums<true>{}, Amp<true>{job.sums, job.n, length, settings});
}

int amp_step_cuda(const CudaJob& job, double* length, AmpSettings settings) {
  return launch(job, AmpSums<false>{}, Amp<false>{job.sums, job.n, length, settings});
}

}  // namespace buttress::perturbation
