// Intrinsics on numbers, one of a register or two packed halves of 16 bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "on_host/launch.h"

template <typename T>
T min(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) return std::fmin(a, b);
  return b < a ? b : a;
}

template <typename T>
T max(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) return std::fmax(a, b);
  return a < b ? b : a;
}

// Loads and stores with hints for the caches.
template <typename T>
T __ldg(const T* address, int line = __builtin_LINE()) {
  on_host::expect_aligned(address, sizeof(T), line);
  return *address;
}

template <typename T>
T __ldcs(const T* address, int line = __builtin_LINE()) {
  return __ldg(address, line);
}

template <typename T>
T __ldcg(const T* address, int line = __builtin_LINE()) {
  return __ldg(address, line);
}

template <typename T>
void __stcs(T* address, T value, int line = __builtin_LINE()) {
  on_host::expect_aligned(address, sizeof(T), line);
  *address = value;
}

template <typename T>
void __stcg(T* address, T value, int line = __builtin_LINE()) {
  __stcs(address, value, line);
}

// Four of the eight bytes of a (the lower ones) and b, by four digits; bit 3 of a digit spreads the byte's sign.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned digits) {
  const std::uint64_t bytes = std::uint64_t(b) << 32 | a;
  unsigned result = 0;
  for (unsigned at = 0; at < 4; ++at) {
    const unsigned digit = digits >> 4 * at & 0xf, byte = unsigned(bytes >> 8 * (digit & 7)) & 0xff;
    result |= ((digit & 8) == 0 ? byte : (byte & 0x80) != 0 ? 0xffu : 0u) << 8 * at;
  }
  return result;
}

namespace on_host {

// choose(a, b) of both halves, as numbers of type Half.
template <typename Half, typename Choose>
unsigned of_halves(unsigned a, unsigned b, Choose choose) {
  const auto low = choose(Half(a), Half(b)), high = choose(Half(a >> 16), Half(b >> 16));
  return unsigned(std::uint16_t(low)) | unsigned(std::uint16_t(high)) << 16;
}

}  // namespace on_host

inline unsigned __vminu2(unsigned a, unsigned b) { return on_host::of_halves<std::uint16_t>(a, b, min<std::uint16_t>); }
inline unsigned __vmaxu2(unsigned a, unsigned b) { return on_host::of_halves<std::uint16_t>(a, b, max<std::uint16_t>); }
inline unsigned __vmins2(unsigned a, unsigned b) { return on_host::of_halves<std::int16_t>(a, b, min<std::int16_t>); }
inline unsigned __vmaxs2(unsigned a, unsigned b) { return on_host::of_halves<std::int16_t>(a, b, max<std::int16_t>); }
