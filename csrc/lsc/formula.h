// One example under the loss-stationary condition, as the CPU and CUDA compute it; no torch in here.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace buttress {

// Two numbers of a row of logits for the gradient: softmax_k = exp(x_k - largest) * scale. A scale of 0 says that the
// example is not kept: the scale of one that is kept lies between 1 / classes and 1. NaN says that its target is no
// class.
template <typename T>
struct LscRow {
  T largest, scale;
};

struct LscCondition {
  double c_min;
  bool inclusive;

  // NaN is never kept: every comparison with it is false.
  template <typename T>
  BUTTRESS_HOST_DEVICE bool keeps(T loss) const {
    return inclusive ? loss <= T(c_min) : loss < T(c_min);
  }
};

// -log softmax of the target, from the row's largest logit and its sum of exp(x_k - largest): exact where x - largest
// is.
template <typename T>
BUTTRESS_HOST_DEVICE T cross_entropy(T target_logit, T largest, T sum) {
  using std::log;
  return log(sum) - (target_logit - largest);
}

template <typename T>
BUTTRESS_HOST_DEVICE LscRow<T> row_of(T loss, T largest, T sum, const LscCondition& condition) {
  return {largest, condition.keeps(loss) ? T(1) / sum : T(0)};
}

BUTTRESS_HOST_DEVICE bool is_class(std::int64_t target, std::int64_t classes) {
  return target >= 0 && target < classes;
}

}  // namespace buttress
