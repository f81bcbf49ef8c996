// Neighbouring elements in neighbouring threads, so that rows are read in whole lines. A block takes one tile of one
// tensor at a time, so that a launch serves any number of tensors of any sizes. As many rows as registers hold run
// through a selection network (cuda_networks.h). The key of a rank among more rows is taken by its bits, two at a time
// from the first that differs, until it is the smallest or the largest of those with the same beginning: a pass over
// the rows each.
#include "median/cuda_tile.h"

namespace buttress {
namespace {

// Numbers as unsigned integers of the same order, and back.
template <Type type_>
struct Keys {
  static constexpr Type type = type_;
  using N = Number<type>;
  using Key = typename N::Bits;
  static constexpr int width = int(8 * sizeof(Key));
  static __device__ Key of(Key bits) { return Key(bits & N::sign ? ~bits : bits | N::sign); }
  static __device__ Key back(Key key) { return Key(key & N::sign ? key ^ N::sign : ~key); }
  static __device__ bool is_nan(Key bits) { return Key(bits & Key(~N::sign)) > N::infinity; }
};

// One element of all rows.
template <typename K>
struct Column {
  using Key = typename K::Key;
  const Tile& tile;
  int n;
  std::int64_t i;

  __device__ Key bits(int row) const { return static_cast<const Key*>(tile.row(row))[i]; }
  __device__ Key key(int row) const { return K::of(bits(row)); }

  // The key of rank `rank`; false where there is a NaN.
  __device__ bool at_rank(int rank, Key& result) const {
    Key least = Key(~Key(0)), most = 0;
    bool nan = false;
#pragma unroll 4
    for (int row = 0; row < n; ++row) {
      const Key each = key(row);
      nan |= K::is_nan(bits(row));
      least = each < least ? each : least;
      most = each > most ? each : most;
    }
    result = least == most ? least : between(least, most, rank);
    return !nan;
  }

  __device__ Key between(Key least, Key most, int rank) const {
    int shift = K::width - 2;  // of the two bits that are decided next
    while (Key(least ^ most) >> shift == 0) shift -= 2;
    Key prefix = Key(least >> shift & ~Key(3)) << shift;  // the smallest key that begins as the wanted one
    int before = 0, until = n;  // how many keys are smaller, and how many do not exceed the largest that begins so
    for (;; shift -= 2) {
      const Key one = Key(Key(1) << shift);
      int below[3] = {0, 0, 0};
#pragma unroll 4
      for (int row = 0; row < n; ++row) {
        const Key each = key(row);
#pragma unroll
        for (int digit = 1; digit < 4; ++digit) below[digit - 1] += each < Key(prefix + digit * one);
      }
      const int digit = (below[0] <= rank) + (below[1] <= rank) + (below[2] <= rank);
      before = digit == 0 ? before : digit == 1 ? below[0] : digit == 2 ? below[1] : below[2];
      until = digit == 0 ? below[0] : digit == 1 ? below[1] : digit == 2 ? below[2] : until;
      prefix = Key(prefix + digit * one);
      if (shift == 0) return prefix;
      if (rank == before) return smallest_from(prefix);
      if (rank == until - 1) return largest_until(Key(prefix | Key(one - 1)));
    }
  }

  __device__ Key smallest_from(Key least) const {
    Key result = Key(~Key(0));
#pragma unroll 4
    for (int row = 0; row < n; ++row) {
      const Key each = key(row);
      if (each >= least && each < result) result = each;
    }
    return result;
  }

  __device__ Key largest_until(Key most) const {
    Key result = 0;
#pragma unroll 4
    for (int row = 0; row < n; ++row) {
      const Key each = key(row);
      if (each <= most && each > result) result = each;
    }
    return result;
  }

  // The key of the rank after that of `key`, which is `rank`.
  __device__ Key after(Key low, int rank) const {
    int until = 0;
#pragma unroll 4
    for (int row = 0; row < n; ++row) until += key(row) <= low;
    return until > rank + 1 ? low : smallest_from(Key(low + 1));
  }
};

template <typename K>
__global__ void __launch_bounds__(kThreads) by_bits(const __grid_constant__ Records records, int rank, bool halfway) {
  using Key = typename K::Key;
  for (std::int64_t number = blockIdx.x; number < records.tiles; number += gridDim.x) {
    const Tile tile(records, number);
    for (std::int64_t i = tile.begin + threadIdx.x; i < tile.end; i += kThreads) {
      const Column<K> column{tile, records.n, i};
      Key value = K::N::nan, low;
      if (column.at_rank(rank, low)) {
        value = K::back(low);
        if (halfway) value = mean<K::type>(value, K::back(column.after(low, rank)));
      }
      static_cast<Key*>(tile.out())[i] = value;
    }
  }
}

template <Type type>
void launch(const CudaJob& job, const Records& records, cudaStream_t stream) {
  const auto blocks = unsigned(job.tiles < kBlocks ? job.tiles : kBlocks);
  if (job.n <= largest_network(type)) return launch_network<type>(job, records, blocks, stream);
  by_bits<Keys<type>><<<blocks, kThreads, 0, stream>>>(records, job.mean ? job.lower : job.upper, job.mean);
}

}  // namespace

int median_cuda(const CudaJob& job, void* stream) {
  if (job.tiles == 0) return int(cudaSuccess);
  Records records{{}, job.table, job.tensors, job.tiles, job.n};
  for (int field = 0; job.table == nullptr && field < kHead + job.n; ++field) {
    records.in_launch[field] = job.records[field];
  }
  const auto on = static_cast<cudaStream_t>(stream);
  switch (job.type) {
    case Type::float32: launch<Type::float32>(job, records, on); break;
    case Type::float64: launch<Type::float64>(job, records, on); break;
    case Type::float16: launch<Type::float16>(job, records, on); break;
    case Type::bfloat16: launch<Type::bfloat16>(job, records, on); break;
  }
  return int(cudaGetLastError());
}

}  // namespace buttress
