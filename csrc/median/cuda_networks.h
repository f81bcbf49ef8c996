// The median by selection networks in registers: a thread loads neighbouring elements of every row at once, 16 bytes
// where there are few rows, runs all rows through one network, and stores as much. Networks have even sizes, above 32
// rows multiples of 4, above 64 of 8. Rows are filled up with infinities, as many of them below the middle as above, so that it
// stays where it is.
#pragma once

#include <utility>

#include "median/cuda_tile.h"
#include "median/instructions.h"

namespace buttress {

// Sizes of networks: a step to each, since the larger ones take nvcc seconds.
BUTTRESS_HOST_DEVICE constexpr int step_to(int size) { return size <= 32 ? 2 : size <= 64 ? 4 : 8; }
constexpr int size_of_network(int index) {
  int size = 2;
  for (int i = 0; i < index; ++i) size += step_to(size + 2);
  return size;
}
constexpr int count_networks(Type type) {
  int count = 0;
  while (size_of_network(count) <= largest_network(type)) ++count;
  return count;
}

// Registers of a row: for 16 bytes of it, for 8, or for one word.
BUTTRESS_HOST_DEVICE constexpr int registers_of_row(Type type, int size) {
  return size <= 8 ? 4 : size <= 32 || type == Type::float64 ? 2 : 1;
}

// There is no such instruction for float64. `Rows` notices what it would: NaN, and -0.
template <>
struct Words<Type::float64> {
  using Word = double;
  static constexpr int numbers = 1;
  static __device__ __forceinline__ Word smaller(Word a, Word b) { return b < a ? b : a; }
  static __device__ __forceinline__ Word larger(Word a, Word b) { return b < a ? a : b; }
};

// Words as vectors that one instruction loads and stores.
template <int Registers>
struct Vector;
template <>
struct Vector<1> {
  using type = unsigned;
};
template <>
struct Vector<2> {
  using type = uint2;
};
template <>
struct Vector<4> {
  using type = uint4;
};

// Neighbouring numbers of one row: as many as fill one vector.
template <Type type, int Registers>
struct Pack {
  using W = Words<type>;
  using Word = typename W::Word;
  using Bits = typename Number<type>::Bits;
  using Whole = typename Vector<Registers>::type;
  static constexpr int words = int(sizeof(Whole) / sizeof(Word)), numbers = words * W::numbers;

  struct Array {
    Word word[words];
  } array;

  __device__ Bits get(int number) const {
    if constexpr (W::numbers == 1) {
      return bits_as<Bits>(array.word[number]);
    } else {
      return Bits(array.word[number / 2] >> 16 * (number % 2));
    }
  }
  __device__ void set(int number, Bits bits) {
    if constexpr (W::numbers == 1) {
      array.word[number] = bits_as<Word>(bits);
    } else {
      const int shift = 16 * (number % 2);
      Word& word = array.word[number / 2];
      word = (shift == 0 ? 0 : word) | std::uint32_t(bits) << shift;  // in order: the lower half first
    }
  }

  // All rows are read once and the result is not read here: both are marked to leave the caches first.
  __device__ void load(const void* row, std::int64_t i) {
    array = bits_as<Array>(__ldcs(reinterpret_cast<const Whole*>(static_cast<const Bits*>(row) + i)));
  }
  __device__ void store(void* row, std::int64_t i) const {
    __stcs(reinterpret_cast<Whole*>(static_cast<Bits*>(row) + i), bits_as<Whole>(array));
  }
  // The first `count` numbers one by one; the others are copies of the first.
  __device__ void load_some(const void* row, std::int64_t i, int count) {
    const auto from = static_cast<const Bits*>(row) + i;
#pragma unroll
    for (int k = 0; k < numbers; ++k) set(k, from[k < count ? k : 0]);
  }
  __device__ void store_some(void* row, std::int64_t i, int count) const {
    const auto to = static_cast<Bits*>(row) + i;
#pragma unroll
    for (int k = 0; k < numbers; ++k) {
      if (k < count) to[k] = get(k);
    }
  }
  __device__ void fill(Bits bits) {
#pragma unroll
    for (int k = 0; k < numbers; ++k) set(k, bits);
  }
};

// The elements that a thread has at a time.
template <Type type, int N>
struct Rows {
  using P = Pack<type, registers_of_row(type, N)>;
  using Bits = typename P::Bits;
  using Float = Number<type>;
  P x[N];
  // For float64: whether there is a NaN, and how many numbers are negative or -0, which the network takes for 0.
  bool nan[P::numbers] = {};
  int negative[P::numbers] = {};

  template <bool whole>
  __device__ void load(const Tile& tile, int n, std::int64_t i, int count) {
    constexpr int sure = N - step_to(N) + 1;  // rows that there are in any case
    const int filled = (N - n) / 2;
#pragma unroll
    for (int row = 0; row < N; ++row) {
      if (row < sure || row < n) {
        if constexpr (whole) {
          x[row].load(tile.row(row), i);
        } else {
          x[row].load_some(tile.row(row), i, count);
        }
        if constexpr (type == Type::float64) note(x[row]);
      } else {
        x[row].fill(row < n + filled ? Bits(Float::infinity | Float::sign) : Float::infinity);
      }
    }
  }

  __device__ void note(const P& row) {
#pragma unroll
    for (int k = 0; k < P::numbers; ++k) {
      nan[k] |= row.array.word[k] != row.array.word[k];
      negative[k] += int(row.get(k) >> 63);
    }
  }

  // The number of a rank among n, or the mean of two.
  __device__ Bits result(int k, int n, bool higher, bool halfway) const {
    const Bits low = ranked(x[N / 2 - 1].get(k), (n - 1) / 2, k), high = ranked(x[N / 2].get(k), n / 2, k);
    const Bits value = halfway ? mean<type>(low, high) : higher ? high : low;
    return Bits(value & Bits(~Float::sign)) > Float::infinity ? Float::nan : value;
  }

  __device__ Bits ranked(Bits bits, int rank, int k) const {
    if constexpr (type == Type::float64) {
      const Bits zero = rank < negative[k] ? Float::sign : 0;
      return nan[k] ? Float::nan : Bits(bits & ~Float::sign) == 0 ? zero : bits;
    } else {
      return bits;
    }
  }
};

template <Type type, int N>
__global__ void __launch_bounds__(kThreads, type == Type::float64 ? 1 : 0)
    by_network(const __grid_constant__ Records records, bool higher, bool halfway) {
  using P = typename Rows<type, N>::P;
  for (std::int64_t number = blockIdx.x; number < records.tiles; number += gridDim.x) {
    const Tile tile(records, number);
    const bool aligned = tile.aligned(sizeof(P));
    for (std::int64_t i = tile.begin + threadIdx.x * P::numbers; i < tile.end; i += kThreads * P::numbers) {
      const int count = int(tile.end - i < P::numbers ? tile.end - i : P::numbers);
      const bool whole = P::numbers == 1 || (aligned && count == P::numbers);
      Rows<type, N> rows;
      if (whole) {
        rows.template load<true>(tile, records.n, i, count);
      } else {
        rows.template load<false>(tile, records.n, i, count);
      }
      run<Words<type>, N>(rows.x);
      P out;
#pragma unroll
      for (int k = 0; k < P::numbers; ++k) out.set(k, rows.result(k, records.n, higher, halfway));
      if (whole) {
        out.store(tile.out(), i);
      } else {
        out.store_some(tile.out(), i, count);
      }
    }
  }
}

template <Type type, std::size_t... Index>
void launch_smallest(const CudaJob& job, const Records& records, unsigned blocks, cudaStream_t stream,
                     std::index_sequence<Index...>) {
  const bool higher = job.upper != (job.n - 1) / 2;
  const auto serves = [&](auto size) {
    if (job.n > size) return false;
    by_network<type, size><<<blocks, kThreads, 0, stream>>>(records, higher, job.mean);
    return true;
  };
  (serves(std::integral_constant<int, size_of_network(int(Index))>{}) || ...);
}

template <Type type>
void launch_network(const CudaJob& job, const Records& records, unsigned blocks, cudaStream_t stream) {
  launch_smallest<type>(job, records, blocks, stream, std::make_index_sequence<count_networks(type)>{});
}

}  // namespace buttress
