// How a number of each dtype is stored and computed with on the CPU. Without branches, so that loops become vectors.
#pragma once

#include <bit>
#include <cstdint>

#include "common/type.h"

namespace buttress {

// `Stored` lies in memory, arithmetic is in `Wide`; `narrow` rounds to nearest, ties to even.
template <Type type>
struct Number;

template <>
struct Number<Type::float32> {
  using Stored = float;
  using Wide = float;
  static inline __attribute__((always_inline)) float widen(float x) { return x; }
  static inline __attribute__((always_inline)) float narrow(float x) { return x; }
};

template <>
struct Number<Type::float64> {
  using Stored = double;
  using Wide = double;
  static inline __attribute__((always_inline)) double widen(double x) { return x; }
  static inline __attribute__((always_inline)) double narrow(double x) { return x; }
};

template <>
struct Number<Type::bfloat16> {
  using Stored = std::uint16_t;
  using Wide = float;
  static inline __attribute__((always_inline)) float widen(Stored x) {
    return std::bit_cast<float>(std::uint32_t(x) << 16);
  }
  static inline __attribute__((always_inline)) Stored narrow(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return Stored((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
  }
};

template <>
struct Number<Type::float16> {
  using Stored = std::uint16_t;
  using Wide = float;
  static inline __attribute__((always_inline)) float widen(Stored x) {
    constexpr std::uint32_t bias = (127 - 15) << 23;
    const std::uint32_t size = std::uint32_t(x & 0x7fff) << 13, sign = std::uint32_t(x & 0x8000) << 16;
    const std::uint32_t exponent = size & 0x0f800000;
    const std::uint32_t normal = size + bias + (exponent == 0x0f800000 ? bias : 0);  // infinity and NaN stay such
    // Subnormal: 2^-14 in front of the fraction, and taken away again.
    const auto small = std::bit_cast<std::uint32_t>(std::bit_cast<float>(size + bias + (1 << 23)) - 0x1p-14f);
    return std::bit_cast<float>(sign | (exponent == 0 ? small : normal));
  }
  static inline __attribute__((always_inline)) Stored narrow(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t size = bits & 0x7fffffff;
    // Subnormal: a multiple of 2^-24, rounded by adding and reading what 0.5 leaves of the fraction.
    const std::uint32_t small =
        std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5f) - std::bit_cast<std::uint32_t>(0.5f);
    const std::uint32_t normal = (size - ((127 - 15) << 23) + 0xfff + ((size >> 13) & 1)) >> 13;
    const std::uint32_t finite = size < 0x38800000 ? small : normal;             // 2^-14
    const std::uint32_t any = size >= 0x47800000 ? 0x7c00 : finite;              // 65536; above 65520 rounding carries
    return Stored((size > 0x7f800000 ? 0x7e00 : any) | ((bits >> 16) & 0x8000));  // NaN
  }
};

}  // namespace buttress
