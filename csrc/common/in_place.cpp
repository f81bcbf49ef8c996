// Reads which arguments are written from the operator's schema.
#include "common/in_place.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <vector>

namespace buttress {
namespace {

std::vector<at::Tensor> tensors_of(const c10::IValue& value) {
  if (value.isTensor() && value.toTensor().defined()) return {value.toTensor()};
  if (value.isTensorList()) return value.toTensorVector();
  return {};
}

}  // namespace

void in_place_without_gradient(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const auto& arguments = op.schema().arguments();
  std::vector<at::Tensor> written;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto* alias = arguments[i].alias_info();
    for (const at::Tensor& tensor : tensors_of(torch::jit::peek(*stack, i, arguments.size()))) {
      TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled() || !tensor.requires_grad(), op.schema().name(),
                                  " has no derivative: ", arguments[i].name(),
                                  " require a gradient; call it under torch.no_grad()");
      if (alias != nullptr && alias->isWrite() && !tensor.is_inference()) written.push_back(tensor);
    }
  }
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    op.redispatchBoxed(keys & c10::after_ADInplaceOrView_keyset, stack);
  }
  for (const at::Tensor& tensor : written) tensor.unsafeGetTensorImpl()->bump_version();
}

}  // namespace buttress
