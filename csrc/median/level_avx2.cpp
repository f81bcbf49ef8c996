// The median for processors with AVX2.
#include "median/levels.h"

#ifdef BUTTRESS_X86
namespace buttress {

#pragma GCC push_options
#pragma GCC target("avx2")
namespace {

constexpr int kBytes = 32, kRegisters = 16;
template <typename V>
INLINE void stream(char* to, V x) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(x));
}
INLINE void drain() { _mm_sfence(); }
#include "median/level.inc"

}  // namespace
#pragma GCC pop_options

constinit const Level avx2{"avx2", median_any, scratch_any};

}  // namespace buttress
#endif
