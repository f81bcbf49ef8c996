// Part of the backward on the CPU that is no operator, because the gradient it writes into has no other owner.
#pragma once

#include <ATen/core/Tensor.h>

namespace buttress {

// Multiplies the contiguous `gradient` of lsc_cross_entropy_gradient by the one number `grad`; a gradient of 0 stays 0.
void lsc_scale_in_place(const at::Tensor& gradient, const at::Tensor& grad);

}  // namespace buttress
