// The operators buttress::lsc_mean and lsc_cross_entropy, and their backwards; autograd.cpp has the gradients.
//
// rows [B,2]: two numbers of each example for the backward, its largest logit and the reciprocal of its sum of
// exponentials (0: not kept), in float32 or float64.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(buttress, library) {
  library.def("lsc_mean(Tensor losses, float c_min, bool inclusive) -> (Tensor mean, Tensor kept)");
  library.def("lsc_mean_backward(Tensor grad, Tensor losses, float c_min, bool inclusive) -> Tensor");
  library.def(
      "lsc_cross_entropy(Tensor logits, Tensor targets, float c_min, bool inclusive) -> (Tensor mean, Tensor kept, "
      "Tensor rows)");
  library.def("lsc_cross_entropy_backward(Tensor grad, Tensor logits, Tensor targets, Tensor rows) -> Tensor");
}
