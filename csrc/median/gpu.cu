// One thread an element, neighbours in neighbouring threads: every row is read once, in whole lines. Up to kInRegisters
// rows run through a selection network in registers; for more, the key of the wanted rank is found by bisection of the
// key's bits, which reads the rows once for each bit, from the first-level cache.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <utility>

#include "median/gpu.h"
#include "median/network.h"

namespace buttress {
namespace {

constexpr int kInRegisters = 32, kThreads = 256, kBlocks = 1 << 16;

struct Rows {
  const void* in_launch[kRowsInLaunch];
  const void* const* more;
  __device__ const void* at(int row) const { return more != nullptr ? more[row] : in_launch[row]; }
};

// Floating point as unsigned integers of the same order, and back.
template <typename Bits>
struct Keys {
  using Key = Bits;
  static constexpr int width = int(8 * sizeof(Bits));
  static constexpr Bits sign = Bits(Bits(1) << (width - 1));
  static __device__ Key of(Bits bits) { return Bits(bits & sign ? ~bits : bits | sign); }
  static __device__ Bits back(Key key) { return Bits(key & sign ? key ^ sign : ~key); }
};

template <Type type>
struct Kind;
template <>
struct Kind<Type::float32> : Keys<std::uint32_t> {
  static constexpr std::uint32_t infinity = 0x7f800000u;
  static __device__ std::uint32_t mean(std::uint32_t a, std::uint32_t b) {
    return __float_as_uint(__uint_as_float(a) * 0.5f + __uint_as_float(b) * 0.5f);
  }
};
template <>
struct Kind<Type::float64> : Keys<unsigned long long> {
  static constexpr unsigned long long infinity = 0x7ff0000000000000ull;
  static __device__ unsigned long long mean(unsigned long long a, unsigned long long b) {
    const double sum = __longlong_as_double((long long)a) * 0.5 + __longlong_as_double((long long)b) * 0.5;
    return (unsigned long long)__double_as_longlong(sum);
  }
};
template <>
struct Kind<Type::float16> : Keys<std::uint16_t> {
  static constexpr std::uint16_t infinity = 0x7c00;
  static __device__ std::uint16_t mean(std::uint16_t a, std::uint16_t b) {
    const float sum = __half2float(__ushort_as_half(a)) * 0.5f + __half2float(__ushort_as_half(b)) * 0.5f;
    return __half_as_ushort(__float2half_rn(sum));
  }
};
template <>
struct Kind<Type::bfloat16> : Keys<std::uint16_t> {
  static constexpr std::uint16_t infinity = 0x7f80;
  static __device__ std::uint16_t mean(std::uint16_t a, std::uint16_t b) {
    const float sum = __bfloat162float(__ushort_as_bfloat16(a)) * 0.5f + __bfloat162float(__ushort_as_bfloat16(b)) * 0.5f;
    return __bfloat16_as_ushort(__float2bfloat16_rn(sum));
  }
};

// Loads one element's key; `nan` becomes true where it is none.
template <typename K>
__device__ typename K::Key load(const Rows& rows, int row, std::int64_t i, bool& nan) {
  const auto bits = static_cast<const typename K::Key*>(rows.at(row))[i];
  nan |= typename K::Key(bits & typename K::Key(~K::sign)) > K::infinity;
  return K::of(bits);
}

template <typename K>
__device__ void store(void* out, std::int64_t i, typename K::Key lower, typename K::Key upper, bool mean, bool nan) {
  using Key = typename K::Key;
  const Key high = K::back(upper);
  const Key value = mean ? K::mean(K::back(lower), high) : high;
  static_cast<Key*>(out)[i] = nan ? Key(~K::sign) : value;  // all bits but the sign: a NaN
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
__global__ void in_registers(Rows rows, void* out, std::int64_t size, bool higher, bool mean) {
  const std::int64_t stride = std::int64_t(gridDim.x) * blockDim.x;
  for (std::int64_t i = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += stride) {
    typename K::Key x[N];
    bool nan = false;
#pragma unroll
    for (int row = 0; row < N; ++row) x[row] = load<K>(rows, row, i, nan);
    run<N>(x, std::make_index_sequence<StaticNetwork<N, false>::pruned.needed>{});
    store<K>(out, i, x[(N - 1) / 2], higher ? x[N / 2] : x[(N - 1) / 2], mean, nan);
  }
}

// The key of a rank: bit by bit from the top, the smallest prefix that more than `rank` keys do not exceed.
template <typename K>
__device__ typename K::Key of_rank(const Rows& rows, int n, int rank, std::int64_t i, bool& nan) {
  using Key = typename K::Key;
  Key found = 0;
  for (int bit = K::width - 1; bit >= 0; --bit) {
    const Key top = Key(found | Key((Key(1) << bit) - 1));  // the largest key with this prefix and a 0 here
    int below = 0;
    for (int row = 0; row < n; ++row) below += load<K>(rows, row, i, nan) <= top;
    if (below <= rank) found = Key(found | Key(Key(1) << bit));
  }
  return found;
}

template <typename K>
__global__ void by_bisection(Rows rows, void* out, std::int64_t size, int n, int lower, int upper, bool mean) {
  const std::int64_t stride = std::int64_t(gridDim.x) * blockDim.x;
  for (std::int64_t i = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += stride) {
    bool nan = false;
    const auto high = of_rank<K>(rows, n, upper, i, nan);
    const auto low = mean ? of_rank<K>(rows, n, lower, i, nan) : high;
    store<K>(out, i, low, high, mean, nan);
  }
}

template <typename K, std::size_t... N>
void launch(const GpuJob& job, const Rows& rows, cudaStream_t stream, std::index_sequence<N...>) {
  const std::int64_t wanted = (job.size + kThreads - 1) / kThreads;
  const auto blocks = unsigned(wanted < kBlocks ? wanted : kBlocks);
  const bool higher = job.upper == job.n / 2;
  const bool done = ((job.n == int(N) + 1 &&
                      (in_registers<K, int(N) + 1><<<blocks, kThreads, 0, stream>>>(rows, job.out, job.size, higher, job.mean),
                       true)) ||
                     ...);
  if (!done) {
    by_bisection<K><<<blocks, kThreads, 0, stream>>>(rows, job.out, job.size, job.n, job.lower, job.upper, job.mean);
  }
}

}  // namespace

int median_gpu(const GpuJob& job, void* stream) {
  if (job.size == 0) return int(cudaSuccess);
  Rows rows{};
  rows.more = job.n > kRowsInLaunch ? job.more : nullptr;
  for (int row = 0; row < job.n && rows.more == nullptr; ++row) rows.in_launch[row] = job.rows[row];
  const auto counts = std::make_index_sequence<kInRegisters>{};
  const auto on = static_cast<cudaStream_t>(stream);
  switch (job.type) {
    case Type::float32: launch<Kind<Type::float32>>(job, rows, on, counts); break;
    case Type::float64: launch<Kind<Type::float64>>(job, rows, on, counts); break;
    case Type::float16: launch<Kind<Type::float16>>(job, rows, on, counts); break;
    case Type::bfloat16: launch<Kind<Type::bfloat16>>(job, rows, on, counts); break;
  }
  return int(cudaGetLastError());
}

}  // namespace buttress
