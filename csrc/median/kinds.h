// The floating-point types by their bits: which integer holds them, which of its values is infinity, and their mean.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

namespace buttress {

template <typename To, typename From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

struct Float32 {
  using Key = std::int32_t;
  static constexpr Key infinity = 0x7f800000;
  static inline Key mean(Key a, Key b) {  // halves first: the sum may be too large
    return bits_as<Key>(bits_as<float>(a) * 0.5f + bits_as<float>(b) * 0.5f);
  }
};

struct Float64 {
  using Key = std::int64_t;
  static constexpr Key infinity = 0x7ff0000000000000;
  static inline Key mean(Key a, Key b) { return bits_as<Key>(bits_as<double>(a) * 0.5 + bits_as<double>(b) * 0.5); }
};

// Half types: the mean of two values, rounded once.
struct BFloat16 {
  using Key = std::int16_t;
  static constexpr Key infinity = 0x7f80;
  static inline float widen(Key x) { return bits_as<float>(std::uint32_t(std::uint16_t(x)) << 16); }
  static inline Key narrow(float x) {
    const auto bits = bits_as<std::uint32_t>(x);
    return x != x ? Key(0x7fff) : Key((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
  static inline Key mean(Key a, Key b) { return narrow(widen(a) * 0.5f + widen(b) * 0.5f); }
};

struct Float16 {
  using Key = std::int16_t;
  static constexpr Key infinity = 0x7c00;
  static inline float widen(Key x) {
    const int exponent = (x >> 10) & 31, fraction = x & 0x3ff;
    const float sign = x < 0 ? -1.0f : 1.0f;
    if (exponent == 0) return sign * float(fraction) * 0x1p-24f;
    if (exponent == 31) return fraction != 0 ? std::numeric_limits<float>::quiet_NaN() : sign * std::numeric_limits<float>::infinity();
    return sign * bits_as<float>(std::uint32_t(exponent - 15 + 127) << 23 | std::uint32_t(fraction) << 13);
  }
  static inline Key narrow(float x) {
    const auto sign = std::uint16_t((bits_as<std::uint32_t>(x) >> 16) & 0x8000);
    const float size = x < 0 ? -x : x;
    if (x != x) return 0x7fff;
    if (size >= 65520.0f) return Key(sign | 0x7c00);
    // Subnormal: a multiple of 2^-24; adding and taking away a half leaves it rounded, ties to even.
    if (size < 0x1p-14f) return Key(sign | std::uint16_t(((size + 0.5f) - 0.5f) * 0x1p24f));
    auto bits = bits_as<std::uint32_t>(size);
    bits += 0xfff + ((bits >> 13) & 1);
    return Key(sign | ((bits >> 13) - (112 << 10)));
  }
  static inline Key mean(Key a, Key b) { return narrow(widen(a) * 0.5f + widen(b) * 0.5f); }
};

}  // namespace buttress
