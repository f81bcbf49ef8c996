// The median for any processor: vectors of 16 bytes, which the compiler makes of what there is.
#include "median/levels.h"

namespace buttress {
namespace {

constexpr int kBytes = 16, kRegisters = 16;
template <typename V>
INLINE void stream(char* to, V x) {
  std::memcpy(to, &x, sizeof x);
}
INLINE void drain() {}
#include "median/level.inc"

}  // namespace

constinit const Level portable{"portable", median_any, scratch_any};

}  // namespace buttress
