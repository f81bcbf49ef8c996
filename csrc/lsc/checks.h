// The arguments of the operators under the loss-stationary condition, checked and brought into one dtype and layout.
#pragma once

#include <ATen/core/Tensor.h>

namespace buttress {

// All raise at::ValueError.
void check_mean(const at::Tensor& losses, double c_min);
void check_mean_backward(const at::Tensor& grad, const at::Tensor& losses);
void check_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double c_min);
void check_scale(const at::Tensor& gradient, const at::Tensor& grad);
void check_cross_entropy_backward(const at::Tensor& grad, const at::Tensor& logits, const at::Tensor& targets,
                                  const at::Tensor& rows);

// Calls the dispatcher only where something changes: a call costs a tenth of a microsecond, and a forward and backward
// would make five.
inline at::Tensor as(const at::Tensor& tensor, at::ScalarType type) {
  return tensor.scalar_type() == type ? tensor : tensor.to(type);
}

// The dtype of the computation: float32 or float64.
inline at::ScalarType wide_type(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

inline at::Tensor wide(const at::Tensor& tensor) { return as(tensor, wide_type(tensor)).contiguous(); }

}  // namespace buttress
