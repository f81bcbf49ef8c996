#include "lsc/checks.h"

#include "common/tensors.h"

namespace buttress {
namespace {

using at::Tensor;

void check_condition(const char* who, double c_min) {
  TORCH_CHECK_VALUE(c_min == c_min, who, ": c_min: expected a number or an infinity, got nan");
}

void check_losses(const Tensor& losses) {
  TORCH_CHECK_VALUE(losses.dim() == 1 && compiled_type(losses), "lsc_mean: losses: expected floating-point [B], got ",
                    facts(losses));
}

void check_logits(const Tensor& logits, const Tensor& targets) {
  TORCH_CHECK_VALUE(logits.dim() == 2 && logits.size(1) > 0 && compiled_type(logits),
                    "lsc_cross_entropy: logits: expected floating-point [B,K] with K >= 1, got ", facts(logits));
  TORCH_CHECK_VALUE(targets.dim() == 1 && targets.size(0) == logits.size(0) && targets.scalar_type() == at::kLong &&
                        targets.device() == logits.device(),
                    "lsc_cross_entropy: targets: expected int64 [", logits.size(0), "] on ", logits.device(), ", got ",
                    facts(targets));
}

void check_grad(const char* who, const Tensor& grad, const Tensor& input) {
  TORCH_CHECK_VALUE(grad.numel() == 1 && grad.device() == input.device() && wide_type(grad) == wide_type(input), who,
                    ": grad: expected one number like the input (", facts(input), "), got ", facts(grad));
}

}  // namespace

void check_mean(const Tensor& losses, double c_min) {
  check_losses(losses);
  check_condition("lsc_mean", c_min);
}

void check_mean_backward(const Tensor& grad, const Tensor& losses) {
  check_losses(losses);
  check_grad("lsc_mean_backward", grad, losses);
}

void check_cross_entropy(const Tensor& logits, const Tensor& targets, double c_min) {
  check_logits(logits, targets);
  check_condition("lsc_cross_entropy", c_min);
}

void check_scale(const Tensor& gradient, const Tensor& grad) {
  TORCH_CHECK_VALUE(gradient.dim() == 2 && gradient.scalar_type() == wide_type(gradient),
                    "lsc_scale: gradient: expected float32 or float64 [B,K], got ", facts(gradient));
  check_grad("lsc_scale", grad, gradient);
}

void check_cross_entropy_backward(const Tensor& grad, const Tensor& logits, const Tensor& targets, const Tensor& rows) {
  check_logits(logits, targets);
  check_grad("lsc_cross_entropy_backward", grad, logits);
  TORCH_CHECK_VALUE(rows.is_contiguous() && rows.sizes() == at::IntArrayRef({logits.size(0), 2}) &&
                        rows.scalar_type() == wide_type(logits) && rows.device() == logits.device(),
                    "lsc_cross_entropy_backward: expected the rows that lsc_cross_entropy gave, got ", facts(rows));
}

}  // namespace buttress
