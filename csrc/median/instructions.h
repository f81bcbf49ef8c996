// Numbers as the networks on CUDA compare them. A word is what a register holds: one number, or two of 16 bits.
// `smaller` and `larger` give NaN where one number is NaN, and take -0 for smaller than 0: one instruction each from
// sm_80 on. And networks of them, without a loop, so that rows stay in registers.
#pragma once

#include <cstdint>
#include <utility>

#include "common/number.h"
#include "median/network.h"

namespace buttress {

template <Type type>
struct Words;

#define BUTTRESS_WORDS(name, count, Word_, instruction, constraint)                                             \
  template <>                                                                                                   \
  struct Words<Type::name> {                                                                                    \
    using Word = Word_;                                                                                         \
    static constexpr int numbers = count;                                                                       \
    static __device__ __forceinline__ Word smaller(Word a, Word b) {                                            \
      Word result;                                                                                              \
      asm("min.NaN." instruction " %0, %1, %2;" : "=" constraint(result) : constraint(a), constraint(b));       \
      return result;                                                                                            \
    }                                                                                                           \
    static __device__ __forceinline__ Word larger(Word a, Word b) {                                             \
      Word result;                                                                                              \
      asm("max.NaN." instruction " %0, %1, %2;" : "=" constraint(result) : constraint(a), constraint(b));       \
      return result;                                                                                            \
    }                                                                                                           \
  };
BUTTRESS_WORDS(float32, 1, float, "f32", "f")
BUTTRESS_WORDS(float16, 2, std::uint32_t, "f16x2", "r")
BUTTRESS_WORDS(bfloat16, 2, std::uint32_t, "bf16x2", "r")
#undef BUTTRESS_WORDS

template <int N, std::size_t C>
constexpr Comparator comparator = StaticNetwork<N, false>::pruned.all[C];

template <typename W, int A, int B, int Keep, typename Pack>
__device__ __forceinline__ void compare(Pack* x) {
#pragma unroll
  for (int k = 0; k < Pack::words; ++k) {
    const auto a = x[A].array.word[k], b = x[B].array.word[k];
    if constexpr ((Keep & 1) != 0) x[A].array.word[k] = W::smaller(a, b);
    if constexpr ((Keep & 2) != 0) x[B].array.word[k] = W::larger(a, b);
  }
}

template <typename W, int N, typename Pack, std::size_t... C>
__device__ __forceinline__ void run(Pack* x, std::index_sequence<C...>) {
  (compare<W, comparator<N, C>.a, comparator<N, C>.b, comparator<N, C>.keep>(x), ...);
}

// Brings the middle of N packs of `Pack::words` words W to their places.
template <typename W, int N, typename Pack>
__device__ __forceinline__ void run(Pack* x) {
  run<W, N>(x, std::make_index_sequence<StaticNetwork<N, false>::pruned.needed>{});
}

}  // namespace buttress
