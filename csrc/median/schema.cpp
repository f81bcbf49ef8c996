// The operators buttress::median and median_many, which make their results, and median_out and median_many_out, which
// are given the memory. They have no gradient.
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

// The `tensors` of `median_many` are the n versions of the first tensor, then those of the second, ...
TORCH_LIBRARY_FRAGMENT(buttress, library) {
  library.def("median(Tensor[] tensors, str even) -> Tensor");
  library.def("median_out(Tensor[] tensors, str even, Tensor(a!) out) -> ()");
  library.def("median_many(Tensor[] tensors, int n, str even) -> Tensor[]");
  library.def("median_many_out(Tensor[] tensors, int n, str even, Tensor(a!)[] out) -> ()");
}

TORCH_LIBRARY_IMPL(buttress, Autograd, library) {
  for (const char* name : {"median", "median_out", "median_many", "median_many_out"}) {
    library.impl(name, torch::autograd::autogradNotImplementedFallback());
  }
}
