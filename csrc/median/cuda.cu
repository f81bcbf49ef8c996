// One thread an element, neighbours in neighbouring threads: every row is read once, in whole lines. A block takes one
// tile of one tensor at a time, so that a launch serves any number of tensors of any sizes. Up to kInRegisters
// rows run through a selection network in registers; for more, the key of the wanted rank is taken by bisection of the
// key's bits, which reads the rows once for each bit, from the first-level cache.
#include <cuda_runtime.h>

#include <utility>

#include "median/cuda.h"
#include "median/network.h"

namespace buttress {
namespace {

constexpr int kInRegisters = 32, kThreads = 256, kBlocks = 1 << 16;

// The records of all tensors: of the only one, or a table.
struct Records {
  std::int64_t in_launch[kHead + kRowsInLaunch];
  const std::int64_t* table;
  std::int64_t tensors, tiles;
  int n;
  __device__ std::int64_t at(std::int64_t tensor, int field) const {
    return table != nullptr ? table[tensor * (kHead + n) + field] : in_launch[field];
  }
};

// The elements begin to end of one tensor.
struct Tile {
  const Records& records;
  std::int64_t tensor, begin, end;
  __device__ Tile(const Records& all, std::int64_t number) : records(all), tensor(0) {
    for (std::int64_t after = all.tensors; after - tensor > 1;) {  // the last tensor that begins at or before this tile
      const std::int64_t middle = tensor + (after - tensor) / 2;
      (all.at(middle, 0) <= number ? tensor : after) = middle;
    }
    begin = (number - all.at(tensor, 0)) * kTile;
    end = begin + kTile < all.at(tensor, 1) ? begin + kTile : all.at(tensor, 1);
  }
  __device__ void* out() const { return reinterpret_cast<void*>(records.at(tensor, 2)); }
  __device__ const void* row(int i) const { return reinterpret_cast<const void*>(records.at(tensor, kHead + i)); }
};

// Numbers as unsigned integers of the same order, and back.
template <Type type_>
struct Keys {
  static constexpr Type type = type_;
  using N = Number<type>;
  using Key = typename N::Bits;
  static constexpr int width = int(8 * sizeof(Key));
  static __device__ Key of(Key bits) { return Key(bits & N::sign ? ~bits : bits | N::sign); }
  static __device__ Key back(Key key) { return Key(key & N::sign ? key ^ N::sign : ~key); }
};

// Loads one element's key; `nan` becomes true where it is none.
template <typename K>
__device__ typename K::Key load(const Tile& tile, int row, std::int64_t i, bool& nan) {
  const auto bits = static_cast<const typename K::Key*>(tile.row(row))[i];
  nan |= typename K::Key(bits & typename K::Key(~K::N::sign)) > K::N::infinity;
  return K::of(bits);
}

template <typename K>
__device__ void store(void* out, std::int64_t i, typename K::Key lower, typename K::Key upper, bool halfway, bool nan) {
  using Key = typename K::Key;
  const Key high = K::back(upper);
  const Key value = halfway ? mean<K::type>(K::back(lower), high) : high;
  static_cast<Key*>(out)[i] = nan ? K::N::nan : value;
}

template <int N, std::size_t C, typename Key>
__device__ void compare(Key* x) {
  constexpr Comparator c = StaticNetwork<N, false>::pruned.all[C];
  const Key a = x[c.a], b = x[c.b];
  if constexpr ((c.keep & 1) != 0) x[c.a] = b < a ? b : a;
  if constexpr ((c.keep & 2) != 0) x[c.b] = b < a ? a : b;
}

template <int N, typename Key, std::size_t... C>
__device__ void run(Key* x, std::index_sequence<C...>) {
  (compare<N, C>(x), ...);
}

template <typename K, int N>
__global__ void in_registers(const __grid_constant__ Records records, bool higher, bool halfway) {
  for (std::int64_t number = blockIdx.x; number < records.tiles; number += gridDim.x) {
    const Tile tile(records, number);
    for (std::int64_t i = tile.begin + threadIdx.x; i < tile.end; i += blockDim.x) {
      typename K::Key x[N];
      bool nan = false;
#pragma unroll
      for (int row = 0; row < N; ++row) x[row] = load<K>(tile, row, i, nan);
      run<N>(x, std::make_index_sequence<StaticNetwork<N, false>::pruned.needed>{});
      store<K>(tile.out(), i, x[(N - 1) / 2], higher ? x[N / 2] : x[(N - 1) / 2], halfway, nan);
    }
  }
}

// The key of a rank: bit by bit from the top, the smallest prefix that more than `rank` keys do not exceed.
template <typename K>
__device__ typename K::Key of_rank(const Tile& tile, int n, int rank, std::int64_t i, bool& nan) {
  using Key = typename K::Key;
  Key prefix = 0;
  for (int bit = K::width - 1; bit >= 0; --bit) {
    const Key top = Key(prefix | Key((Key(1) << bit) - 1));  // the largest key with this prefix and a 0 here
    int below = 0;
    for (int row = 0; row < n; ++row) below += load<K>(tile, row, i, nan) <= top;
    if (below <= rank) prefix = Key(prefix | Key(Key(1) << bit));
  }
  return prefix;
}

template <typename K>
__global__ void by_bisection(const __grid_constant__ Records records, int lower, int upper, bool halfway) {
  for (std::int64_t number = blockIdx.x; number < records.tiles; number += gridDim.x) {
    const Tile tile(records, number);
    for (std::int64_t i = tile.begin + threadIdx.x; i < tile.end; i += blockDim.x) {
      bool nan = false;
      const auto high = of_rank<K>(tile, records.n, upper, i, nan);
      const auto low = halfway ? of_rank<K>(tile, records.n, lower, i, nan) : high;
      store<K>(tile.out(), i, low, high, halfway, nan);
    }
  }
}

template <typename K, std::size_t... N>
void launch(const CudaJob& job, const Records& records, cudaStream_t stream, std::index_sequence<N...>) {
  const auto blocks = unsigned(job.tiles < kBlocks ? job.tiles : kBlocks);
  const bool higher = job.upper == job.n / 2;
  const bool done =
      ((job.n == int(N) + 1 &&
        (in_registers<K, int(N) + 1><<<blocks, kThreads, 0, stream>>>(records, higher, job.mean), true)) ||
       ...);
  if (!done) by_bisection<K><<<blocks, kThreads, 0, stream>>>(records, job.lower, job.upper, job.mean);
}

}  // namespace

int median_cuda(const CudaJob& job, void* stream) {
  if (job.tiles == 0) return int(cudaSuccess);
  Records records{{}, job.table, job.tensors, job.tiles, job.n};
  for (int field = 0; job.table == nullptr && field < kHead + job.n; ++field) {
    records.in_launch[field] = job.records[field];
  }
  const auto counts = std::make_index_sequence<kInRegisters>{};
  const auto on = static_cast<cudaStream_t>(stream);
  switch (job.type) {
    case Type::float32: launch<Keys<Type::float32>>(job, records, on, counts); break;
    case Type::float64: launch<Keys<Type::float64>>(job, records, on, counts); break;
    case Type::float16: launch<Keys<Type::float16>>(job, records, on, counts); break;
    case Type::bfloat16: launch<Keys<Type::bfloat16>>(job, records, on, counts); break;
  }
  return int(cudaGetLastError());
}

}  // namespace buttress
