// Weight perturbations on the CPU, a range of one item's elements at a time; no torch in here.
#pragma once

#include <cstdint>

#include "perturb/update.h"

namespace buttress::perturbation {

// Elements of a block. Sums are taken by block and added in the blocks' order, whatever the number of threads.
constexpr std::int64_t kCpuBlock = 1 << 14;

// Elements begin to end of one item.
struct Range {
  std::int64_t begin, end;
};

// Factors and switches of the passes, each with those that it needs.
struct Factors {
  double add = 1;   // of the direction
  double keep = 1;  // of the total before
  double all = 1;   // of the sum of both
};

// Each pass of each operation, compiled for one instruction set. `sums` holds squares or products of the range.
struct Passes {
  // sums = (||weight||^2, ||direction||^2)
  void (*perturb_sums)(const Item&, Range, double* sums);
  // origin = weight, where there is one; weight += add * direction
  void (*perturb)(const Item&, Range, const Factors&);
  // weight = origin
  void (*restore)(const Item&, Range);
  // weight as `unperturbed` says, `total` being the perturbed weight
  void (*unperturb)(const Item&, Range);
  // origin = weight and total = direction, or 0 where add is 0; sums = (||weight||^2, ||total||^2)
  void (*rwp_first_sums)(const Item&, Range, const Factors&, double* sums);
  // total = keep * total + direction; sums = (unused, ||total||^2)
  void (*rwp_sums)(const Item&, Range, const Factors&, double* sums);
  // weight = origin + all * total
  void (*rwp)(const Item&, Range, const Factors&);
  // sums = (||direction||^2, 0, 0): the total is 0 before the first step
  void (*amp_first_sums)(const Item&, Range, double* sums);
  // sums = (||direction||^2, total * direction, ||total||^2)
  void (*amp_sums)(const Item&, Range, double* sums);
  // origin = weight; total = all * add * direction; weight = origin + total
  void (*amp_first)(const Item&, Range, const Factors&);
  // total = all * (total + add * direction); weight = origin + total
  void (*amp)(const Item&, Range, const Factors&);
};

// The passes for the best instruction set that this processor has.
const Passes& passes();

}  // namespace buttress::perturbation
