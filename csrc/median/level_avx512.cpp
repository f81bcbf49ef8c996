// The median for processors with AVX-512.
#include "median/levels.h"

#ifdef BUTTRESS_X86
namespace buttress {

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")
namespace {

constexpr int kBytes = 64, kRegisters = 32;
template <typename V>
INLINE void stream(char* to, V x) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(x));
}
INLINE void drain() { _mm_sfence(); }
#include "median/level.inc"

}  // namespace
#pragma GCC pop_options

constinit const Level avx512{"avx512", median_any, scratch_any};

}  // namespace buttress
#endif
