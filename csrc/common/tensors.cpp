#include "common/tensors.h"

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <charconv>
#include <tuple>

namespace buttress {

std::string facts(const at::Tensor& tensor) {
  std::string shape;
  for (const std::int64_t size : tensor.sizes()) shape += (shape.empty() ? "" : ", ") + std::to_string(size);
  if (tensor.dim() == 1) shape += ",";
  const std::string dtype(c10::getDtypeNames(tensor.scalar_type()).first);  // a string_view since torch 2.15 at the latest
  return "shape (" + shape + "), torch." + dtype + " on " + tensor.device().str();
}

std::string text(double number) {
  if (number != number) return "nan";
  char buffer[32];
  std::string digits(buffer, std::to_chars(buffer, buffer + sizeof buffer, number).ptr);
  return digits.find_first_not_of("-0123456789") == std::string::npos ? digits + ".0" : digits;
}

std::optional<Type> compiled_type(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return Type::float32;
    case at::kDouble: return Type::float64;
    case at::kHalf: return Type::float16;
    case at::kBFloat16: return Type::bfloat16;
    default: return std::nullopt;
  }
}

Type type_of(const at::Tensor& tensor) { return compiled_type(tensor).value(); }

void expect_compiled_type(const std::string& name, const at::Tensor& tensor) {
  TORCH_CHECK_VALUE(compiled_type(tensor).has_value(), name, " has dtype torch.",
                    c10::getDtypeNames(tensor.scalar_type()).first, ", expected float32, float64, float16 or bfloat16");
}

bool fits(const at::Tensor& tensor, const at::Tensor& other) {
  return tensor.sizes() == other.sizes() && tensor.scalar_type() == other.scalar_type() &&
         tensor.device() == other.device();
}

void Memory::add(const char* name, const at::Tensor& tensor, bool written, std::int64_t index, std::int64_t versions) {
  if (tensor.numel() == 0) return;
  std::int64_t last = tensor.numel() - 1;
  if (!tensor.is_contiguous()) {
    last = 0;
    for (std::int64_t d = 0; d < tensor.dim(); ++d) last += (tensor.size(d) - 1) * tensor.stride(d);
  }
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr());
  spans_.push_back({begin, begin + std::uintptr_t(last + 1) * tensor.element_size(), name, index, versions, written});
}

// In the order of their begins, a span overlaps an earlier one where it begins before the furthest end so far. Two such
// ends are kept, because tensors that are only read may share memory with one another.
void Memory::expect_apart(const char* who) {
  std::stable_sort(spans_.begin(), spans_.end(),
                   [](const Span& a, const Span& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  const Span* furthest[2] = {nullptr, nullptr};  // of those that are read, of those that are written
  for (const Span& span : spans_) {
    for (const Span* other : {furthest[1], furthest[0]}) {
      if (other == nullptr || span.begin >= other->end || !(span.written || other->written)) continue;
      const Span &first = span.written ? span : *other, &second = span.written ? *other : span;
      TORCH_CHECK_VALUE(false, who, ": ", first.label(), " overlaps ", second.label(),
                        " in memory; give it memory of its own");
    }
    const Span*& end = furthest[span.written];
    if (end == nullptr || end->end < span.end) end = &span;
  }
}

std::string Memory::Span::label() const {
  const std::string list = name;
  if (index < 0) return list;
  if (versions == 0) return list + "[" + std::to_string(index) + "]";
  return list + "[" + std::to_string(index / versions) + "][" + std::to_string(index % versions) + "]";
}

}  // namespace buttress
