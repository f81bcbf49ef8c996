#include "files/read.h"

#include <unistd.h>

#include <cerrno>

namespace buttress {
namespace {

bool filled(Range range) {
  while (range.bytes > 0) {
    const ssize_t got = pread(range.file, range.to, range.bytes, off_t(range.offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    range.to = static_cast<char*>(range.to) + got;
    range.bytes -= std::size_t(got);
    range.offset += got;
  }
  return true;
}

}  // namespace

std::size_t read_ranges(const std::vector<Range>& ranges) {
  std::size_t count = 0;
  while (count < ranges.size() && filled(ranges[count])) ++count;
  return count;
}

}  // namespace buttress
