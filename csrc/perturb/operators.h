// The operators that perturb weights, on any device: checks, layouts, and the dtypes that are left to torch. A device
// has kBlock, the elements of a block, and computes what `Cpu` in cpu_ops.cpp does.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <vector>

#include "perturb/arguments.h"
#include "perturb/settings.h"

namespace buttress::perturbation {

// Weights that are left to torch: integers and complex numbers, which have no norms here.
void restore_others(at::TensorList weights, at::TensorList saved);
void unperturb_others(at::TensorList weights, at::TensorList saved, at::TensorList perturbed);

template <typename Device>
void perturb_(at::TensorList weights, at::TensorList directions, double gamma, c10::string_view norm,
              const std::optional<std::vector<at::Tensor>>& saved) {
  check_length("perturb_", "gamma", gamma);
  const bool layer = by_layer("perturb_", norm);
  const List all{"weights", weights, true}, moves{"directions", directions},
      before = saved ? List{"saved", *saved, true} : List{};
  check_lists("perturb_", {all, before, moves}, true);
  Arguments a(Device::kBlock, all, moves, before, {});
  Device::perturb(a, gamma, layer);
  a.finish();
}

template <typename Device>
void restore_(at::TensorList weights, at::TensorList saved) {
  const List all{"weights", weights, true}, before{"saved", saved};
  check_lists("restore_", {all, before}, false);
  Arguments a(Device::kBlock, all, {}, before, {});
  Device::restore(a);
  a.finish();
  restore_others(weights, saved);
}

template <typename Device>
void unperturb_(at::TensorList weights, at::TensorList saved, at::TensorList perturbed) {
  const List all{"weights", weights, true}, before{"saved", saved}, after{"perturbed", perturbed};
  check_lists("unperturb_", {all, before, after}, false);
  Arguments a(Device::kBlock, all, {}, before, after);
  Device::unperturb(a);
  a.finish();
  unperturb_others(weights, saved, perturbed);
}

// Lists of the steps of RWP and AMP: the first step writes the origin, the others read it.
struct StepLists {
  List weights, directions, origin, total;

  void check(const char* who) const {
    origin.written ? check_lists(who, {weights, origin, total, directions}, true)
                   : check_lists(who, {weights, total, directions, origin}, true);
  }
};

template <typename Device>
void rwp_first_step_(at::TensorList weights, at::TensorList directions, at::TensorList origin, at::TensorList total,
                     at::Tensor state, double gamma, c10::string_view norm, const std::optional<at::Tensor>& kept) {
  constexpr const char* who = "rwp_first_step_";
  check_length(who, "gamma", gamma);
  const bool layer = by_layer(who, norm);
  const StepLists lists{
      {"weights", weights, true}, {"directions", directions}, {"origin", origin, true}, {"total", total, true}};
  lists.check(who);
  check_state(who, state, kept, weights);
  Arguments a(Device::kBlock, lists.weights, lists.directions, lists.origin, lists.total);
  Device::rwp_first_step(a, state, gamma, layer, kept);
  a.finish();
}

template <typename Device>
void rwp_step_(at::TensorList weights, at::TensorList directions, at::TensorList origin, at::TensorList total,
               at::Tensor state, double gamma, c10::string_view norm, bool rescale,
               const std::optional<at::Tensor>& kept) {
  constexpr const char* who = "rwp_step_";
  check_length(who, "gamma", gamma);
  const bool layer = by_layer(who, norm);
  const StepLists lists{
      {"weights", weights, true}, {"directions", directions}, {"origin", origin}, {"total", total, true}};
  lists.check(who);
  check_state(who, state, kept, weights);
  Arguments a(Device::kBlock, lists.weights, lists.directions, lists.origin, lists.total);
  Device::rwp_step(a, state, gamma, layer, rescale, kept);
  a.finish();
}

// The length of what has been added to the weights, all together.
template <typename Device>
at::Tensor amp(const char* who, const StepLists& lists, double xi, double delta, c10::string_view ball,
               std::optional<double> clip_norm) {
  const AmpSettings settings = amp_settings(who, xi, delta, ball, clip_norm);
  lists.check(who);
  Arguments a(Device::kBlock, lists.weights, lists.directions, lists.origin, lists.total);
  at::Tensor length = at::empty({}, at::TensorOptions().dtype(at::kDouble).device(a.device));
  lists.origin.written ? Device::amp_first_step(a, length, settings) : Device::amp_step(a, length, settings);
  a.finish();
  return length;
}

template <typename Device>
at::Tensor amp_first_step_(at::TensorList weights, at::TensorList directions, at::TensorList origin,
                           at::TensorList total, double xi, double delta, c10::string_view ball,
                           std::optional<double> clip_norm) {
  const StepLists lists{
      {"weights", weights, true}, {"directions", directions}, {"origin", origin, true}, {"total", total, true}};
  return amp<Device>("amp_first_step_", lists, xi, delta, ball, clip_norm);
}

template <typename Device>
at::Tensor amp_step_(at::TensorList weights, at::TensorList directions, at::TensorList origin, at::TensorList total,
                     double xi, double delta, c10::string_view ball, std::optional<double> clip_norm) {
  const StepLists lists{
      {"weights", weights, true}, {"directions", directions}, {"origin", origin}, {"total", total, true}};
  return amp<Device>("amp_step_", lists, xi, delta, ball, clip_norm);
}

template <typename Device>
void implement(torch::Library& library) {
  library.impl("perturb_", &perturb_<Device>);
  library.impl("restore_", &restore_<Device>);
  library.impl("unperturb_", &unperturb_<Device>);
  library.impl("rwp_first_step_", &rwp_first_step_<Device>);
  library.impl("rwp_step_", &rwp_step_<Device>);
  library.impl("amp_first_step_", &amp_first_step_<Device>);
  library.impl("amp_step_", &amp_step_<Device>);
}

}  // namespace buttress::perturbation
