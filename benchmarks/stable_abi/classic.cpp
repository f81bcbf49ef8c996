// Operators that do nothing, registered with torch's C++ interface.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <tuple>

#include "probe.h"

namespace {

void step(at::TensorList weights, at::TensorList directions, at::TensorList origin, at::TensorList total, double,
          c10::string_view) {
  using probe::all_looked_at;
  TORCH_CHECK(all_looked_at(weights) + all_looked_at(directions) + all_looked_at(origin) + all_looked_at(total) != 0);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> loss(const at::Tensor& logits, const at::Tensor& targets, double, bool) {
  return {at::empty({}, logits.options()), at::empty({}, targets.options()),
          at::empty({logits.size(0), 2}, logits.options())};
}

at::Tensor loss_backward(const at::Tensor&, const at::Tensor& logits, const at::Tensor&, const at::Tensor&) {
  return at::empty_like(logits);
}

}  // namespace

TORCH_LIBRARY(probe_classic, library) {
  library.def(
      "step(Tensor[] weights, Tensor[] directions, Tensor[] origin, Tensor[] total, float gamma, str norm) -> ()");
  library.def("loss(Tensor logits, Tensor targets, float c_min, bool inclusive) -> (Tensor, Tensor, Tensor)");
  library.def("loss_backward(Tensor grad, Tensor logits, Tensor targets, Tensor rows) -> Tensor");
}

TORCH_LIBRARY_IMPL(probe_classic, CPU, library) {
  library.impl("step", &step);
  library.impl("loss", &loss);
  library.impl("loss_backward", &loss_backward);
}
