// The loss-stationary condition as torch operators: schemas, checks, memory, threads. Gradients: autograd.cpp.
//
// Half types are computed in float32 and rounded once, at the end.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <tuple>

#include "lsc/cpu.h"

#ifdef BUTTRESS_WITH_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "lsc/gpu.h"
#endif

namespace buttress {
namespace {

using at::Tensor;

// Logits that one task handles: enough to hide its start, few enough to share out.
constexpr std::int64_t kGrain = 1 << 15;

void check_condition(const char* op, double c_min) {
  TORCH_CHECK_VALUE(c_min == c_min, op, ": c_min: expected a number or an infinity, got nan");
}

void check_losses(const Tensor& losses) {
  TORCH_CHECK_VALUE(losses.dim() == 1 && losses.is_floating_point(), "lsc_mean: expected floating-point losses [B], got ",
                    losses.scalar_type(), " ", losses.sizes());
}

void check_logits(const Tensor& logits, const Tensor& targets) {
  TORCH_CHECK_VALUE(logits.dim() == 2 && logits.size(1) > 0 && logits.is_floating_point(),
                    "lsc_cross_entropy: expected floating-point logits [B,K] with K >= 1, got ", logits.scalar_type(), " ",
                    logits.sizes());
  TORCH_CHECK_VALUE(targets.dim() == 1 && targets.size(0) == logits.size(0) && targets.scalar_type() == at::kLong &&
                        targets.device() == logits.device(),
                    "lsc_cross_entropy: expected int64 targets [", logits.size(0), "] on ", logits.device(), ", got ",
                    targets.scalar_type(), " ", targets.sizes(), " on ", targets.device());
}

// Asks the dispatcher only where something changes: a tenth of a microsecond, five times in a forward and backward.
Tensor as(const Tensor& tensor, at::ScalarType type) { return tensor.scalar_type() == type ? tensor : tensor.to(type); }

// What is computed with: contiguous, in float32 or float64.
Tensor wide(const Tensor& tensor) {
  return as(tensor, tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat).contiguous();
}

template <typename T>
LscLogits<T> view(const Tensor& logits, const Tensor& targets) {
  return {logits.const_data_ptr<T>(), targets.const_data_ptr<std::int64_t>(), logits.size(0), logits.size(1)};
}

// rows [B,2] holds the two numbers of each LscRow.
template <typename T>
const LscRow<T>* rows_in(const Tensor& rows) {
  return reinterpret_cast<const LscRow<T>*>(rows.const_data_ptr<T>());
}

template <typename T>
LscRow<T>* rows_out(const Tensor& rows) {
  return reinterpret_cast<LscRow<T>*>(rows.mutable_data_ptr<T>());
}

#ifdef BUTTRESS_WITH_CUDA
// Runs launch(stream) on the tensor's device, where that is a GPU.
template <typename Launch>
bool on_gpu(const Tensor& tensor, const Launch& launch) {
  if (!tensor.is_cuda()) return false;
  const c10::cuda::CUDAGuard guard(tensor.device());
  C10_CUDA_CHECK(cudaError_t(launch(c10::cuda::getCurrentCUDAStream().stream())));
  return true;
}
#endif

// Calls work(begin, end) on ranges of examples that are whole tiles: the numbers do not depend on the number of threads.
template <typename Work>
void over_tiles(std::int64_t batch, std::int64_t classes, const Work& work) {
  const std::int64_t tile = lsc_tile(classes), tiles = (batch + tile - 1) / tile;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / (tile * classes));
  at::parallel_for(0, tiles, grain, [&](std::int64_t begin, std::int64_t end) {
    work(begin * tile, std::min(end * tile, batch));
  });
}

// `rows` says of a GPU's losses which are NaN because their target is no class; null for losses of any other kind.
template <typename T>
void mean_into(const Tensor& mean, const Tensor& kept, const Tensor& losses, const LscRow<T>* rows,
               const LscCondition& condition) {
  const T* const values = losses.const_data_ptr<T>();
  const std::int64_t n = losses.numel();
  T* const mean_out = mean.mutable_data_ptr<T>();
  std::int64_t* const kept_out = kept.mutable_data_ptr<std::int64_t>();
#ifdef BUTTRESS_WITH_CUDA
  if (on_gpu(losses, [&](void* stream) { return lsc_mean_gpu(values, rows, n, condition, mean_out, kept_out, stream); }))
    return;
#endif
  const LscSum sum = lsc_sum(values, n, condition);
  *mean_out = T(sum.total / double(std::max<std::int64_t>(n, 1)));
  *kept_out = sum.kept;
}

template <typename T>
void mask_into(const Tensor& out, const Tensor& grad, const Tensor& losses, const LscCondition& condition) {
  const T *const values = losses.const_data_ptr<T>(), *const factor = grad.const_data_ptr<T>();
  T* const to = out.mutable_data_ptr<T>();
  const std::int64_t n = losses.numel();
#ifdef BUTTRESS_WITH_CUDA
  if (on_gpu(losses, [&](void* stream) { return lsc_mask_gpu(values, n, condition, factor, to, stream); })) return;
#endif
  lsc_mask(values, n, condition, *factor / T(n), to);
}

// Raises on the CPU where a target is no class; a GPU is not asked, its losses are then NaN.
template <typename T>
void losses_into(const Tensor& losses, const Tensor& rows, const LscLogits<T>& logits, const LscCondition& condition) {
  T* const to = losses.mutable_data_ptr<T>();
  LscRow<T>* const rows_to = rows_out<T>(rows);
#ifdef BUTTRESS_WITH_CUDA
  if (on_gpu(losses, [&](void* stream) { return lsc_losses_gpu(logits, condition, to, rows_to, stream); })) return;
#endif
  std::atomic<std::int64_t> first{logits.batch};  // whose target is no class
  over_tiles(logits.batch, logits.classes, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t found = lsc_losses(logits, condition, begin, end, to, rows_to);
    std::int64_t known = first.load();
    while (found >= 0 && found < known && !first.compare_exchange_weak(known, found)) {
    }
  });
  const std::int64_t wrong = first.load();
  if (wrong == logits.batch) return;
  TORCH_CHECK_VALUE(false, "lsc_cross_entropy: targets[", wrong, "] is ", logits.targets[wrong],
                    ", expected a class from 0 to ", logits.classes - 1);
}

template <typename T>
void gradients_into(const Tensor& out, const Tensor& grad, const LscLogits<T>& logits, const LscRow<T>* rows) {
  const T* const factor = grad.const_data_ptr<T>();
  T* const to = out.mutable_data_ptr<T>();
#ifdef BUTTRESS_WITH_CUDA
  if (on_gpu(out, [&](void* stream) { return lsc_gradients_gpu(logits, rows, factor, to, stream); })) return;
#endif
  over_tiles(logits.batch, logits.classes, [&](std::int64_t begin, std::int64_t end) {
    lsc_gradients(logits, rows, *factor / T(logits.batch), begin, end, to);
  });
}

std::tuple<Tensor, Tensor> lsc_mean(const Tensor& given, double c_min, bool inclusive) {
  check_condition("lsc_mean", c_min);
  check_losses(given);
  const Tensor losses = wide(given);
  Tensor mean = at::empty({}, losses.options()), kept = at::empty({}, losses.options().dtype(at::kLong));
  AT_DISPATCH_FLOATING_TYPES(losses.scalar_type(), "lsc_mean", [&] {
    mean_into<scalar_t>(mean, kept, losses, nullptr, {c_min, inclusive});
  });
  return {as(mean, given.scalar_type()), kept};
}

Tensor lsc_mean_backward(const Tensor& grad, const Tensor& given, double c_min, bool inclusive) {
  check_losses(given);
  const Tensor losses = wide(given), factor = wide(grad);
  TORCH_CHECK_VALUE(factor.numel() == 1 && factor.device() == losses.device() &&
                        factor.scalar_type() == losses.scalar_type(),
                    "lsc_mean_backward: expected one gradient like the losses, got ", grad.scalar_type(), " ", grad.sizes(),
                    " on ", grad.device());
  const Tensor out = at::empty(losses.sizes(), losses.options());
  AT_DISPATCH_FLOATING_TYPES(losses.scalar_type(), "lsc_mean_backward", [&] {
    mask_into<scalar_t>(out, factor, losses, {c_min, inclusive});
  });
  return as(out, given.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor> lsc_cross_entropy(const Tensor& given, const Tensor& given_targets, double c_min,
                                                     bool inclusive) {
  check_condition("lsc_cross_entropy", c_min);
  check_logits(given, given_targets);
  const Tensor logits = wide(given), targets = given_targets.contiguous();
  const auto options = logits.options();
  Tensor mean = at::empty({}, options), kept = at::empty({}, targets.options());
  Tensor losses = at::empty({logits.size(0)}, options), rows = at::empty({logits.size(0), 2}, options);
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "lsc_cross_entropy", [&] {
    const LscCondition condition{c_min, inclusive};
    losses_into(losses, rows, view<scalar_t>(logits, targets), condition);
    mean_into(mean, kept, losses, rows_in<scalar_t>(rows), condition);
  });
  return {as(mean, given.scalar_type()), kept, rows};
}

Tensor lsc_cross_entropy_backward(const Tensor& grad, const Tensor& given, const Tensor& given_targets,
                                  const Tensor& rows) {
  check_logits(given, given_targets);
  const Tensor logits = wide(given), targets = given_targets.contiguous(), factor = wide(grad);
  TORCH_CHECK_VALUE(factor.numel() == 1 && factor.device() == logits.device() &&
                        factor.scalar_type() == logits.scalar_type() && rows.is_contiguous() &&
                        rows.sizes() == at::IntArrayRef({logits.size(0), 2}) &&
                        rows.scalar_type() == logits.scalar_type() && rows.device() == logits.device(),
                    "lsc_cross_entropy_backward: expected one gradient like the logits, and the rows that lsc_cross_entropy gave");
  const Tensor out = at::empty(logits.sizes(), logits.options());
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "lsc_cross_entropy_backward", [&] {
    gradients_into(out, factor, view<scalar_t>(logits, targets), rows_in<scalar_t>(rows));
  });
  return as(out, given.scalar_type());
}

}  // namespace
}  // namespace buttress

// rows [B,2]: what the backward needs of each example, its largest logit and the reciprocal of its sum of exponentials
// (0: not kept), in float32 or float64.
TORCH_LIBRARY_FRAGMENT(buttress, library) {
  library.def("lsc_mean(Tensor losses, float c_min, bool inclusive) -> (Tensor mean, Tensor kept)");
  library.def("lsc_mean_backward(Tensor grad, Tensor losses, float c_min, bool inclusive) -> Tensor");
  library.def(
      "lsc_cross_entropy(Tensor logits, Tensor targets, float c_min, bool inclusive) -> (Tensor mean, Tensor kept, "
      "Tensor rows)");
  library.def("lsc_cross_entropy_backward(Tensor grad, Tensor logits, Tensor targets, Tensor rows) -> Tensor");
}

TORCH_LIBRARY_IMPL(buttress, CPU, library) {
  library.impl("lsc_mean", &buttress::lsc_mean);
  library.impl("lsc_mean_backward", &buttress::lsc_mean_backward);
  library.impl("lsc_cross_entropy", &buttress::lsc_cross_entropy);
  library.impl("lsc_cross_entropy_backward", &buttress::lsc_cross_entropy_backward);
}

#ifdef BUTTRESS_WITH_CUDA
TORCH_LIBRARY_IMPL(buttress, CUDA, library) {
  library.impl("lsc_mean", &buttress::lsc_mean);
  library.impl("lsc_mean_backward", &buttress::lsc_mean_backward);
  library.impl("lsc_cross_entropy", &buttress::lsc_cross_entropy);
  library.impl("lsc_cross_entropy_backward", &buttress::lsc_cross_entropy_backward);
}
#endif
