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

// Examples that are worked on together; the work on examples begin to end gives the same numbers whenever begin is a
// multiple of this and end is another one, or the batch.
std::int64_t lsc_tile(std::int64_t classes);

// Losses [batch] and rows [batch] of examples begin to end. Returns the first whose target is no class, or -1.
template <typename T>
std::int64_t lsc_losses(const LscLogits<T>& logits, const LscCondition& condition, std::int64_t begin, std::int64_t end,
                        T* losses, LscRow<T>* rows);

// out [batch, classes] of examples begin to end: (softmax - onehot) * share where the example is kept, else 0.
template <typename T>
void lsc_gradients(const LscLogits<T>& logits, const LscRow<T>* rows, T share, std::int64_t begin, std::int64_t end,
                   T* out);

// Sum, in double, and number of the losses [n] that are kept.
template <typename T>
LscSum lsc_sum(const T* losses, std::int64_t n, const LscCondition& condition);

// out [n]: share where the loss is kept, else 0.
template <typename T>
void lsc_mask(const T* losses, std::int64_t n, const LscCondition& condition, T share, T* out);

}  // namespace buttress
