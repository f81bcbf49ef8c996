// The operators under the loss-stationary condition on any device: checks, memory and dtypes. Half types are computed
// in float32 and rounded once, at the end. For T float or double a device computes
//   void losses(T* losses, LscRow<T>* rows, const LscLogits<T>&, const LscCondition&)
//   void gradients(T* out, const T* grad, const LscLogits<T>&, const LscRow<T>* rows)
//   void mean(T* mean, std::int64_t* kept, const T* losses, const LscRow<T>* rows, std::int64_t n, const LscCondition&)
//   void mask(T* out, const T* grad, const T* losses, std::int64_t n, const LscCondition&)
// `rows` of `mean` may be null. A device that cannot raise marks in them the examples whose target is no class.
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

// rows [B,2] holds the two numbers of each LscRow.
template <typename T>
const LscRow<T>* rows_in(const at::Tensor& rows) {
  return reinterpret_cast<const LscRow<T>*>(rows.const_data_ptr<T>());
}

template <typename T>
LscRow<T>* rows_out(const at::Tensor& rows) {
  return reinterpret_cast<LscRow<T>*>(rows.mutable_data_ptr<T>());
}

template <typename Device>
std::tuple<at::Tensor, at::Tensor> lsc_mean(const at::Tensor& given, double c_min, bool inclusive) {
  check_mean(given, c_min);
  const typename Device::Guard guard(given.device());
  const at::Tensor losses = wide(given);
  const at::Tensor mean = at::empty({}, losses.options()), kept = at::empty({}, losses.options().dtype(at::kLong));
  AT_DISPATCH_FLOATING_TYPES(losses.scalar_type(), "lsc_mean", [&] {
    Device::mean(mean.mutable_data_ptr<scalar_t>(), kept.mutable_data_ptr<std::int64_t>(),
                 losses.const_data_ptr<scalar_t>(), static_cast<const LscRow<scalar_t>*>(nullptr), losses.numel(),
                 {c_min, inclusive});
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

template <typename Device>
std::tuple<at::Tensor, at::Tensor, at::Tensor> lsc_cross_entropy(const at::Tensor& given, const at::Tensor& classes,
                                                                 double c_min, bool inclusive) {
  check_cross_entropy(given, classes, c_min);
  const typename Device::Guard guard(given.device());
  const at::Tensor logits = wide(given), targets = classes.contiguous();
  const auto options = logits.options();
  const at::Tensor mean = at::empty({}, options), kept = at::empty({}, targets.options());
  const at::Tensor losses = at::empty({logits.size(0)}, options), rows = at::empty({logits.size(0), 2}, options);
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "lsc_cross_entropy", [&] {
    const LscCondition condition{c_min, inclusive};
    scalar_t* const each = losses.mutable_data_ptr<scalar_t>();
    Device::losses(each, rows_out<scalar_t>(rows), view<scalar_t>(logits, targets), condition);
    Device::mean(mean.mutable_data_ptr<scalar_t>(), kept.mutable_data_ptr<std::int64_t>(), each,
                 rows_in<scalar_t>(rows), losses.numel(), condition);
  });
  return {as(mean, given.scalar_type()), kept, rows};
}

template <typename Device>
at::Tensor lsc_cross_entropy_backward(const at::Tensor& grad, const at::Tensor& given, const at::Tensor& classes,
                                      const at::Tensor& rows) {
  check_cross_entropy_backward(grad, given, classes, rows);
  const typename Device::Guard guard(given.device());
  const at::Tensor logits = wide(given), targets = classes.contiguous(), factor = wide(grad);
  const at::Tensor out = at::empty(logits.sizes(), logits.options());
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "lsc_cross_entropy_backward", [&] {
    Device::gradients(out.mutable_data_ptr<scalar_t>(), factor.const_data_ptr<scalar_t>(),
                      view<scalar_t>(logits, targets), rows_in<scalar_t>(rows));
  });
  return as(out, given.scalar_type());
}

template <typename Device>
void implement_lsc(torch::Library& library) {
  library.impl("lsc_mean", &lsc_mean<Device>);
  library.impl("lsc_mean_backward", &lsc_mean_backward<Device>);
  library.impl("lsc_cross_entropy", &lsc_cross_entropy<Device>);
  library.impl("lsc_cross_entropy_backward", &lsc_cross_entropy_backward<Device>);
}

}  // namespace buttress
