// The loss-stationary condition on the CPU, in float and double; no torch in here.
#pragma once

#include <cstdint>

#include "lsc/formula.h"

namespace buttress {

template <typename T>
struct LscLogits {
  const T* values;              // [batch, classes]
  const std::int64_t* targets;  // [batch]
  std::int64_t batch, classes;
};

struct LscSum {
  double total;
  std::int64_t kept;
};

// Number of examples that are worked on together.
std::int64_t lsc_tile(std::int64_t classes);

// The cross-entropies of examples begin to end, which are whole tiles: sums [tiles of the batch] takes the sum of those
// that are kept, in double, and their number. Unless it is null, gradient [batch, classes] takes (softmax - onehot) /
// batch where the example is kept, else 0; it may be the memory of the logits. Returns the first example whose target
// is no class, where it stops, or -1.
template <typename T>
std::int64_t lsc_cross_entropies(const LscLogits<T>& logits, const LscCondition& condition, std::int64_t begin,
                                 std::int64_t end, LscSum* sums, T* gradient);

// out [n], which may be values: values * factor; a value of 0 stays 0, whatever the factor is.
template <typename T>
void lsc_multiply(const T* values, std::int64_t n, T factor, T* out);

// Sum, in double, and number of the losses [n] that are kept.
template <typename T>
LscSum lsc_sum(const T* losses, std::int64_t n, const LscCondition& condition);

// out [n]: share where the loss is kept, else 0.
template <typename T>
void lsc_mask(const T* losses, std::int64_t n, const LscCondition& condition, T share, T* out);

}  // namespace buttress
