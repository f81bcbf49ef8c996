// Autograd for operators that write into their arguments and have no gradient.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

namespace buttress {

// The Autograd kernel of such an operator: raises where a gradient would be expected of it, and counts the writes, so
// that autograd notices a tensor that was saved for backward and has changed since. Register it for the key Autograd
// with torch::CppFunction::makeFromBoxedFunction.
void in_place_without_gradient(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

}  // namespace buttress
