// The median on the CPU: of the instruction sets that it is compiled for, the best that the processor runs.
#include "median/cpu.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "median/levels.h"

namespace buttress {
namespace {

// The levels that are compiled in and run on this processor, best first.
std::vector<Level> levels() {
  std::vector<Level> supported;
#ifdef BUTTRESS_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    supported.push_back(avx512);
  if (__builtin_cpu_supports("avx2")) supported.push_back(avx2);
#endif
  supported.push_back(portable);
  return supported;
}

Level choose() {
  const std::vector<Level> all = levels();
  const char* wanted = std::getenv("BUTTRESS_SIMD");
  if (wanted == nullptr || *wanted == 0) return all.front();
  std::string names;
  for (const Level& level : all) {
    if (std::strcmp(wanted, level.name) == 0) return level;
    names += (names.empty() ? "" : ", ") + std::string(level.name);
  }
  throw std::invalid_argument("BUTTRESS_SIMD: expected one of " + names + " (what this processor runs), got '" +
                              wanted + "'");
}

const Level& chosen() {
  static const Level level = choose();
  return level;
}

}  // namespace

std::size_t median_scratch(int n) { return chosen().scratch(n); }

void median_elements(const Job& job, std::int64_t begin, std::int64_t end, void* scratch) {
  chosen().run(job, begin, end, scratch);
}

std::vector<std::string> median_levels() {
  std::vector<std::string> names;
  for (const Level& level : levels()) names.emplace_back(level.name);
  return names;
}

std::string median_level() { return chosen().name; }

}  // namespace buttress
