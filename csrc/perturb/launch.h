// From torch's tensors to the GPU's passes: the table of items, scratch memory, the current stream.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "perturb/arguments.h"
#include "perturb/gpu.h"

namespace buttress::perturbation {

void perturb_cuda(const Arguments& a, double gamma, bool layer);
void restore_cuda(const Arguments& a);
void unperturb_cuda(const Arguments& a);
void accumulate_cuda(const Arguments& a, at::Tensor& state, double gamma, bool layer, bool rescale,
                     const std::optional<at::Tensor>& kept, bool begin);
void ascend_cuda(const Arguments& a, at::Tensor& length, double xi, double delta, bool together, double clip,
                 bool begin);

}  // namespace buttress::perturbation
