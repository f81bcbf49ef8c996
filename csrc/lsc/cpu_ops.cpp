// The operators under the loss-stationary condition on the CPU: examples shared out among threads.
#include "lsc/cpu_ops.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <c10/util/SmallVector.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "lsc/operators.h"

namespace buttress {
namespace {

using at::Tensor;

// Logits that one task handles: enough to hide its start, few enough to share out.
constexpr std::int64_t kGrain = 1 << 15;

// Calls work(begin, end) on ranges of examples that are whole tiles: the numbers do not depend on the number of
// threads.
template <typename Work>
void over_tiles(std::int64_t batch, std::int64_t classes, const Work& work) {
  const std::int64_t tile = lsc_tile(classes), tiles = (batch + tile - 1) / tile;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / (tile * classes));
  at::parallel_for(0, tiles, grain,
                   [&](std::int64_t begin, std::int64_t end) { work(begin * tile, std::min(end * tile, batch)); });
}

// The mean, the number kept and, unless it is null, the gradient. Raises at::ValueError where a target is no class.
template <typename T>
void cross_entropy(const LscLogits<T>& logits, const LscCondition& condition, T* mean, std::int64_t* kept,
                   T* gradient) {
  const std::int64_t tile = lsc_tile(logits.classes);
  c10::SmallVector<LscSum, 16> sums((logits.batch + tile - 1) / tile);
  std::atomic<std::int64_t> first{logits.batch};  // example whose target is no class
  over_tiles(logits.batch, logits.classes, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t wrong = lsc_cross_entropies(logits, condition, begin, end, sums.data(), gradient);
    std::int64_t known = first.load();
    while (wrong >= 0 && wrong < known && !first.compare_exchange_weak(known, wrong)) {
    }
  });
  if (const std::int64_t wrong = first.load(); wrong != logits.batch) {
    TORCH_CHECK_VALUE(false, "lsc_cross_entropy: targets[", wrong, "] is ", logits.targets[wrong],
                      ", expected a class from 0 to ", logits.classes - 1);
  }
  LscSum all{0, 0};
  for (const LscSum& each : sums) all = {all.total + each.total, all.kept + each.kept};
  *mean = T(all.total / double(std::max<std::int64_t>(logits.batch, 1)));
  *kept = all.kept;
}

// Memory without the dispatcher, which costs a tenth of a microsecond a tensor.
Tensor empty(at::IntArrayRef sizes, at::ScalarType type) { return Tensor(at::detail::empty_cpu(sizes, type)); }

// The third result is undefined without `gradient`.
std::tuple<Tensor, Tensor, Tensor> cross_entropy(const Tensor& given, const Tensor& classes, double c_min,
                                                 bool inclusive, bool with_gradient) {
  check_cross_entropy(given, classes, c_min);
  const Tensor logits = wide(given), targets = classes.contiguous();
  const Tensor mean = empty({}, logits.scalar_type()), kept = empty({}, at::kLong);
  Tensor gradient;
  // A copy of the logits is nobody else's: its memory serves.
  if (with_gradient) gradient = logits.is_same(given) ? empty(logits.sizes(), logits.scalar_type()) : logits;
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "lsc_cross_entropy", [&] {
    cross_entropy<scalar_t>(view<scalar_t>(logits, targets), {c_min, inclusive}, mean.mutable_data_ptr<scalar_t>(),
                            kept.mutable_data_ptr<std::int64_t>(),
                            with_gradient ? gradient.mutable_data_ptr<scalar_t>() : nullptr);
  });
  return {as(mean, given.scalar_type()), kept, gradient};
}

std::tuple<Tensor, Tensor> lsc_cross_entropy(const Tensor& logits, const Tensor& targets, double c_min,
                                             bool inclusive) {
  auto [mean, kept, none] = cross_entropy(logits, targets, c_min, inclusive, false);
  return {std::move(mean), std::move(kept)};
}

std::tuple<Tensor, Tensor, Tensor> lsc_cross_entropy_gradient(const Tensor& logits, const Tensor& targets, double c_min,
                                                              bool inclusive) {
  return cross_entropy(logits, targets, c_min, inclusive, true);
}

// out, which may be the gradient: gradient * grad.
void scale(const Tensor& gradient, const Tensor& grad, const Tensor& out) {
  AT_DISPATCH_FLOATING_TYPES(gradient.scalar_type(), "lsc_scale", [&] {
    const scalar_t factor = *wide(grad).const_data_ptr<scalar_t>(), *values = gradient.const_data_ptr<scalar_t>();
    scalar_t* const target = out.mutable_data_ptr<scalar_t>();
    if (factor == 1 && values == target) return;
    at::parallel_for(0, gradient.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      lsc_multiply(values + begin, end - begin, factor, target + begin);
    });
  });
}

Tensor lsc_scale(const Tensor& gradient, const Tensor& grad) {
  check_scale(gradient, grad);
  const Tensor values = gradient.contiguous(), out = empty(values.sizes(), values.scalar_type());
  scale(values, grad, out);
  return as(out, grad.scalar_type());
}

struct Cpu {
  struct Guard {
    explicit Guard(at::Device) {}
  };

  template <typename T>
  static void mean(T* mean, std::int64_t* kept, const T* losses, std::int64_t n, const LscCondition& condition) {
    const LscSum sum = lsc_sum(losses, n, condition);
    *mean = T(sum.total / double(std::max<std::int64_t>(n, 1)));
    *kept = sum.kept;
  }

  template <typename T>
  static void mask(T* out, const T* grad, const T* losses, std::int64_t n, const LscCondition& condition) {
    lsc_mask(losses, n, condition, *grad / T(n), out);
  }
};

}  // namespace

void lsc_scale_in_place(const Tensor& gradient, const Tensor& grad) { scale(gradient, grad, gradient); }

}  // namespace buttress

TORCH_LIBRARY_IMPL(buttress, CPU, library) {
  buttress::implement_lsc_mean<buttress::Cpu>(library);
  library.impl("lsc_cross_entropy", &buttress::lsc_cross_entropy);
  library.impl("lsc_cross_entropy_gradient", &buttress::lsc_cross_entropy_gradient);
  library.impl("lsc_scale", &buttress::lsc_scale);
}
