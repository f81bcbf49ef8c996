// Lists of tensors as the items that the passes take.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "perturb/update.h"

namespace buttress::perturbation {

// One list argument; `written` ones are written back where they had to be copied. Empty: not given.
struct List {
  at::TensorList tensors;
  bool written = false;
};

// The tensors of all lists as flat memory. Dense tensors laid out like their weight are taken as they lie; what is not
// is copied, and written back by `finish`.
class Arguments {
 public:
  // `block`: elements of a block. Raises where a list's length, or a tensor's shape, dtype or device is another than
  // the weights'; names operator, list and index.
  Arguments(const char* name, std::int64_t block, List weights, List directions, List origin, List total);

  std::vector<Item> items;
  std::int64_t blocks = 0;  // of all items
  at::Device device = at::kCPU;

  // Blocks of the items begin to end.
  std::int64_t first_block(std::size_t item) const { return item < items.size() ? items[item].first : blocks; }

  void finish();

 private:
  struct Copy {
    at::Tensor original, dense;
  };
  // The address of a tensor's elements, laid out like `like`.
  void* flat(const at::Tensor& tensor, const at::Tensor& like, bool written);

  std::vector<Copy> written_;         // to be written back
  std::vector<at::Tensor> borrowed_;  // copies that are only read, kept alive
};

}  // namespace buttress::perturbation
