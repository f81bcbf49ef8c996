// The operators that perturb weights, buttress::perturb_ and its kin. They write in place and have no gradient.
#include <torch/library.h>

#include "common/in_place.h"

TORCH_LIBRARY_FRAGMENT(buttress, library) {
  library.def("perturb_(Tensor(a!)[] weights, Tensor[] directions, float gamma, str norm, Tensor(b!)[]? saved) -> ()");
  library.def("restore_(Tensor(a!)[] weights, Tensor[] saved) -> ()");
  library.def("unperturb_(Tensor(a!)[] weights, Tensor[] saved, Tensor[] perturbed) -> ()");
  library.def(
      "rwp_first_step_(Tensor(a!)[] weights, Tensor[] directions, Tensor(b!)[] origin, Tensor(c!)[] total, "
      "Tensor(d!) state, float gamma, str norm, Tensor? kept) -> ()");
  library.def(
      "rwp_step_(Tensor(a!)[] weights, Tensor[] directions, Tensor[] origin, Tensor(b!)[] total, Tensor(c!) state, "
      "float gamma, str norm, bool rescale, Tensor? kept) -> ()");
  library.def(
      "amp_first_step_(Tensor(a!)[] weights, Tensor[] directions, Tensor(b!)[] origin, Tensor(c!)[] total, float xi, "
      "float delta, str ball, float? clip_norm) -> Tensor");
  library.def(
      "amp_step_(Tensor(a!)[] weights, Tensor[] directions, Tensor[] origin, Tensor(b!)[] total, float xi, float "
      "delta, "
      "str ball, float? clip_norm) -> Tensor");
}

TORCH_LIBRARY_IMPL(buttress, Autograd, library) {
  for (const char* name :
       {"perturb_", "restore_", "unperturb_", "rwp_first_step_", "rwp_step_", "amp_first_step_", "amp_step_"}) {
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&buttress::in_place_without_gradient>());
  }
}
