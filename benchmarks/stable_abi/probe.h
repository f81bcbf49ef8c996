// What the operators' checks read of every tensor, and of nothing else: both probes do the same work.
#pragma once

#include <cstdint>

namespace probe {

template <typename Tensor>
std::int64_t looked_at(const Tensor& tensor) {
  std::int64_t seen = std::int64_t(tensor.scalar_type()) + tensor.numel() + std::int64_t(tensor.device().index());
  for (const std::int64_t size : tensor.sizes()) seen += size;
  for (const std::int64_t stride : tensor.strides()) seen += stride;
  return seen + std::int64_t(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()));
}

template <typename List>
std::int64_t all_looked_at(const List& tensors) {
  std::int64_t seen = 0;
  for (const auto& tensor : tensors) seen += looked_at(tensor);
  return seen;
}

}  // namespace probe
