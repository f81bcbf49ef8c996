// The per-element median of n arrays on the CPU; no torch in here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "common/type.h"
#include "median/network.h"

namespace buttress {

// Everything about one median but the range of elements.
struct Job {
  Type type;
  int n;
  const void* const* rows;  // n arrays
  void* out;
  int lower, upper;  // ranks; `upper` is written unless `mean`
  bool mean;
  const Comparator* network;  // after groups have been sorted in registers
  std::size_t length;
  const Comparator* whole;  // with nothing sorted
  std::size_t whole_length;
};

// The networks of a job, kept alive by it.
struct Networks {
  std::vector<Comparator> grouped, whole;
};
Networks median_networks(int n, int lower, int upper);

// Lanes that are sorted together in the cache.
int median_width(Type type, int n);

// Bytes of scratch, aligned to 64, that `median_elements` needs.
std::size_t median_scratch(Type type, int n);

// Elements begin to end.
void median_elements(const Job& job, std::int64_t begin, std::int64_t end, void* scratch);

// Instruction sets that are compiled in, and the one in use.
std::string median_simd();

}  // namespace buttress
