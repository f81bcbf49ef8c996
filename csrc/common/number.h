// The dtypes that compiled code takes, for the host and the device: how a number of each is stored, computed with and
// rounded, and its special bits. Without branches, so that loops become vectors; on CUDA the processor converts.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace buttress {

enum class Type { float32, float64, float16, bfloat16 };

template <typename To, typename From>
BUTTRESS_HOST_DEVICE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, from);
}

// Numbers as unsigned integers. `nan` is the one pattern that this project writes: quiet and positive.
template <typename Bits_, Bits_ infinity_>
struct Pattern {
  using Bits = Bits_;
  static constexpr Bits sign = Bits(Bits(1) << (8 * sizeof(Bits) - 1));
  static constexpr Bits infinity = infinity_, nan = Bits(infinity_ | infinity_ >> 1);
};

// `Stored` lies in memory, arithmetic is in `Wide`; `narrow` rounds to nearest, ties to even.
template <Type type>
struct Number;

template <>
struct Number<Type::float32> : Pattern<std::uint32_t, 0x7f800000> {
  using Stored = float;
  using Wide = float;
  static BUTTRESS_HOST_DEVICE float widen(float x) { return x; }
  static BUTTRESS_HOST_DEVICE float narrow(float x) { return x; }
};

template <>
struct Number<Type::float64> : Pattern<std::uint64_t, 0x7ff0000000000000> {
  using Stored = double;
  using Wide = double;
  static BUTTRESS_HOST_DEVICE double widen(double x) { return x; }
  static BUTTRESS_HOST_DEVICE double narrow(double x) { return x; }
};

template <>
struct Number<Type::bfloat16> : Pattern<std::uint16_t, 0x7f80> {
  using Stored = std::uint16_t;
  using Wide = float;
  static BUTTRESS_HOST_DEVICE float widen(Stored x) { return bits_as<float>(std::uint32_t(x) << 16); }
  static BUTTRESS_HOST_DEVICE Stored narrow(float x) {
#ifdef __CUDA_ARCH__
    Stored rounded;  // as the formula, but for the bits of NaN
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded) : "f"(x));
    return x == x ? rounded : nan;
#else
    const auto bits = bits_as<std::uint32_t>(x);
    const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return Stored((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
#endif
  }
};

template <>
struct Number<Type::float16> : Pattern<std::uint16_t, 0x7c00> {
  using Stored = std::uint16_t;
  using Wide = float;
  static BUTTRESS_HOST_DEVICE float widen(Stored x) {
#ifdef __CUDA_ARCH__
    float wide;  // as the formula
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x));
    return wide;
#else
    constexpr std::uint32_t bias = (127 - 15) << 23;
    const std::uint32_t size = std::uint32_t(x & 0x7fff) << 13, negative = std::uint32_t(x & 0x8000) << 16;
    const std::uint32_t exponent = size & 0x0f800000;
    const std::uint32_t normal = size + bias + (exponent == 0x0f800000 ? bias : 0);  // infinity and NaN stay such
    // Subnormal: 2^-14 in front of the fraction, and taken away again.
    const auto small = bits_as<std::uint32_t>(bits_as<float>(size + bias + (1 << 23)) - 0x1p-14f);
    return bits_as<float>(negative | (exponent == 0 ? small : normal));
#endif
  }
  static BUTTRESS_HOST_DEVICE Stored narrow(float x) {
#ifdef __CUDA_ARCH__
    Stored rounded;  // as the formula, but for the bits of NaN
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(rounded) : "f"(x));
    return x == x ? rounded : nan;
#else
    const auto bits = bits_as<std::uint32_t>(x);
    const std::uint32_t size = bits & 0x7fffffff;
    // Subnormal: a multiple of 2^-24, rounded by adding and reading what 0.5 leaves of the fraction.
    const std::uint32_t small = bits_as<std::uint32_t>(bits_as<float>(size) + 0.5f) - bits_as<std::uint32_t>(0.5f);
    const std::uint32_t normal = (size - ((127 - 15) << 23) + 0xfff + ((size >> 13) & 1)) >> 13;
    const std::uint32_t finite = size < 0x38800000 ? small : normal;   // 2^-14
    const std::uint32_t any = size >= 0x47800000 ? infinity : finite;  // 65536; above 65520 rounding carries
    return Stored(size > 0x7f800000 ? nan : any | ((bits >> 16) & 0x8000));
#endif
  }
};

// The mean of two stored numbers, rounded once. Halves first: the sum may be too large.
template <Type type>
BUTTRESS_HOST_DEVICE typename Number<type>::Bits mean(typename Number<type>::Bits a, typename Number<type>::Bits b) {
  using N = Number<type>;
  using Stored = typename N::Stored;
  const typename N::Wide half = 0.5;
  return bits_as<typename N::Bits>(
      N::narrow(N::widen(bits_as<Stored>(a)) * half + N::widen(bits_as<Stored>(b)) * half));
}

// call(Number<type>{}) for the type that is known when the program runs.
template <typename Call>
BUTTRESS_HOST_DEVICE auto with_number(Type type, Call call) {
  switch (type) {
    case Type::float64: return call(Number<Type::float64>{});
    case Type::float16: return call(Number<Type::float16>{});
    case Type::bfloat16: return call(Number<Type::bfloat16>{});
    default: return call(Number<Type::float32>{});
  }
}

}  // namespace buttress
