// The per-element median of n arrays on the CPU; no torch in here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "common/number.h"

namespace buttress {

// Everything about one median but the range of elements.
struct Job {
  Type type;
  int n;
  std::int64_t size;        // elements of all medians of a call: large results go past the caches
  const void* const* rows;  // n arrays
  void* out;
  int lower, upper;  // ranks; `upper` is written unless `mean`
  bool mean;
};

// Bytes of scratch, aligned to 64, that `median_elements` needs: below 96 KiB for up to 128 arrays.
std::size_t median_scratch(int n);

// Elements begin to end.
void median_elements(const Job& job, std::int64_t begin, std::int64_t end, void* scratch);

// Instruction sets that this processor runs, best first; and the one in use: the best, or the one that BUTTRESS_SIMD
// names (std::invalid_argument where it names none of them).
std::vector<std::string> median_levels();
std::string median_level();

}  // namespace buttress
