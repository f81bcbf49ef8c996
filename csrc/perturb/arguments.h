// Lists of tensors, checked, as the items that the passes take.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <vector>

#include "perturb/update.h"

namespace buttress::perturbation {

// One list argument, by its name in messages; null: not given. A `written` one is written back where it had to be
// copied.
struct List {
  const char* name = nullptr;
  at::TensorList tensors;
  bool written = false;
};

// Raises at::ValueError, naming list and index, unless all lists fit the first one, `weights`, and what is written
// shares memory with nothing. With `numbers` the dtypes are the compiled ones.
void check_lists(const char* who, std::initializer_list<List> lists, bool numbers);

// The tensors of all lists as flat memory. Dense tensors laid out like their weight are taken as they lie; what is not
// is copied, and written back by `finish`. Weights of other dtypes than the compiled ones are left out.
class Arguments {
 public:
  // `block`: elements of a block.
  Arguments(std::int64_t block, List weights, List directions, List origin, List total);

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
  // The address of a tensor's elements, laid out like `like`; null for a list that is not given.
  void* flat(const List& list, std::size_t index, const at::Tensor& like);

  std::vector<Copy> written_;         // to be written back
  std::vector<at::Tensor> borrowed_;  // copies that are only read, kept alive
};

}  // namespace buttress::perturbation
