// Checks and layouts; nothing is computed here.
#include "perturb/arguments.h"

#include <ATen/ops/empty_like.h>

namespace buttress::perturbation {
namespace {

Type type_of(const char* name, const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return Type::float32;
    case at::kDouble: return Type::float64;
    case at::kHalf: return Type::float16;
    case at::kBFloat16: return Type::bfloat16;
    default: TORCH_CHECK(false, name, ": expected a floating dtype, got ", tensor.scalar_type());
  }
}

void check(const char* name, const char* list, const List& given, at::TensorList weights) {
  TORCH_CHECK(given.tensors.size() == weights.size(), name, ": expected as many ", list, " as weights (",
              weights.size(), "), got ", given.tensors.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const at::Tensor &tensor = given.tensors[i], &weight = weights[i];
    TORCH_CHECK(tensor.sizes() == weight.sizes() && tensor.scalar_type() == weight.scalar_type() &&
                    tensor.device() == weights[0].device(),
                name, ": ", list, "[", i, "] differs in shape, dtype or device from weights[", i, "]");
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

Arguments::Arguments(const char* name, std::int64_t block, List weights, List directions, List origin, List total) {
  if (weights.tensors.empty()) return;
  device = weights.tensors[0].device();
  check(name, "weights", weights, weights.tensors);
  const bool with_directions = !directions.tensors.empty(), with_origin = !origin.tensors.empty(),
             with_total = !total.tensors.empty();
  if (with_directions) check(name, "directions", directions, weights.tensors);
  if (with_origin) check(name, "saved tensors", origin, weights.tensors);
  if (with_total) check(name, "accumulated tensors", total, weights.tensors);
  items.reserve(weights.tensors.size());
  for (std::size_t i = 0; i < weights.tensors.size(); ++i) {
    const at::Tensor& weight = weights.tensors[i];
    const Type type = type_of(name, weight);
    const at::Tensor like = weight.is_non_overlapping_and_dense()
                                ? weight
                                : at::empty_like(weight, at::MemoryFormat::Contiguous);
    items.push_back({type, weight.numel(), blocks, flat(weight, like, weights.written),
                     with_directions ? flat(directions.tensors[i], like, false) : nullptr,
                     with_origin ? flat(origin.tensors[i], like, origin.written) : nullptr,
                     with_total ? flat(total.tensors[i], like, total.written) : nullptr});
    blocks += weight.numel() <= block ? 1 : (weight.numel() + block - 1) / block;  // an empty one has a block too
  }
}

void Arguments::finish() {
  for (Copy& copy : written_) copy.original.copy_(copy.dense);
}

void* Arguments::flat(const at::Tensor& tensor, const at::Tensor& like, bool written) {
  if (tensor.is_non_overlapping_and_dense() && same_layout(tensor, like)) {
    return written ? tensor.mutable_data_ptr() : const_cast<void*>(tensor.const_data_ptr());
  }
  const at::Tensor dense = at::empty_like(like).copy_(tensor);
  if (written) {
    written_.push_back({tensor, dense});
  } else {
    borrowed_.push_back(dense);
  }
  return dense.mutable_data_ptr();
}

}  // namespace buttress::perturbation
