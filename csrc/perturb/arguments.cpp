// Checks and layouts; nothing is computed here.
#include "perturb/arguments.h"

#include <ATen/ops/empty_like.h>

#include "common/tensors.h"

namespace buttress::perturbation {
namespace {

std::string indexed(const char* name, std::size_t index) {
  return std::string(name) + "[" + std::to_string(index) + "]";
}

void check_weights(const char* who, at::TensorList weights, bool numbers) {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (numbers && !compiled_type(weights[i]))
      expect_compiled_type(std::string(who) + ": " + indexed("weights", i), weights[i]);
    TORCH_CHECK_VALUE(weights[i].device() == weights[0].device(), who, ": weights[", i, "] is on ", weights[i].device(),
                      ", expected all on ", weights[0].device());
  }
}

void check_like(const char* who, const List& list, at::TensorList weights) {
  TORCH_CHECK_VALUE(list.tensors.size() == weights.size(), who, ": expected as many ", list.name, " as weights (",
                    weights.size(), "), got ", list.tensors.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    TORCH_CHECK_VALUE(fits(list.tensors[i], weights[i]), who, ": ", indexed(list.name, i), " has ",
                      facts(list.tensors[i]), ", expected ", facts(weights[i]), " as weights[", i, "]");
  }
}

// Whether two dense tensors of one shape put equal elements at equal offsets; the stride of a dimension of size 1 says
// nothing.
bool same_layout(const at::Tensor& a, const at::Tensor& b) {
  for (std::int64_t d = 0; d < a.dim(); ++d) {
    if (a.size(d) != 1 && a.stride(d) != b.stride(d)) return false;
  }
  return true;
}

}  // namespace

void check_lists(const char* who, std::initializer_list<List> lists, bool numbers) {
  const at::TensorList weights = lists.begin()->tensors;
  check_weights(who, weights, numbers);
  Memory memory(lists.size() * weights.size());
  for (const List& list : lists) {
    if (list.name == nullptr) continue;
    check_like(who, list, weights);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      memory.add(list.name, list.tensors[i], list.written, std::int64_t(i));
    }
  }
  memory.expect_apart(who);
}

Arguments::Arguments(std::int64_t block, List weights, List directions, List origin, List total) {
  if (weights.tensors.empty()) return;
  device = weights.tensors[0].device();
  items.reserve(weights.tensors.size());
  for (std::size_t i = 0; i < weights.tensors.size(); ++i) {
    const at::Tensor& weight = weights.tensors[i];
    const auto type = compiled_type(weight);
    if (!type) continue;
    const at::Tensor like =
        weight.is_non_overlapping_and_dense() ? weight : at::empty_like(weight, at::MemoryFormat::Contiguous);
    items.push_back({*type, weight.numel(), blocks, flat(weights, i, like), flat(directions, i, like),
                     flat(origin, i, like), flat(total, i, like)});
    blocks += weight.numel() <= block ? 1 : (weight.numel() + block - 1) / block;  // an empty one has a block too
  }
}

void Arguments::finish() {
  for (Copy& copy : written_) copy.original.copy_(copy.dense);
}

void* Arguments::flat(const List& list, std::size_t index, const at::Tensor& like) {
  if (list.name == nullptr) return nullptr;
  const at::Tensor& tensor = list.tensors[index];
  if (tensor.is_non_overlapping_and_dense() && same_layout(tensor, like)) {
    return list.written ? tensor.mutable_data_ptr() : const_cast<void*>(tensor.const_data_ptr());
  }
  const at::Tensor dense = at::empty_like(like).copy_(tensor);
  if (list.written) {
    written_.push_back({tensor, dense});
  } else {
    borrowed_.push_back(dense);
  }
  return dense.mutable_data_ptr();
}

}  // namespace buttress::perturbation
