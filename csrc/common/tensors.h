// Describe tensors for error messages; refuse lists that do not fit, and arguments that overlap in memory. The checks
// are those of the pure-torch twins (kernels/reference/checks.py), with the same messages.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "common/number.h"

namespace buttress {

// "shape (3, 4), torch.float32 on cpu", as Python writes it.
std::string facts(const at::Tensor& tensor);

// A number as Python writes it: 0.0, 1e-07, nan.
std::string text(double number);

// The dtype of a tensor, if it is one of the compiled ones.
std::optional<Type> compiled_type(const at::Tensor& tensor);

// The dtype of a tensor that has been checked.
Type type_of(const at::Tensor& tensor);

// Raises unless the dtype is one of the compiled ones; `name` as in "perturb_: weights[1]".
void expect_compiled_type(const std::string& name, const at::Tensor& tensor);

// Whether shape, dtype and device are those of `other`.
bool fits(const at::Tensor& tensor, const at::Tensor& other);

// Collects tensors, then refuses those that share memory with one that is written: one pass over all, by address.
class Memory {
 public:
  explicit Memory(std::size_t tensors) { spans_.reserve(tensors); }
  // `index`: the place in the list `name`, or -1 for a tensor that is not in one. With `versions` the list is one of
  // lists, flat: "lists[k][i]". Names must outlive this object.
  void add(const char* name, const at::Tensor& tensor, bool written, std::int64_t index = -1,
           std::int64_t versions = 0);
  void expect_apart(const char* who);

 private:
  struct Span {
    std::uintptr_t begin, end;  // first byte, and the one after the last
    const char* name;
    std::int64_t index, versions;
    bool written;
    std::string label() const;
  };
  std::vector<Span> spans_;
};

}  // namespace buttress
