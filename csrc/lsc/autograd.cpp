// Gradients of the operators of schema.cpp. Nodes of autograd's own kind, as torch's built-in operators have them: a
// torch::autograd::Function costs 1.4 microseconds more, a tenth of forward and backward of a batch of 128.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/dynamo/compiled_autograd.h>
#include <torch/library.h>

#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "lsc/cpu_ops.h"

namespace buttress {
namespace {

using at::Tensor;
using torch::autograd::edge_list;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;
using torch::dynamo::autograd::CompiledNodeArgs;
using torch::dynamo::autograd::SwapSavedVariables;

// Operators go through the dispatcher, so that torch.compile sees them.
std::tuple<Tensor, Tensor> mean_op(const Tensor& losses, double c_min, bool inclusive) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("buttress::lsc_mean", "")
                             .typed<std::tuple<Tensor, Tensor>(const Tensor&, double, bool)>();
  return op.call(losses, c_min, inclusive);
}

Tensor mean_backward_op(const Tensor& grad, const Tensor& losses, double c_min, bool inclusive) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("buttress::lsc_mean_backward", "")
                             .typed<Tensor(const Tensor&, const Tensor&, double, bool)>();
  return op.call(grad, losses, c_min, inclusive);
}

using WithExtra = std::tuple<Tensor, Tensor, Tensor>;  // mean, kept, and what a backward needs

std::tuple<Tensor, Tensor> cross_entropy_op(const Tensor& logits, const Tensor& targets, double c_min, bool inclusive) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("buttress::lsc_cross_entropy", "")
                             .typed<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, double, bool)>();
  return op.call(logits, targets, c_min, inclusive);
}

WithExtra cross_entropy_gradient_op(const Tensor& logits, const Tensor& targets, double c_min, bool inclusive) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("buttress::lsc_cross_entropy_gradient", "")
                             .typed<WithExtra(const Tensor&, const Tensor&, double, bool)>();
  return op.call(logits, targets, c_min, inclusive);
}

WithExtra cross_entropy_rows_op(const Tensor& logits, const Tensor& targets, double c_min, bool inclusive) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("buttress::lsc_cross_entropy_rows", "")
                             .typed<WithExtra(const Tensor&, const Tensor&, double, bool)>();
  return op.call(logits, targets, c_min, inclusive);
}

Tensor scale_op(const Tensor& gradient, const Tensor& grad) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("buttress::lsc_scale", "")
                             .typed<Tensor(const Tensor&, const Tensor&)>();
  return op.call(gradient, grad);
}

Tensor cross_entropy_backward_op(const Tensor& grad, const Tensor& logits, const Tensor& targets, const Tensor& rows) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("buttress::lsc_cross_entropy_backward", "")
                             .typed<Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&)>();
  return op.call(grad, logits, targets, rows);
}

// By the kind of pointer that torch has for nodes: its own kind in torch 2.15, std::shared_ptr in 2.11.
template <typename T, typename... Arguments>
auto make_node(Arguments&&... arguments) {
  using Pointer = decltype(torch::autograd::Edge::function);
  if constexpr (std::is_same_v<Pointer, std::shared_ptr<torch::autograd::Node>>) {
    // deleteNode is torch's, and there with such pointers alone.
    return std::shared_ptr<T>(new T(std::forward<Arguments>(arguments)...), [](T* node) { deleteNode(node); });
  } else {
    return c10::make_intrusive<T>(std::forward<Arguments>(arguments)...);
  }
}

template <typename T>
using NodePointer = decltype(make_node<T>());

template <typename T>
NodePointer<T> node_after(const Tensor& input) {
  auto node = make_node<T>();
  node->set_next_edges(torch::autograd::collect_next_edges(input));
  return node;
}

// Makes `result` raise when somebody differentiates it.
void refuse_derivative(Tensor& result, const char* op, edge_list&& edges) {
  const std::string message = std::string(op) + ": the compiled operator has no second derivative; use backend torch";
  torch::autograd::set_history(result, make_node<torch::autograd::Error>(message, std::move(edges)));
}

// A gradient that raises when somebody differentiates it.
Tensor once(Tensor result, const char* op, const Tensor& grad, const Tensor& input) {
  if (torch::autograd::compute_requires_grad(grad, input)) {
    refuse_derivative(result, op, torch::autograd::collect_next_edges(grad, input));
  }
  return result;
}

// Whether operators on `tensor` would go straight to the CPU's code: no mode, tracer, transform or wrapper looks on.
bool unobserved(const Tensor& tensor) {
  using c10::DispatchKey;
  static const c10::DispatchKeySet usual({DispatchKey::CPU, DispatchKey::AutogradCPU, DispatchKey::ADInplaceOrView,
                                          DispatchKey::BackendSelect, DispatchKey::AutocastCPU});
  const auto local = c10::impl::tls_local_dispatch_key_set();
  return usual.has_all((tensor.key_set() | local.included_) - local.excluded_);
}

// Whether nothing else holds `tensor`, its memory or a part in its history.
bool sole_owner(const Tensor& tensor) {
  return !tensor.requires_grad() && tensor.use_count() == 1 && tensor.storage().use_count() == 1;
}

struct LscMeanBackward : public torch::autograd::TraceableFunction {
  SavedVariable losses;
  double c_min = 0;
  bool inclusive = true;

  std::string name() const override { return "LscMeanBackward"; }
  void release_variables() override { losses.reset_data(); }
  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {Tensor()};
    return {mean_backward_op(grads[0], losses.unpack(), c_min, inclusive)};
  }
  void compiled_args(CompiledNodeArgs& args) const override {
    args.collect(losses, false);
    args.collect(c_min);
    args.collect(inclusive);
  }
  variable_list apply_with_saved(const variable_list& grads, SwapSavedVariables& saved) override {
    saved.before(losses);
    variable_list result = apply(variable_list(grads));
    saved.after(losses);
    return result;
  }
};

// The gradient is there since the forward, for an incoming number of 1.
struct LscCrossEntropyBackward : public torch::autograd::TraceableFunction {
  SavedVariable gradient;
  bool last = false;  // whether no other backward may come

  std::string name() const override { return "LscCrossEntropyBackward"; }
  void will_release_variables() override { last = true; }
  void release_variables() override { gradient.reset_data(); }
  variable_list apply(variable_list&& grads) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool gives_away = std::exchange(last, false);
    const Tensor& grad = grads[0];
    if (!grad.defined()) return {Tensor()};
    Tensor whole = gradient.unpack();
    if (at::GradMode::is_enabled()) {
      Tensor result = scale_op(whole, grad);
      edge_list edges = next_edges();
      for (auto& edge : torch::autograd::collect_next_edges(grad)) edges.push_back(std::move(edge));
      refuse_derivative(result, "lsc_cross_entropy", std::move(edges));
      return {result};
    }
    if (gives_away && whole.scalar_type() == grad.scalar_type() && unobserved(grad) && unobserved(whole)) {
      gradient.reset_data();
      if (sole_owner(whole)) {
        lsc_scale_in_place(whole, grad);
        return {std::move(whole)};
      }
    }
    return {scale_op(whole, grad)};
  }
  void compiled_args(CompiledNodeArgs& args) const override { args.collect(gradient, false); }
  variable_list apply_with_saved(const variable_list& grads, SwapSavedVariables& saved) override {
    saved.before(gradient);
    variable_list result = apply(variable_list(grads));
    saved.after(gradient);
    return result;
  }
};

// The backward of CUDA, which reads the logits again.
struct LscCrossEntropyRowsBackward : public torch::autograd::TraceableFunction {
  SavedVariable logits, targets, rows;

  std::string name() const override { return "LscCrossEntropyRowsBackward"; }
  void release_variables() override {
    logits.reset_data();
    targets.reset_data();
    rows.reset_data();
  }
  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {Tensor()};
    return {cross_entropy_backward_op(grads[0], logits.unpack(), targets.unpack(), rows.unpack())};
  }
  void compiled_args(CompiledNodeArgs& args) const override {
    args.collect(logits, false);
    args.collect(targets, false);
    args.collect(rows, false);
  }
  variable_list apply_with_saved(const variable_list& grads, SwapSavedVariables& saved) override {
    saved.before(logits);
    saved.before(targets);
    saved.before(rows);
    variable_list result = apply(variable_list(grads));
    saved.after(logits);
    saved.after(targets);
    saved.after(rows);
    return result;
  }
};

void expect_no_tangent(const char* op, const Tensor& input) {
  TORCH_CHECK_NOT_IMPLEMENTED(!input._fw_grad(/*level=*/0).defined(), op,
                              ": the compiled operator has no forward-mode derivative; use backend torch");
}

std::tuple<Tensor, Tensor> lsc_mean(const Tensor& losses, double c_min, bool inclusive) {
  expect_no_tangent("lsc_mean", losses);
  NodePointer<LscMeanBackward> node;
  if (torch::autograd::compute_requires_grad(losses)) {
    node = node_after<LscMeanBackward>(losses);
    node->losses = SavedVariable(losses, false);
    node->c_min = c_min;
    node->inclusive = inclusive;
  }
  auto [mean, kept] = [&] {
    const at::AutoDispatchBelowADInplaceOrView below;
    return mean_op(losses, c_min, inclusive);
  }();
  if (node) torch::autograd::set_history(mean, node);
  return {mean, kept};
}

Tensor lsc_mean_backward(const Tensor& grad, const Tensor& losses, double c_min, bool inclusive) {
  Tensor result = [&] {
    const at::AutoDispatchBelowADInplaceOrView below;
    return mean_backward_op(grad, losses, c_min, inclusive);
  }();
  return once(result, "lsc_mean", grad, losses);
}

// With `shows` the third result goes to the caller, and its derivative is a second derivative.
WithExtra cross_entropy_with_gradient(const Tensor& logits, const Tensor& targets, double c_min, bool inclusive,
                                      bool shows) {
  expect_no_tangent("lsc_cross_entropy", logits);
  NodePointer<LscCrossEntropyBackward> node;
  if (torch::autograd::compute_requires_grad(logits)) node = node_after<LscCrossEntropyBackward>(logits);
  auto result = [&] {
    const at::AutoDispatchBelowADInplaceOrView below;
    return cross_entropy_gradient_op(logits, targets, c_min, inclusive);
  }();
  if (node) {
    auto& [mean, kept, gradient] = result;
    torch::autograd::set_history(mean, node);
    if (shows) refuse_derivative(gradient, "lsc_cross_entropy", torch::autograd::collect_next_edges(logits));
    node->gradient = SavedVariable(gradient, false);
  }
  return result;
}

WithExtra lsc_cross_entropy_rows(const Tensor& logits, const Tensor& targets, double c_min, bool inclusive) {
  expect_no_tangent("lsc_cross_entropy", logits);
  NodePointer<LscCrossEntropyRowsBackward> node;
  if (torch::autograd::compute_requires_grad(logits)) {
    node = node_after<LscCrossEntropyRowsBackward>(logits);
    node->logits = SavedVariable(logits, false);
    node->targets = SavedVariable(targets, false);
  }
  auto result = [&] {
    const at::AutoDispatchBelowADInplaceOrView below;
    return cross_entropy_rows_op(logits, targets, c_min, inclusive);
  }();
  if (node) {
    torch::autograd::set_history(std::get<0>(result), node);
    node->rows = SavedVariable(std::get<2>(result), false);
  }
  return result;
}

std::tuple<Tensor, Tensor> lsc_cross_entropy(const Tensor& logits, const Tensor& targets, double c_min,
                                             bool inclusive) {
  if (torch::autograd::compute_requires_grad(logits)) {
    auto [mean, kept, extra] = logits.is_cuda() ? lsc_cross_entropy_rows(logits, targets, c_min, inclusive)
                                                : cross_entropy_with_gradient(logits, targets, c_min, inclusive, false);
    return {std::move(mean), std::move(kept)};
  }
  expect_no_tangent("lsc_cross_entropy", logits);
  const at::AutoDispatchBelowADInplaceOrView below;
  return cross_entropy_op(logits, targets, c_min, inclusive);
}

WithExtra lsc_cross_entropy_gradient(const Tensor& logits, const Tensor& targets, double c_min, bool inclusive) {
  return cross_entropy_with_gradient(logits, targets, c_min, inclusive, true);
}

Tensor lsc_scale(const Tensor& gradient, const Tensor& grad) {
  Tensor result = [&] {
    const at::AutoDispatchBelowADInplaceOrView below;
    return scale_op(gradient, grad);
  }();
  return once(result, "lsc_cross_entropy", grad, gradient);
}

Tensor lsc_cross_entropy_backward(const Tensor& grad, const Tensor& logits, const Tensor& targets, const Tensor& rows) {
  Tensor result = [&] {
    const at::AutoDispatchBelowADInplaceOrView below;
    return cross_entropy_backward_op(grad, logits, targets, rows);
  }();
  return once(result, "lsc_cross_entropy", grad, logits);
}

}  // namespace
}  // namespace buttress

TORCH_LIBRARY_IMPL(buttress, Autograd, library) {
  library.impl("lsc_mean", &buttress::lsc_mean);
  library.impl("lsc_mean_backward", &buttress::lsc_mean_backward);
  library.impl("lsc_cross_entropy", &buttress::lsc_cross_entropy);
  library.impl("lsc_cross_entropy_gradient", &buttress::lsc_cross_entropy_gradient);
  library.impl("lsc_scale", &buttress::lsc_scale);
  library.impl("lsc_cross_entropy_rows", &buttress::lsc_cross_entropy_rows);
  library.impl("lsc_cross_entropy_backward", &buttress::lsc_cross_entropy_backward);
}
