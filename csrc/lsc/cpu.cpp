// Plain loops that the compiler turns into vectors, compiled for each instruction set and chosen when the library
// loads.
//
// Examples are taken in tiles whose differences from the largest logit fit in the first-level cache, so that the
// exponentials of all their classes are one long loop: ten classes would not fill a vector.
#include "lsc/cpu.h"

#include <algorithm>
#include <bit>
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
  for (std::int64_t k = 0; k < n; ++k) out[k] = row[k] - shift;
}

// The losses of examples begin to end, which are one tile; `work` takes their exponentials.
template <typename T>
BUTTRESS_INLINE std::int64_t tile_losses(const LscLogits<T>& logits, const LscCondition& condition, std::int64_t begin,
                                         std::int64_t end, T* work, T* losses, LscRow<T>* rows) {
  const std::int64_t classes = logits.classes;
  for (std::int64_t i = begin; i < end; ++i) rows[i].largest = largest_of(logits.values + i * classes, classes);
  for (std::int64_t i = begin; i < end; ++i) {
    subtract(logits.values + i * classes, rows[i].largest, classes, work + (i - begin) * classes);
  }
  exponentials(work, (end - begin) * classes);
  std::int64_t wrong = -1;
  for (std::int64_t i = begin; i < end; ++i) {
    std::int64_t target = logits.targets[i];
    if (!is_class(target, classes)) {
      wrong = wrong < 0 ? i : wrong;
      target = 0;
    }
    const T sum = sum_of(work + (i - begin) * classes, classes);
    losses[i] = cross_entropy(logits.values[i * classes + target], rows[i].largest, sum);
    rows[i] = row_of(losses[i], rows[i].largest, sum, condition);
  }
  return wrong;
}

template <typename T>
BUTTRESS_INLINE void tile_gradients(const LscLogits<T>& logits, const LscRow<T>* rows, T share, std::int64_t begin,
                                    std::int64_t end, T* out) {
  const std::int64_t classes = logits.classes;
  for (std::int64_t i = begin; i < end; ++i) {
    if (rows[i].scale == 0) {
      std::fill_n(out + i * classes, classes, T(0));  // whatever its logits are, infinite or NaN
    } else {
      subtract(logits.values + i * classes, rows[i].largest, classes, out + i * classes);
    }
  }
  exponentials(out + begin * classes, (end - begin) * classes);
  for (std::int64_t i = begin; i < end; ++i) {
    const bool kept = rows[i].scale != 0;
    const T factor = kept ? rows[i].scale * share : T(0);
    for (std::int64_t k = 0; k < classes; ++k) out[i * classes + k] *= factor;
    if (kept && is_class(logits.targets[i], classes)) out[i * classes + logits.targets[i]] -= share;
  }
}

}  // namespace

std::int64_t lsc_tile(std::int64_t classes) { return std::max<std::int64_t>(1, kTile / classes); }

template <typename T>
BUTTRESS_SIMD std::int64_t lsc_losses(const LscLogits<T>& logits, const LscCondition& condition, std::int64_t begin,
                                      std::int64_t end, T* losses, LscRow<T>* rows) {
  const std::int64_t tile = lsc_tile(logits.classes);
  const auto work = std::make_unique_for_overwrite<T[]>(std::min(tile, end - begin) * logits.classes);
  std::int64_t wrong = -1;
  for (std::int64_t i = begin; i < end; i += tile) {
    const std::int64_t first = tile_losses(logits, condition, i, std::min(i + tile, end), work.get(), losses, rows);
    wrong = wrong < 0 ? first : wrong;
  }
  return wrong;
}

template <typename T>
BUTTRESS_SIMD void lsc_gradients(const LscLogits<T>& logits, const LscRow<T>* rows, T share, std::int64_t begin,
                                 std::int64_t end, T* out) {
  const std::int64_t tile = lsc_tile(logits.classes);
  for (std::int64_t i = begin; i < end; i += tile) tile_gradients(logits, rows, share, i, std::min(i + tile, end), out);
}

template <typename T>
BUTTRESS_SIMD LscSum lsc_sum(const T* losses, std::int64_t n, const LscCondition& condition) {
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

template <typename T>
BUTTRESS_SIMD void lsc_mask(const T* losses, std::int64_t n, const LscCondition& condition, T share, T* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = condition.keeps(losses[i]) ? share : T(0);
}

#define BUTTRESS_FOR(T)                                                                                      \
  template std::int64_t lsc_losses(const LscLogits<T>&, const LscCondition&, std::int64_t, std::int64_t, T*, \
                                   LscRow<T>*);                                                              \
  template void lsc_gradients(const LscLogits<T>&, const LscRow<T>*, T, std::int64_t, std::int64_t, T*);     \
  template LscSum lsc_sum(const T*, std::int64_t, const LscCondition&);                                      \
  template void lsc_mask(const T*, std::int64_t, const LscCondition&, T, T*);
BUTTRESS_FOR(float)
BUTTRESS_FOR(double)
#undef BUTTRESS_FOR

}  // namespace buttress
