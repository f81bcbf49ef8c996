// The median's C++ under the address and undefined-behaviour sanitizers, without torch: `make sanitize`, which runs it
// once for every level that `--levels` lists.
//
// Every network is proven by the 0-1 principle: one that orders all sequences of zeros and ones orders all sequences.
// The medians of every number of rows up to 130 are compared with std::nth_element, in buffers that end where they must.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

#include "median/cpu.h"
#include "median/network.h"

using namespace buttress;

namespace {

// A dtype by the signed integers that hold its numbers.
template <Type type>
struct Kind {
  using Bits = typename Number<type>::Bits;
  using Key = std::make_signed_t<Bits>;
  static constexpr Key infinity = Key(Number<type>::infinity);
  static Key mean(Key a, Key b) { return Key(buttress::mean<type>(Bits(a), Bits(b))); }
};

int failures = 0;

void expect(bool good, const char* what, int n, long at) {
  if (good) return;
  if (++failures <= 20) std::printf("FAILED: %s, %d rows, at %ld\n", what, n, at);
}

// Runs a network on 64 sequences of zeros and ones at once, bit by bit.
template <typename Network>
void run(std::uint64_t* x) {
  for (std::size_t c = 0; c < Network::pruned.needed; ++c) {
    const Comparator comparator = Network::pruned.all[c];
    const std::uint64_t a = x[comparator.a], b = x[comparator.b];
    if ((comparator.keep & 1) != 0) x[comparator.a] = a & b;
    if ((comparator.keep & 2) != 0) x[comparator.b] = a | b;
  }
}

// Whether position `rank` holds a one exactly where more than n - 1 - rank of n inputs do.
bool ranked(std::uint64_t result, const std::vector<std::uint64_t>& inputs, int rank) {
  for (int bit = 0; bit < 64; ++bit) {
    int ones = 0;
    for (const std::uint64_t word : inputs) ones += int(word >> bit & 1);
    if ((result >> bit & 1) != (ones > int(inputs.size()) - 1 - rank ? 1u : 0u)) return false;
  }
  return true;
}

// All 2^N sequences for N up to 16, a million random ones beyond.
template <int N>
void prove_sort_and_selection(std::mt19937_64& random) {
  const long words = N <= 16 ? (1L << N) / 64 + 1 : 1L << 14;
  std::vector<std::uint64_t> inputs(N);
  for (long word = 0; word < words; ++word) {
    for (int i = 0; i < N; ++i) {
      std::uint64_t bits = N <= 16 ? 0 : random();
      if (N <= 16) {
        for (int bit = 0; bit < 64; ++bit) bits |= std::uint64_t((word * 64 + bit) >> i & 1) << bit;
      }
      inputs[std::size_t(i)] = bits;
    }
    std::vector<std::uint64_t> sorted = inputs, middle = inputs;
    run<StaticNetwork<N, true>>(sorted.data());
    run<StaticNetwork<N, false>>(middle.data());
    for (int rank = 0; rank < N; ++rank) expect(ranked(sorted[std::size_t(rank)], inputs, rank), "sort", N, word);
    for (const int rank : {(N - 1) / 2, N / 2}) {
      expect(ranked(middle[std::size_t(rank)], inputs, rank), "selection", N, word);
    }
  }
}

// All (N + 1)^2 pairs of sorted sequences of zeros and ones.
template <int N>
void prove_merge() {
  for (int a = 0; a <= N; ++a) {
    for (int b = 0; b <= N; ++b) {
      std::uint64_t x[2 * N];
      for (int i = 0; i < N; ++i) x[i] = i >= N - a, x[N + i] = i >= N - b;
      run<MergeNetwork<N>>(x);
      for (int i = 0; i < 2 * N; ++i) expect(x[i] == std::uint64_t(i >= 2 * N - a - b), "merge", N, i);
    }
  }
}

template <int... I>
void prove_networks(std::integer_sequence<int, I...>) {
  std::mt19937_64 random(1);
  (prove_sort_and_selection<I + 1>(random), ...);
  (prove_merge<I / 2 + 1>(), ...);
}

// In the order of the numbers: bits of sign and magnitude as two's complement.
template <typename K>
typename K::Key key(typename K::Key bits) {
  return typename K::Key(bits < 0 ? bits ^ std::numeric_limits<typename K::Key>::max() : bits);
}

template <typename K>
bool is_nan(typename K::Key bits) {
  return (bits & std::numeric_limits<typename K::Key>::max()) > K::infinity;
}

// Element i of a row. Columns of random bits (numbers, infinities, denormals; NaN in some) hardly ever put all of one
// group of rows before another's: others hold the rows' order, its reverse, or zeros and ones cut anywhere.
template <typename K>
typename K::Key draw(int row, int n, long i, std::mt19937_64& random) {
  using Key = typename K::Key;
  const int cut = int(i * 7919 % (n + 1));
  switch (i % 8) {
    case 0: return Key(row);  // small integers as bits: denormals, in this order
    case 1: return Key(n - row);
    case 2: return Key(row < cut);
    case 3: return Key(row >= cut);
    case 4: return Key(random() % std::uint64_t(n) < std::uint64_t(cut));
    case 5: return Key(random() % 2 ? K::infinity : std::numeric_limits<Key>::min() | K::infinity);
    default: break;
  }
  const Key bits = Key(random());
  return is_nan<K>(bits) && i % 16 != 7 ? Key(row) : bits;
}

// n rows of `size` elements, each in memory of its own without a byte to spare and `shift` elements off alignment.
template <typename K>
void compare(Type type, int n, long size, int shift, std::mt19937_64& random) {
  using Key = typename K::Key;
  std::vector<std::unique_ptr<Key[]>> memory;
  std::vector<const void*> rows;
  for (int row = 0; row < n; ++row) {
    memory.emplace_back(new Key[std::size_t(size + shift)]);
    for (long i = 0; i < size + shift; ++i) {
      memory.back()[std::size_t(i)] = draw<K>(row, n, i, random);
    }
    rows.push_back(memory.back().get() + shift);
  }
  std::unique_ptr<Key[]> out(new Key[std::size_t(size + shift)]);
  std::unique_ptr<void, decltype(&std::free)> scratch(std::aligned_alloc(64, (median_scratch(n) + 63) / 64 * 64),
                                                      &std::free);
  std::vector<Key> column(static_cast<std::size_t>(n));
  for (const int mode : {0, 1, 2}) {  // lower, upper, mean
    const int lower = mode == 1 ? n / 2 : (n - 1) / 2, upper = mode == 0 ? lower : n / 2;
    const Job job{type, n, size, rows.data(), out.get() + shift, lower, upper, mode == 2 && lower != upper};
    const long cut = size / 3;
    median_elements(job, 0, cut, scratch.get());
    median_elements(job, cut, size, scratch.get());
    for (long i = 0; i < size; ++i) {
      bool nan = false;
      for (int row = 0; row < n; ++row) {
        const Key bits = static_cast<const Key*>(rows[std::size_t(row)])[i];
        nan = nan || is_nan<K>(bits);
        column[std::size_t(row)] = key<K>(bits);
      }
      std::sort(column.begin(), column.end());
      const Key low = key<K>(column[std::size_t(lower)]), high = key<K>(column[std::size_t(upper)]);
      const Key wanted = job.mean ? K::mean(low, high) : high, result = out[std::size_t(i + shift)];
      // A mean of infinities of both signs is NaN too.
      const bool same = nan || is_nan<K>(wanted) ? is_nan<K>(result) : result == wanted;
      expect(same, "median", n, i);
    }
  }
}

template <Type type>
void compare_all() {
  std::mt19937_64 random(2);
  for (int n = 1; n <= 130; ++n) compare<Kind<type>>(type, n, 259 + n % 64, n % 5, random);
  for (const int n : {61, 120, 300, 1100}) compare<Kind<type>>(type, n, 1500, 1, random);
  for (const long size : {0, 1, 2, 31, 32, 33, 64}) compare<Kind<type>>(type, 7, size, 3, random);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--levels") == 0) {
    for (const std::string& level : median_levels()) std::printf("%s\n", level.c_str());
    return 0;
  }
  std::printf("median, %s\n", median_level().c_str());
  prove_networks(std::make_integer_sequence<int, 32>{});
  compare_all<Type::float32>();
  compare_all<Type::float64>();
  compare_all<Type::float16>();
  compare_all<Type::bfloat16>();
  std::printf(failures == 0 ? "all good\n" : "%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
