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
  double add = 1;      // of the direction
  double keep = 1;     // of what was accumulated before
  double all = 1;      // of the sum of both
  bool begin = false;  // nothing was accumulated before, and the origin is the weight
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
  // total = keep * total + direction; sums = (unused, ||total||^2). begin: origin = weight and total = direction, or 0
  // where add is 0; sums = (||weight||^2, ||total||^2).
  void (*accumulate_sums)(const Item&, Range, const Factors&, double* sums);
  // weight = origin + all * total
  void (*accumulate)(const Item&, Range, const Factors&);
  // sums = (||direction||^2, total * direction, ||total||^2). begin: total is 0.
  void (*ascend_sums)(const Item&, Range, const Factors&, double* sums);
  // total = all * (total + add * direction); weight = origin + total. begin: origin = weight first.
  void (*ascend)(const Item&, Range, const Factors&);
};

// Those of the best instruction set that this processor has.
const Passes& passes();

}  // namespace buttress::perturbation
