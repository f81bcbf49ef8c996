// The operators under the loss-stationary condition on CUDA: launches on the current stream, which nobody waits for.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <tuple>
#include <utility>

#include "lsc/cuda.h"
#include "lsc/operators.h"

namespace buttress {
namespace {

using at::Tensor;

cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

void expect_success(int code) { C10_CUDA_CHECK(cudaError_t(code)); }

// rows [B,2] holds the two numbers of each LscRow.
template <typename T>
const LscRow<T>* rows_in(const Tensor& rows) {
  return reinterpret_cast<const LscRow<T>*>(rows.const_data_ptr<T>());
}

template <typename T>
LscRow<T>* rows_out(const Tensor& rows) {
  return reinterpret_cast<LscRow<T>*>(rows.mutable_data_ptr<T>());
}

std::tuple<Tensor, Tensor, Tensor> lsc_cross_entropy_rows(const Tensor& given, const Tensor& classes, double c_min,
                                                          bool inclusive) {
  check_cross_entropy(given, classes, c_min);
  const c10::cuda::CUDAGuard guard(given.device());
  const Tensor logits = wide(given), targets = classes.contiguous();
  const auto options = logits.options();
  const Tensor mean = at::empty({}, options), kept = at::empty({}, targets.options());
  const Tensor losses = at::empty({logits.size(0)}, options), rows = at::empty({logits.size(0), 2}, options);
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "lsc_cross_entropy", [&] {
    const LscCondition condition{c_min, inclusive};
    scalar_t* const each = losses.mutable_data_ptr<scalar_t>();
    expect_success(
        lsc_losses_cuda(view<scalar_t>(logits, targets), condition, each, rows_out<scalar_t>(rows), stream()));
    expect_success(lsc_mean_cuda(each, rows_in<scalar_t>(rows), losses.numel(), condition,
                                 mean.mutable_data_ptr<scalar_t>(), kept.mutable_data_ptr<std::int64_t>(), stream()));
  });
  return {as(mean, given.scalar_type()), kept, rows};
}

std::tuple<Tensor, Tensor> lsc_cross_entropy(const Tensor& logits, const Tensor& targets, double c_min,
                                             bool inclusive) {
  auto [mean, kept, rows] = lsc_cross_entropy_rows(logits, targets, c_min, inclusive);
  return {std::move(mean), std::move(kept)};
}

Tensor lsc_cross_entropy_backward(const Tensor& grad, const Tensor& given, const Tensor& classes, const Tensor& rows) {
  check_cross_entropy_backward(grad, given, classes, rows);
  const c10::cuda::CUDAGuard guard(given.device());
  const Tensor logits = wide(given), targets = classes.contiguous(), factor = wide(grad);
  const Tensor out = at::empty(logits.sizes(), logits.options());
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "lsc_cross_entropy_backward", [&] {
    expect_success(lsc_gradients_cuda(view<scalar_t>(logits, targets), rows_in<scalar_t>(rows),
                                      factor.const_data_ptr<scalar_t>(), out.mutable_data_ptr<scalar_t>(), stream()));
  });
  return as(out, given.scalar_type());
}

struct Cuda {
  using Guard = c10::cuda::CUDAGuard;

  template <typename T>
  static void mean(T* mean, std::int64_t* kept, const T* losses, std::int64_t n, const LscCondition& condition) {
    const LscRow<T>* const none = nullptr;
    expect_success(lsc_mean_cuda(losses, none, n, condition, mean, kept, stream()));
  }

  template <typename T>
  static void mask(T* out, const T* grad, const T* losses, std::int64_t n, const LscCondition& condition) {
    expect_success(lsc_mask_cuda(losses, n, condition, grad, out, stream()));
  }
};

}  // namespace
}  // namespace buttress

TORCH_LIBRARY_IMPL(buttress, CUDA, library) {
  buttress::implement_lsc_mean<buttress::Cuda>(library);
  library.impl("lsc_cross_entropy", &buttress::lsc_cross_entropy);
  library.impl("lsc_cross_entropy_rows", &buttress::lsc_cross_entropy_rows);
  library.impl("lsc_cross_entropy_backward", &buttress::lsc_cross_entropy_backward);
}
