// The operators buttress::lsc_mean and lsc_cross_entropy, and what their gradients are made of; autograd.cpp has these.
//
// Where a gradient is needed, the CPU computes it in the forward, while the exponentials are in the cache:
// lsc_cross_entropy_gradient gives it for an incoming gradient of 1, in float32 or float64, and lsc_scale multiplies.
// CUDA takes two passes over the logits, because the multiplication would read and write as much as the second one
// does: lsc_cross_entropy_rows gives rows [B,2] for lsc_cross_entropy_backward, in float32 or float64. These are two
// numbers of each example, its largest logit and the reciprocal of its sum of exponentials (0: not kept).
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(buttress, library) {
  library.def("lsc_mean(Tensor losses, float c_min, bool inclusive) -> (Tensor mean, Tensor kept)");
  library.def("lsc_mean_backward(Tensor grad, Tensor losses, float c_min, bool inclusive) -> Tensor");
  library.def(
      "lsc_cross_entropy(Tensor logits, Tensor targets, float c_min, bool inclusive) -> (Tensor mean, Tensor kept)");
  library.def(
      "lsc_cross_entropy_gradient(Tensor logits, Tensor targets, float c_min, bool inclusive) -> (Tensor mean, Tensor "
      "kept, Tensor gradient)");
  library.def("lsc_scale(Tensor gradient, Tensor grad) -> Tensor");
  library.def(
      "lsc_cross_entropy_rows(Tensor logits, Tensor targets, float c_min, bool inclusive) -> (Tensor mean, Tensor "
      "kept, Tensor rows)");
  library.def("lsc_cross_entropy_backward(Tensor grad, Tensor logits, Tensor targets, Tensor rows) -> Tensor");
}
