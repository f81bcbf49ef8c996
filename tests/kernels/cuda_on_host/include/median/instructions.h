// In place of csrc/median/instructions.h, which is PTX: what its instructions do, as the PTX manual has it. Networks are
// loops here: g++ takes minutes for what nvcc unrolls.
#pragma once

#include <cstdint>

#include "common/number.h"
#include "median/network.h"
#include "on_host/numbers.h"

namespace buttress {

// One number each: NaN where one is NaN, -0 before 0.
template <Type type>
struct OneNumber {
  using N = Number<type>;
  using Bits = typename N::Bits;
  static Bits key(Bits bits) { return Bits((bits & N::sign) != 0 ? ~bits : bits | N::sign); }
  static bool is_nan(Bits bits) { return Bits(bits & Bits(~N::sign)) > N::infinity; }
  static Bits choose(Bits a, Bits b, bool larger) {
    if (is_nan(a) || is_nan(b)) return Bits(~N::sign);  // the hardware's NaN: all bits but the sign
    return (key(a) < key(b)) != larger ? a : b;
  }
};

template <Type type>
struct Words {
  using Word = std::uint32_t;
  static constexpr int numbers = 2;
  using Half = OneNumber<type>;
  static Word choose(Word a, Word b, bool larger) {
    const auto of = [&](auto x, auto y) { return Half::choose(x, y, larger); };
    return on_host::of_halves<std::uint16_t>(a, b, of);
  }
  static Word smaller(Word a, Word b) { return choose(a, b, false); }
  static Word larger(Word a, Word b) { return choose(a, b, true); }
};

template <>
struct Words<Type::float32> {
  using Word = float;
  static constexpr int numbers = 1;
  static Word choose(Word a, Word b, bool larger) {
    return bits_as<float>(
        OneNumber<Type::float32>::choose(bits_as<std::uint32_t>(a), bits_as<std::uint32_t>(b), larger));
  }
  static Word smaller(Word a, Word b) { return choose(a, b, false); }
  static Word larger(Word a, Word b) { return choose(a, b, true); }
};

template <typename W, int N, typename Pack>
void run(Pack* x) {
  using Network = StaticNetwork<N, false>;
  for (std::size_t at = 0; at < Network::pruned.needed; ++at) {
    const Comparator c = Network::pruned.all[at];
    for (int k = 0; k < Pack::words; ++k) {
      const auto a = x[c.a].array.word[k], b = x[c.b].array.word[k];
      if ((c.keep & 1) != 0) x[c.a].array.word[k] = W::smaller(a, b);
      if ((c.keep & 2) != 0) x[c.b].array.word[k] = W::larger(a, b);
    }
  }
}

}  // namespace buttress
