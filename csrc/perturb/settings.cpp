#include "perturb/settings.h"

#include <cmath>
#include <limits>

#include "common/tensors.h"

namespace buttress::perturbation {

void check_length(const char* who, const char* name, double value) {
  TORCH_CHECK_VALUE(value >= 0 && std::isfinite(value), who, ": ", name, ": expected a finite number >= 0, got ",
                    text(value));
}

bool by_layer(const char* who, c10::string_view norm) {
  TORCH_CHECK_VALUE(norm == "layer" || norm == "global", who, ": norm: expected layer or global, got '", norm, "'");
  return norm == "layer";
}

void check_state(const char* who, const at::Tensor& state, const std::optional<at::Tensor>& kept,
                 at::TensorList weights) {
  const auto n = std::int64_t(weights.size());
  const at::Device device = weights.empty() ? state.device() : weights[0].device();
  TORCH_CHECK_VALUE(state.sizes() == at::IntArrayRef({2, n}) && state.scalar_type() == at::kDouble &&
                        state.device() == device && state.is_contiguous(),
                    who, ": state: expected a contiguous float64 [2,", n, "] on ", device, ", got ", facts(state));
  TORCH_CHECK_VALUE(!kept || (kept->numel() == 1 && kept->scalar_type() == at::kLong && kept->device() == device), who,
                    ": kept: expected one int64 number on ", device, ", got ", facts(*kept));
}

AmpSettings amp_settings(const char* who, double xi, double delta, c10::string_view ball,
                         std::optional<double> clip_norm) {
  check_length(who, "xi", xi);
  check_length(who, "delta", delta);
  TORCH_CHECK_VALUE(ball == "global" || ball == "per_tensor", who, ": ball: expected global or per_tensor, got '", ball,
                    "'");
  TORCH_CHECK_VALUE(!clip_norm || *clip_norm > 0, who, ": clip_norm: expected a number > 0, got ", text(*clip_norm));
  return {xi, delta, clip_norm.value_or(std::numeric_limits<double>::infinity()), ball == "global"};
}

}  // namespace buttress::perturbation
