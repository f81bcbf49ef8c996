// One body of loops, compiled for each instruction set, chosen when the program runs.
#include "median/cpu.h"

#include <array>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define BUTTRESS_X86 1
#include <immintrin.h>
#endif

namespace buttress {
namespace {

// The mean of two half values, rounded once.
struct BFloat16Mean {
  static inline std::uint16_t mean(std::uint16_t a, std::uint16_t b) {
    const std::uint32_t wide[2] = {std::uint32_t(a) << 16, std::uint32_t(b) << 16};
    float x[2];
    std::memcpy(x, wide, sizeof x);
    const float sum = x[0] * 0.5f + x[1] * 0.5f;
    std::uint32_t bits;
    std::memcpy(&bits, &sum, sizeof bits);
    if (sum != sum) return 0x7fff;
    return std::uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
};

struct HalfMean {
  static inline float widen(std::uint16_t h) {
    const int exponent = (h >> 10) & 31;
    const float fraction = float(h & 0x3ff);
    const float sign = (h & 0x8000) ? -1.0f : 1.0f;
    if (exponent == 0) return sign * fraction * 0x1p-24f;
    if (exponent == 31) return fraction != 0 ? std::numeric_limits<float>::quiet_NaN() : sign * std::numeric_limits<float>::infinity();
    float scale = 1.0f;
    const std::uint32_t bits = std::uint32_t(exponent - 15 + 127) << 23;
    std::memcpy(&scale, &bits, sizeof scale);
    return sign * scale * (1.0f + fraction * 0x1p-10f);
  }
  static inline std::uint16_t narrow(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    const std::uint16_t sign = std::uint16_t((bits >> 16) & 0x8000);
    const float size = x < 0 ? -x : x;
    if (x != x) return 0x7fff;
    if (size >= 65520.0f) return std::uint16_t(sign | 0x7c00);
    if (size < 0x1p-14f) {  // subnormal: a multiple of 2^-24, ties to even by adding and taking away 2^-1 * 2^0
      const float rounded = (size + 0.5f) - 0.5f;
      return std::uint16_t(sign | std::uint16_t(rounded * 0x1p24f));
    }
    std::memcpy(&bits, &size, sizeof bits);
    bits += 0xfff + ((bits >> 13) & 1);
    return std::uint16_t(sign | ((bits >> 13) - (112 << 10)));
  }
  static inline std::uint16_t mean(std::uint16_t a, std::uint16_t b) { return narrow(widen(a) * 0.5f + widen(b) * 0.5f); }
};

constexpr int kRegisters = 32;  // rows whose vectors are sorted in registers
// Bytes. Many streams defeat the hardware's prefetcher; asked for in the second-level cache, because the lines of rows
// that lie congruently in their pages would push each other out of the first.
constexpr int kAhead = 384;

namespace portable {
#include "median/block.inc"

inline void median_any(const Job& job, std::int64_t begin, std::int64_t end, void* scratch) {
  median_blocks(job, begin, end, scratch);
}
}  // namespace portable

#ifdef BUTTRESS_X86
#pragma GCC push_options
#pragma GCC target("avx2")
namespace avx2 {
#include "median/block.inc"

struct F32 {
  using V = __m256;
  using Mask = __m256;
  using Stored = float;
  using Key = float;
  static constexpr int lanes = 8;
  static inline Mask nothing() { return _mm256_setzero_ps(); }
  static inline V get(const Key* from) { return _mm256_load_ps(from); }
  static inline void put(Key* to, V x) { _mm256_store_ps(to, x); }
  static inline V load(const Stored* from, Mask& nan) {
    const V x = _mm256_loadu_ps(from);
    nan = _mm256_or_ps(nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return x;
  }
  static inline V min(V a, V b) { return _mm256_min_ps(a, b); }
  static inline V max(V a, V b) { return _mm256_max_ps(a, b); }
  static inline void store(Stored* to, V x, V lower, bool mean, Mask nan) {
    const V half = _mm256_set1_ps(0.5f);
    if (mean) x = _mm256_add_ps(_mm256_mul_ps(lower, half), _mm256_mul_ps(x, half));
    _mm256_storeu_ps(to, _mm256_or_ps(x, nan));  // all bits set is a NaN
  }
};

struct F64 {
  using V = __m256d;
  using Mask = __m256d;
  using Stored = double;
  using Key = double;
  static constexpr int lanes = 4;
  static inline Mask nothing() { return _mm256_setzero_pd(); }
  static inline V get(const Key* from) { return _mm256_load_pd(from); }
  static inline void put(Key* to, V x) { _mm256_store_pd(to, x); }
  static inline V load(const Stored* from, Mask& nan) {
    const V x = _mm256_loadu_pd(from);
    nan = _mm256_or_pd(nan, _mm256_cmp_pd(x, x, _CMP_UNORD_Q));
    return x;
  }
  static inline V min(V a, V b) { return _mm256_min_pd(a, b); }
  static inline V max(V a, V b) { return _mm256_max_pd(a, b); }
  static inline void store(Stored* to, V x, V lower, bool mean, Mask nan) {
    const V half = _mm256_set1_pd(0.5);
    if (mean) x = _mm256_add_pd(_mm256_mul_pd(lower, half), _mm256_mul_pd(x, half));
    _mm256_storeu_pd(to, _mm256_or_pd(x, nan));
  }
};

// Half types as signed integers of the same order: sign and magnitude turned into two's complement.
template <int Infinity, typename Widen>
struct I16 {
  using V = __m256i;
  using Mask = __m256i;
  using Stored = std::uint16_t;
  using Key = std::int16_t;
  static constexpr int lanes = 16;
  static inline Mask nothing() { return _mm256_setzero_si256(); }
  static inline V get(const Key* from) { return _mm256_load_si256(reinterpret_cast<const V*>(from)); }
  static inline void put(Key* to, V x) { _mm256_store_si256(reinterpret_cast<V*>(to), x); }
  static inline V turn(V x) {
    return _mm256_xor_si256(x, _mm256_and_si256(_mm256_srai_epi16(x, 15), _mm256_set1_epi16(0x7fff)));
  }
  static inline V load(const Stored* from, Mask& nan) {
    const V x = _mm256_loadu_si256(reinterpret_cast<const V*>(from));
    const V size = _mm256_and_si256(x, _mm256_set1_epi16(0x7fff));
    nan = _mm256_or_si256(nan, _mm256_cmpgt_epi16(size, _mm256_set1_epi16(short(Infinity))));
    return turn(x);
  }
  static inline V min(V a, V b) { return _mm256_min_epi16(a, b); }
  static inline V max(V a, V b) { return _mm256_max_epi16(a, b); }
  static inline void store(Stored* to, V x, V lower, bool mean, Mask nan) {
    x = turn(x);
    if (mean) {
      alignas(32) Stored high[lanes], low[lanes];
      _mm256_store_si256(reinterpret_cast<V*>(high), x);
      _mm256_store_si256(reinterpret_cast<V*>(low), turn(lower));
      for (int k = 0; k < lanes; ++k) high[k] = Widen::mean(low[k], high[k]);
      x = _mm256_load_si256(reinterpret_cast<const V*>(high));
    }
    _mm256_storeu_si256(reinterpret_cast<V*>(to), _mm256_or_si256(x, _mm256_and_si256(nan, _mm256_set1_epi16(0x7fff))));
  }
};

#include "median/registers.inc"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")
namespace avx512 {
#include "median/block.inc"

struct F32 {
  using V = __m512;
  using Mask = __mmask16;
  using Stored = float;
  using Key = float;
  static constexpr int lanes = 16;
  static inline Mask nothing() { return 0; }
  static inline V get(const Key* from) { return _mm512_load_ps(from); }
  static inline void put(Key* to, V x) { _mm512_store_ps(to, x); }
  static inline V load(const Stored* from, Mask& nan) {
    const V x = _mm512_loadu_ps(from);
    nan = Mask(nan | _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q));
    return x;
  }
  static inline V min(V a, V b) { return _mm512_min_ps(a, b); }
  static inline V max(V a, V b) { return _mm512_max_ps(a, b); }
  static inline void store(Stored* to, V x, V lower, bool mean, Mask nan) {
    const V half = _mm512_set1_ps(0.5f);
    if (mean) x = _mm512_add_ps(_mm512_mul_ps(lower, half), _mm512_mul_ps(x, half));
    _mm512_storeu_ps(to, _mm512_mask_mov_ps(x, nan, _mm512_set1_ps(std::numeric_limits<float>::quiet_NaN())));
  }
};

struct F64 {
  using V = __m512d;
  using Mask = __mmask8;
  using Stored = double;
  using Key = double;
  static constexpr int lanes = 8;
  static inline Mask nothing() { return 0; }
  static inline V get(const Key* from) { return _mm512_load_pd(from); }
  static inline void put(Key* to, V x) { _mm512_store_pd(to, x); }
  static inline V load(const Stored* from, Mask& nan) {
    const V x = _mm512_loadu_pd(from);
    nan = Mask(nan | _mm512_cmp_pd_mask(x, x, _CMP_UNORD_Q));
    return x;
  }
  static inline V min(V a, V b) { return _mm512_min_pd(a, b); }
  static inline V max(V a, V b) { return _mm512_max_pd(a, b); }
  static inline void store(Stored* to, V x, V lower, bool mean, Mask nan) {
    const V half = _mm512_set1_pd(0.5);
    if (mean) x = _mm512_add_pd(_mm512_mul_pd(lower, half), _mm512_mul_pd(x, half));
    _mm512_storeu_pd(to, _mm512_mask_mov_pd(x, nan, _mm512_set1_pd(std::numeric_limits<double>::quiet_NaN())));
  }
};

template <int Infinity, typename Widen>
struct I16 {
  using V = __m512i;
  using Mask = __mmask32;
  using Stored = std::uint16_t;
  using Key = std::int16_t;
  static constexpr int lanes = 32;
  static inline Mask nothing() { return 0; }
  static inline V get(const Key* from) { return _mm512_load_si512(from); }
  static inline void put(Key* to, V x) { _mm512_store_si512(to, x); }
  static inline V turn(V x) {
    return _mm512_xor_si512(x, _mm512_and_si512(_mm512_srai_epi16(x, 15), _mm512_set1_epi16(0x7fff)));
  }
  static inline V load(const Stored* from, Mask& nan) {
    const V x = _mm512_loadu_si512(from);
    const V size = _mm512_and_si512(x, _mm512_set1_epi16(0x7fff));
    nan = Mask(nan | _mm512_cmpgt_epi16_mask(size, _mm512_set1_epi16(short(Infinity))));
    return turn(x);
  }
  static inline V min(V a, V b) { return _mm512_min_epi16(a, b); }
  static inline V max(V a, V b) { return _mm512_max_epi16(a, b); }
  static inline void store(Stored* to, V x, V lower, bool mean, Mask nan) {
    x = turn(x);
    if (mean) {
      alignas(64) Stored high[lanes], low[lanes];
      _mm512_store_si512(high, x);
      _mm512_store_si512(low, turn(lower));
      for (int k = 0; k < lanes; ++k) high[k] = Widen::mean(low[k], high[k]);
      x = _mm512_load_si512(high);
    }
    _mm512_storeu_si512(to, _mm512_mask_mov_epi16(x, nan, _mm512_set1_epi16(0x7fff)));
  }
};

#include "median/registers.inc"
}  // namespace avx512
#pragma GCC pop_options
#endif

using Function = void (*)(const Job&, std::int64_t, std::int64_t, void*);

struct Choice {
  Function run;
  const char* name;
};

Choice choose() {
#ifdef BUTTRESS_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    return {avx512::median_any, "avx512"};
  if (__builtin_cpu_supports("avx2")) return {avx2::median_any, "avx2"};
#endif
  return {portable::median_any, "portable"};
}

const Choice& chosen() {
  static const Choice choice = choose();
  return choice;
}

std::size_t bytes(Type type) {
  switch (type) {
    case Type::float32: return 4;
    case Type::float64: return 8;
    default: return 2;
  }
}

}  // namespace

int median_width(Type type, int n) {
  constexpr std::size_t cache = 24 * 1024, line = 64;
  const std::size_t lines = cache / line / std::size_t(n + 1);
  return int((lines < 1 ? 1 : lines > 8 ? 8 : lines) * line / bytes(type));
}

std::size_t median_scratch(Type type, int n) {
  const std::size_t block = std::size_t(n + 1) * median_width(type, n) * bytes(type);
  const std::size_t groups = std::size_t(n) * 64 * (n <= 64 ? 4 : n <= 192 ? 2 : 1);
  return block > groups ? block : groups;
}

Networks median_networks(int n, int lower, int upper) {
  return {n > kRegisters ? selection_network(n, lower, upper, kRegisters) : std::vector<Comparator>{},
          selection_network(n, lower, upper)};
}

void median_elements(const Job& job, std::int64_t begin, std::int64_t end, void* scratch) {
  chosen().run(job, begin, end, scratch);
}

std::string median_simd() {
#ifdef BUTTRESS_X86
  return std::string("avx512 avx2 portable, using ") + chosen().name;
#else
  return std::string("portable, using ") + chosen().name;
#endif
}

}  // namespace buttress
