// The per-element median of n arrays on the CPU; no torch in here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/type.h"

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

// Bytes of scratch, aligned to 64, that `median_elements` needs: below 300 KiB for up to 128 arrays.
std::size_t median_scratch(int n);

// Elements begin to end.
void median_elements(const Job& job, std::int64_t begin, std::int64_t end, void* scratch);

// Instruction sets that are compiled in, and the one in use: the best that the processor has, or BUTTRESS_SIMD.
std::string median_simd();

}  // namespace buttress
