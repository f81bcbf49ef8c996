#include "perturb/operators.h"

#include <ATen/ops/add.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/where.h>

#include "common/tensors.h"

namespace buttress::perturbation {

void restore_others(at::TensorList weights, at::TensorList saved) {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!compiled_type(weights[i])) weights[i].copy_(saved[i]);
  }
}

void unperturb_others(at::TensorList weights, at::TensorList saved, at::TensorList perturbed) {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (compiled_type(weights[i])) continue;
    const at::Tensor &weight = weights[i], &origin = saved[i], &start = perturbed[i];
    weight.copy_(at::where(at::eq(start, origin), weight, at::add(origin, at::sub(weight, start))));
  }
}

}  // namespace buttress::perturbation
