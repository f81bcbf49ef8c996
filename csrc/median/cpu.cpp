// One body of code, compiled for each instruction set, chosen when the program runs.
#include "median/cpu.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "median/network.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define BUTTRESS_X86 1
#include <immintrin.h>
#endif

// A function that takes or returns vectors must not be a call: callers under other options pass them otherwise.
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

namespace buttress {
namespace {

// Bytes of inputs and output together beyond which the output would not stay in a cache: it is written past the caches.
constexpr std::int64_t kCached = 32 << 20;

// The signed integer that holds a number: numbers are ordered as such keys.
template <Type type>
using KeyOf = std::make_signed_t<typename Number<type>::Bits>;

namespace portable {
constexpr int kBytes = 16, kRegisters = 16;
template <typename V>
INLINE void stream(char* to, V x) {
  std::memcpy(to, &x, sizeof x);
}
INLINE void drain() {}
#include "median/level.inc"
}  // namespace portable

#ifdef BUTTRESS_X86
#pragma GCC push_options
#pragma GCC target("avx2")
namespace avx2 {
constexpr int kBytes = 32, kRegisters = 16;
template <typename V>
INLINE void stream(char* to, V x) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(x));
}
INLINE void drain() { _mm_sfence(); }
#include "median/level.inc"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")
namespace avx512 {
constexpr int kBytes = 64, kRegisters = 32;
template <typename V>
INLINE void stream(char* to, V x) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(x));
}
INLINE void drain() { _mm_sfence(); }
#include "median/level.inc"
}  // namespace avx512
#pragma GCC pop_options
#endif

struct Level {
  const char* name;
  void (*run)(const Job&, std::int64_t, std::int64_t, void*);
  std::size_t (*scratch)(int);
};

// The levels that are compiled in and run on this processor, best first.
std::vector<Level> levels() {
  std::vector<Level> supported;
#ifdef BUTTRESS_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    supported.push_back({"avx512", avx512::median_any, avx512::scratch_any});
  if (__builtin_cpu_supports("avx2")) supported.push_back({"avx2", avx2::median_any, avx2::scratch_any});
#endif
  supported.push_back({"portable", portable::median_any, portable::scratch_any});
  return supported;
}

Level choose() {
  const std::vector<Level> all = levels();
  const char* wanted = std::getenv("BUTTRESS_SIMD");
  if (wanted == nullptr || *wanted == 0) return all.front();
  std::string names;
  for (const Level& level : all) {
    if (std::strcmp(wanted, level.name) == 0) return level;
    names += (names.empty() ? "" : ", ") + std::string(level.name);
  }
  throw std::invalid_argument("BUTTRESS_SIMD: expected one of " + names + " (what this processor runs), got '" +
                              wanted + "'");
}

const Level& chosen() {
  static const Level level = choose();
  return level;
}

}  // namespace

std::size_t median_scratch(int n) { return chosen().scratch(n); }

void median_elements(const Job& job, std::int64_t begin, std::int64_t end, void* scratch) {
  chosen().run(job, begin, end, scratch);
}

std::vector<std::string> median_levels() {
  std::vector<std::string> names;
  for (const Level& level : levels()) names.emplace_back(level.name);
  return names;
}

std::string median_level() { return chosen().name; }

}  // namespace buttress
