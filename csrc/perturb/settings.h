// Checks of the arguments beside the lists: lengths, choices, the state of RWP. All raise at::ValueError.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "perturb/update.h"

namespace buttress::perturbation {

void check_length(const char* who, const char* name, double value);

// Whether each tensor has its own norm ("layer") or all have one ("global").
bool by_layer(const char* who, c10::string_view norm);

// state: contiguous float64 [2,n] on the weights' device; kept: one int64 number there.
void check_state(const char* who, const at::Tensor& state, const std::optional<at::Tensor>& kept,
                 at::TensorList weights);

AmpSettings amp_settings(const char* who, double xi, double delta, c10::string_view ball,
                         std::optional<double> clip_norm);

}  // namespace buttress::perturbation
