// Plain loops that the compiler turns into vectors, compiled for each instruction set and chosen when the library
// loads.
//
// Examples are taken in tiles whose differences from the largest logit fit in the first-level cache, so that the
// exponentials of all their classes are one long loop: ten classes would not fill a vector. A gradient is made of the
// same exponentials, while they are there.
#include "lsc/cpu.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define BUTTRESS_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define BUTTRESS_INLINE inline __attribute__((always_inline))
#else
#define BUTTRESS_SIMD
#define BUTTRESS_INLINE inline
#endif

namespace buttress {
namespace {

constexpr std::int64_t kTile = 4096;  // logits: 16 KiB of float32
constexpr std::int64_t kVector = 32;  // shorter rows are reduced one by one: setting a vector up would cost more

// exp(x) for x <= 0 within 1e-7 (relative); 0 below -87, where float32 would be denormal; NaN for NaN. Reduction to
// [-ln 2 / 2, ln 2 / 2] with ln 2 in two parts, and the polynomial of Cephes' expf. No branch and no conversion to an
// integer, so that a loop of it becomes vectors: adding 1.5 * 2^23 rounds to an integer in the low bits of the sum.
BUTTRESS_INLINE float exponential(float x) {
  constexpr float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, rounder = 12582912.0f;
  const float shifted = x * log2_e + rounder;
  const float n = shifted - rounder;
  const float r = x - n * ln2_high - n * ln2_low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const float power = std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) + 127u) << 23);  // 2^n
  const auto in_range = std::uint32_t(-std::int32_t(!(x < -87.0f)));
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(p * power) & in_range);
}

BUTTRESS_INLINE double exponential(double x) { return std::exp(x); }

// ln(x) for finite x >= 1 within 1e-7 (relative); NaN for NaN. x is m * 2^e with m from sqrt(1/2) to sqrt(2); Cephes'
// logf has the polynomial. No branch, as above.
BUTTRESS_INLINE float logarithm(float x) {
  constexpr std::uint32_t root_half = 0x3f3504f3;
  constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  const std::uint32_t above = std::bit_cast<std::uint32_t>(x) - root_half;
  const float e = float(std::int32_t(above) >> 23);
  const float r = std::bit_cast<float>((above & 0x007fffffu) + root_half) - 1.0f;
  float p = 7.0376836292e-2f;
  p = p * r - 1.1514610310e-1f;
  p = p * r + 1.1676998740e-1f;
  p = p * r - 1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f;
  p = p * r - 1.6668057665e-1f;
  p = p * r + 2.0000714765e-1f;
  p = p * r - 2.4999993993e-1f;
  p = p * r + 3.3333331174e-1f;
  const float square = r * r;
  return p * r * square + e * ln2_low - 0.5f * square + r + e * ln2_high + (x - x);  // the last: NaN for NaN
}

BUTTRESS_INLINE double logarithm(double x) { return std::log(x); }

template <typename T>
BUTTRESS_INLINE T largest_of(const T* row, std::int64_t n) {
  T largest = row[0];
  if (n < kVector) {
    for (std::int64_t k = 1; k < n; ++k) largest = largest < row[k] ? row[k] : largest;
  } else {
#pragma omp simd reduction(max : largest)
    for (std::int64_t k = 1; k < n; ++k) largest = largest < row[k] ? row[k] : largest;
  }
  return largest;
}

template <typename T>
BUTTRESS_INLINE T sum_of(const T* row, std::int64_t n) {
  T sum = 0;
  if (n < kVector) {
    for (std::int64_t k = 0; k < n; ++k) sum += row[k];
  } else {
#pragma omp simd reduction(+ : sum)
    for (std::int64_t k = 0; k < n; ++k) sum += row[k];
  }
  return sum;
}

template <typename T>
BUTTRESS_INLINE void exponentials(T* values, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) values[i] = exponential(values[i]);
}

template <typename T>
BUTTRESS_INLINE void subtract(const T* row, T shift, std::int64_t n, T* out) {
#pragma omp simd
  for (std::int64_t k = 0; k < n; ++k) out[k] = row[k] - shift;
}

template <typename T>
BUTTRESS_INLINE LscSum sum_kept(const T* losses, std::int64_t n, const LscCondition& condition) {
  double total = 0;
  std::int64_t kept = 0;
#pragma omp simd reduction(+ : total, kept)
  for (std::int64_t i = 0; i < n; ++i) {
    const bool keeps = condition.keeps(losses[i]);
    total += keeps ? double(losses[i]) : 0.0;
    kept += keeps;
  }
  return {total, kept};
}

// losses [n] become log(sums) - losses.
template <typename T>
BUTTRESS_INLINE void take_logarithms(const T* sums, std::int64_t n, T* losses) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) losses[i] = logarithm(sums[i]) - losses[i];
}

// One tile: numbers of its first example, and memory.
template <typename T>
struct Tile {
  const T* values;  // [n, classes]
  const std::int64_t* targets;
  std::int64_t n, classes;
  T *exponentials, *sums, *losses;  // [n, classes], which may be the memory of `values`; [n]; [n]
};

// Fills the tile's memory. Returns its first example whose target is no class, or -1.
template <typename T>
BUTTRESS_INLINE std::int64_t tile_losses(const Tile<T>& tile) {
  const std::int64_t classes = tile.classes;
  std::int64_t wrong = -1;
  for (std::int64_t i = 0; i < tile.n; ++i) {
    const T* row = tile.values + i * classes;
    T* const shifted = tile.exponentials + i * classes;
    subtract(row, largest_of(row, classes), classes, shifted);
    const bool known = is_class(tile.targets[i], classes);
    if (!known && wrong < 0) wrong = i;
    tile.losses[i] = shifted[known ? tile.targets[i] : 0];
  }
  exponentials(tile.exponentials, tile.n * classes);
  for (std::int64_t i = 0; i < tile.n; ++i) tile.sums[i] = sum_of(tile.exponentials + i * classes, classes);
  take_logarithms(tile.sums, tile.n, tile.losses);
  return wrong;
}

// The gradients of a tile whose memory is filled, in the place of its exponentials.
template <typename T>
BUTTRESS_INLINE void tile_gradients(const Tile<T>& tile, const LscCondition& condition, T share) {
  for (std::int64_t i = 0; i < tile.n; ++i) {
    T* const row = tile.exponentials + i * tile.classes;
    if (condition.keeps(tile.losses[i])) {
      const T factor = share / tile.sums[i];
      for (std::int64_t k = 0; k < tile.classes; ++k) row[k] *= factor;
      row[tile.targets[i]] -= share;
    } else {
      std::fill_n(row, tile.classes, T(0));  // whatever its logits are, infinite or NaN
    }
  }
}

}  // namespace

std::int64_t lsc_tile(std::int64_t classes) { return std::max<std::int64_t>(1, kTile / classes); }

template <typename T>
BUTTRESS_SIMD std::int64_t lsc_cross_entropies(const LscLogits<T>& logits, const LscCondition& condition,
                                               std::int64_t begin, std::int64_t end, LscSum* sums, T* gradient) {
  const std::int64_t tile = lsc_tile(logits.classes), classes = logits.classes, most = std::min(tile, end - begin);
  const auto memory = std::make_unique_for_overwrite<T[]>(most * (2 + (gradient == nullptr ? classes : 0)));
  T* const work = memory.get() + 2 * most;
  for (std::int64_t i = begin; i < end; i += tile) {
    const Tile<T> each{logits.values + i * classes,
                       logits.targets + i,
                       std::min(tile, end - i),
                       classes,
                       gradient == nullptr ? work : gradient + i * classes,
                       memory.get(),
                       memory.get() + most};
    const std::int64_t wrong = tile_losses(each);
    if (wrong >= 0) return i + wrong;
    sums[i / tile] = sum_kept(each.losses, each.n, condition);
    if (gradient != nullptr) tile_gradients(each, condition, T(1) / T(logits.batch));
  }
  return -1;
}

template <typename T>
BUTTRESS_SIMD void lsc_multiply(const T* values, std::int64_t n, T factor, T* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = values[i] == 0 ? T(0) : values[i] * factor;
}

template <typename T>
BUTTRESS_SIMD LscSum lsc_sum(const T* losses, std::int64_t n, const LscCondition& condition) {
  return sum_kept(losses, n, condition);
}

template <typename T>
BUTTRESS_SIMD void lsc_mask(const T* losses, std::int64_t n, const LscCondition& condition, T share, T* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = condition.keeps(losses[i]) ? share : T(0);
}

#define BUTTRESS_FOR(T)                                                                                          \
  template std::int64_t lsc_cross_entropies(const LscLogits<T>&, const LscCondition&, std::int64_t, std::int64_t, \
                                            LscSum*, T*);                                                        \
  template void lsc_multiply(const T*, std::int64_t, T, T*);                                                     \
  template LscSum lsc_sum(const T*, std::int64_t, const LscCondition&);                                          \
  template void lsc_mask(const T*, std::int64_t, const LscCondition&, T, T*);
BUTTRESS_FOR(float)
BUTTRESS_FOR(double)
#undef BUTTRESS_FOR

}  // namespace buttress
