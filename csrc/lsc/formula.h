// One example under the loss-stationary condition, as the CPU and CUDA compute it; no torch in here.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace buttress {

struct LscCondition {
  double c_min;
  bool inclusive;

  // NaN is never kept: every comparison with it is false.
  template <typename T>
  BUTTRESS_HOST_DEVICE bool keeps(T loss) const {
    return inclusive ? loss <= T(c_min) : loss < T(c_min);
  }
};

BUTTRESS_HOST_DEVICE bool is_class(std::int64_t target, std::int64_t classes) {
  return target >= 0 && target < classes;
}

}  // namespace buttress
