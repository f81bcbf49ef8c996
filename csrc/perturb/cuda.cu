// A block of threads for each kCudaBlock elements of an item, neighbours in neighbouring threads, 16 bytes of each
// array in one load where all arrays of the item are aligned. Factors are computed where they are used, from the items'
// sums: the host waits for nothing and decides nothing.
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

__device__ void write(double* to, const Sums& sums) {
  for (int k = 0; k < 3; ++k) to[k] = sums.of[k];
}

// The arrays of an item, as bits: a pass says which of them it reads and writes.
enum : unsigned { kWeight = 1, kDirection = 2, kOrigin = 4, kTotal = 8 };

// Neighbouring elements of one array: 16 bytes, or one element. Vectors pass by the first-level cache, where nobody
// would find them again; in the second one the next pass does.
template <typename Stored, int V>
struct alignas(V * sizeof(Stored)) Vector {
  Stored of[V];
  __device__ Stored& operator[](int k) { return of[k]; }
  __device__ void load(const void* array, std::int64_t i) {
    const auto from = static_cast<const Stored*>(array) + i;
    if constexpr (V == 1) {
      of[0] = *from;
    } else {
      *this = bits_as<Vector>(__ldcg(reinterpret_cast<const uint4*>(from)));
    }
  }
  __device__ void store(void* array, std::int64_t i) const {
    if (array == nullptr) return;
    const auto to = static_cast<Stored*>(array) + i;
    if constexpr (V == 1) {
      *to = of[0];
    } else {
      __stcg(reinterpret_cast<uint4*>(to), bits_as<uint4>(*this));
    }
  }
};

template <typename Stored, int V>
struct Arrays {
  Vector<Stored, V> weight, direction, origin, total;
};

// body(arrays, k, number) for V elements from i on.
template <typename D, int V, unsigned reads, unsigned writes, typename Body>
__device__ __forceinline__ void elements(const Item& item, std::int64_t i, Body& body) {
  Arrays<typename D::Stored, V> t;
  if constexpr ((reads & kWeight) != 0) t.weight.load(item.weight, i);
  if constexpr ((reads & kDirection) != 0) t.direction.load(item.direction, i);
  if constexpr ((reads & kOrigin) != 0) t.origin.load(item.origin, i);
  if constexpr ((reads & kTotal) != 0) t.total.load(item.total, i);
#pragma unroll
  for (int k = 0; k < V; ++k) body(t, k, D{});
  if constexpr ((writes & kWeight) != 0) t.weight.store(item.weight, i);
  if constexpr ((writes & kOrigin) != 0) t.origin.store(item.origin, i);
  if constexpr ((writes & kTotal) != 0) t.total.store(item.total, i);
}

// Whether the arrays of these bits begin at multiples of 16 bytes, as far as they are there.
template <unsigned arrays>
__device__ bool aligned(const Item& item) {
  const auto address = [](const void* array, bool counts) {
    return counts ? reinterpret_cast<std::uintptr_t>(array) : std::uintptr_t(0);
  };
  const std::uintptr_t bits = address(item.weight, (arrays & kWeight) != 0) |
                              address(item.direction, (arrays & kDirection) != 0) |
                              address(item.origin, (arrays & kOrigin) != 0) |
                              address(item.total, (arrays & kTotal) != 0);
  return bits % 16 == 0;
}

// All elements of this block of threads: 16 bytes of each array at a time, the others one by one.
template <typename D, unsigned reads, unsigned writes, typename Body>
__device__ void each_element_as(const Item& item, std::int64_t block, Body& body) {
  constexpr int V = 16 / int(sizeof(typename D::Stored));
  const std::int64_t begin = (block - item.first) * kCudaBlock;
  const std::int64_t end = begin + kCudaBlock < item.size ? begin + kCudaBlock : item.size;
  const std::int64_t middle = aligned<reads | writes>(item) ? end - (end - begin) % V : begin;
  for (std::int64_t i = begin + V * threadIdx.x; i < middle; i += V * kThreads) {
    elements<D, V, reads, writes>(item, i, body);
  }
  for (std::int64_t i = middle + threadIdx.x; i < end; i += kThreads) elements<D, 1, reads, writes>(item, i, body);
}

template <unsigned reads, unsigned writes, typename Body>
__device__ void each_element(const Item& item, std::int64_t block, Body body) {
  with_number(item.type, [&](auto number) { each_element_as<decltype(number), reads, writes>(item, block, body); });
}

template <typename Stored>
__device__ double product(Stored a, Stored b) {
  return double(a) * double(b);
}

// First pass: the terms that a block adds to its item's sums, and the writes that need no norm.

struct PerturbSums {
  __device__ Sums operator()(const Item& item, int, std::int64_t block) const {
    Sums own;
    each_element<kWeight | kDirection, 0>(item, block, [&](auto& t, int i, auto d) {
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
    each_element<kWeight | kDirection, kOrigin | kTotal>(item, block, [&](auto& t, int i, auto d) {
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
    each_element<kDirection | kTotal, kTotal>(item, block, [&](auto& t, int i, auto d) {
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
    each_element<first ? kDirection : kDirection | kTotal, 0>(item, block, [&](auto& t, int i, auto d) {
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
  const Item item = items[at];  // in registers, whatever is written
  const Sums sums = over_block(pass(item, at, block));
  if (threadIdx.x == 0) write(partial + 3 * block, sums);
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
  if (threadIdx.x == 0) write(sums + 3 * at, all);
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
    each_element<kWeight | kDirection, kWeight | kOrigin>(item, block, [&](auto& t, int i, auto d) {
      using Wide = typename decltype(d)::Wide;
      const auto w = t.weight[i];
      t.origin[i] = w;
      t.weight[i] = d.narrow(d.widen(w) + multiplier<Wide>(scale) * d.widen(t.direction[i]));
    });
  }
};

struct Restore {
  __device__ void operator()(const Item& item, int, std::int64_t block) const {
    each_element<kOrigin, kWeight>(item, block, [](auto& t, int i, auto) { t.weight[i] = t.origin[i]; });
  }
};

struct Unperturb {
  __device__ void operator()(const Item& item, int, std::int64_t block) const {
    each_element<kWeight | kOrigin | kTotal, kWeight>(item, block, [](auto& t, int i, auto d) {
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
    each_element<kOrigin | kTotal, kWeight>(item, block, [&](auto& t, int i, auto d) {
      using Wide = typename decltype(d)::Wide;
      t.weight[i] = d.narrow(d.widen(t.origin[i]) + multiplier<Wide>(scale) * d.widen(t.total[i]));
    });
  }
};

template <bool first>
struct Amp {
  static constexpr unsigned reads = kDirection | (first ? kWeight : kOrigin | kTotal);
  static constexpr unsigned writes = kWeight | kTotal | (first ? kOrigin : 0);
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
    const double shrink = settings.together ? shrink_of(all, add) : shrink_of(of_item(sums, at), add);
    if (block == 0) write_length(all, add);
    each_element<reads, writes>(item, block, [&](auto& t, int i, auto d) {
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
      const double shrink = settings.together ? shrink_of(all, add) : shrink_of(s, add);
      const double each = shrink * stepped_norm({s.of[0], s.of[1], s.of[2]}, add);
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
  const Item item = items[at];
  pass(item, at, block);
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
