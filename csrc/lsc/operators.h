// The mean under the loss-stationary condition on any device: checks, memory and dtypes. Half types are computed in
// float32 and rounded once, at the end. For T float or double a device computes
//   void mean(T* mean, std::int64_t* kept, const T* losses, std::int64_t n, const LscCondition&)
//   void mask(T* out, const T* grad, const T* losses, std::int64_t n, const LscCondition&)
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>

#include "lsc/checks.h"
#include "lsc/cpu.h"

namespace buttress {

template <typename T>
LscLogits<T> view(const at::Tensor& logits, const at::Tensor& targets) {
  return {logits.const_data_ptr<T>(), targets.const_data_ptr<std::int64_t>(), logits.size(0), logits.size(1)};
}

template <typename Device>
std::tuple<at::Tensor, at::Tensor> lsc_mean(const at::Tensor& given, double c_min, bool inclusive) {
  check_mean(given, c_min);
  const typename Device::Guard guard(given.device());
  const at::Tensor losses = wide(given);
  const at::Tensor mean = at::empty({}, losses.options()), kept = at::empty({}, losses.options().dtype(at::kLong));
  AT_DISPATCH_FLOATING_TYPES(losses.scalar_type(), "lsc_mean", [&] {
    Device::mean(mean.mutable_data_ptr<scalar_t>(), kept.mutable_data_ptr<std::int64_t>(),
                 losses.const_data_ptr<scalar_t>(), losses.numel(), {c_min, inclusive});
  });
  return {as(mean, given.scalar_type()), kept};
}

template <typename Device>
at::Tensor lsc_mean_backward(const at::Tensor& grad, const at::Tensor& given, double c_min, bool inclusive) {
  check_mean_backward(grad, given);
  const typename Device::Guard guard(given.device());
  const at::Tensor losses = wide(given), factor = wide(grad), out = at::empty(losses.sizes(), losses.options());
  AT_DISPATCH_FLOATING_TYPES(losses.scalar_type(), "lsc_mean_backward", [&] {
    Device::mask(out.mutable_data_ptr<scalar_t>(), factor.const_data_ptr<scalar_t>(), losses.const_data_ptr<scalar_t>(),
                 losses.numel(), {c_min, inclusive});
  });
  return as(out, given.scalar_type());
}

// The operators that every device has; those of the cross-entropy are its own.
template <typename Device>
void implement_lsc_mean(torch::Library& library) {
  library.impl("lsc_mean", &lsc_mean<Device>);
  library.impl("lsc_mean_backward", &lsc_mean_backward<Device>);
}

}  // namespace buttress
