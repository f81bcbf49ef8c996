// Ranges of files read one after another, without Python in between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace buttress {

struct Range {
  void* to;
  std::size_t bytes;
  int file;  // a descriptor
  std::int64_t offset;
};

// How many were filled, up to the first one that could not be: the file is too short, or the system refuses.
std::size_t read_ranges(const std::vector<Range>& ranges);

}  // namespace buttress
