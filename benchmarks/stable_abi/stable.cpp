// Operators that do nothing, registered with torch's stable ABI.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <string>
#include <tuple>
#include <vector>

#include "probe.h"

namespace {

using torch::stable::Tensor;
using Tensors = std::vector<Tensor>;

void step(Tensors weights, Tensors directions, Tensors origin, Tensors total, double, std::string) {
  using probe::all_looked_at;
  STD_TORCH_CHECK(
      all_looked_at(weights) + all_looked_at(directions) + all_looked_at(origin) + all_looked_at(total) != 0);
}

std::tuple<Tensor, Tensor, Tensor> loss(Tensor logits, Tensor targets, double, bool) {
  return {torch::stable::new_empty(logits, {}), torch::stable::new_empty(targets, {}),
          torch::stable::new_empty(logits, {logits.size(0), 2})};
}

Tensor loss_backward(Tensor, Tensor logits, Tensor, Tensor) { return torch::stable::empty_like(logits); }

}  // namespace

STABLE_TORCH_LIBRARY(probe_stable, library) {
  library.def(
      "step(Tensor[] weights, Tensor[] directions, Tensor[] origin, Tensor[] total, float gamma, str norm) -> ()");
  library.def("loss(Tensor logits, Tensor targets, float c_min, bool inclusive) -> (Tensor, Tensor, Tensor)");
  library.def("loss_backward(Tensor grad, Tensor logits, Tensor targets, Tensor rows) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(probe_stable, CPU, library) {
  library.impl("step", TORCH_BOX(&step));
  library.impl("loss", TORCH_BOX(&loss));
  library.impl("loss_backward", TORCH_BOX(&loss_backward));
}
