// The instruction sets that the median is compiled for, each in a file of its own, level_<name>.cpp: level.inc, included with
// the target's options; so that these files, which take a compiler longest, are compiled side by side.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "median/cpu.h"
#include "median/network.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define BUTTRESS_X86 1
#include <immintrin.h>
#endif

// A function that takes or returns vectors must not be a call: callers under other options pass them otherwise.
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

namespace buttress {

struct Level {
  const char* name;
  void (*run)(const Job&, std::int64_t begin, std::int64_t end, void* scratch);
  std::size_t (*scratch)(int n);
};

extern const Level portable;
#ifdef BUTTRESS_X86
extern const Level avx2, avx512;
#endif

// Bytes of inputs and output together beyond which the output would not stay in a cache: it is written past the caches.
constexpr std::int64_t kCached = 32 << 20;

// The signed integer that holds a number: numbers are ordered as such keys.
template <Type type>
using KeyOf = std::make_signed_t<typename Number<type>::Bits>;

}  // namespace buttress
