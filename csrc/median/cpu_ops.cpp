// The median's operators on the CPU: all tensors as one range of elements, which threads share out.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "common/tensors.h"
#include "median/cpu.h"
#include "median/operators.h"

namespace buttress {
namespace {

// Elements that one task handles: enough to hide its start, few enough to share out.
constexpr std::int64_t kGrain = 1 << 15;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct Cpu {
  static void median(at::TensorList outs, at::TensorList rows, const Ranks& ranks) {
    std::vector<const void*> pointers;
    for (const at::Tensor& row : rows) pointers.push_back(row.const_data_ptr());
    std::vector<Job> jobs;
    std::vector<std::int64_t> ends;  // of each tensor within the range
    std::int64_t size = 0;
    for (const at::Tensor& out : outs) size += out.numel();
    for (std::size_t k = 0; k < outs.size(); ++k) {
      jobs.push_back({type_of(outs[k]), int(ranks.n), size, pointers.data() + k * std::size_t(ranks.n),
                      outs[k].mutable_data_ptr(), ranks.lower, ranks.upper, ranks.mean});
      ends.push_back((ends.empty() ? 0 : ends.back()) + outs[k].numel());
    }
    const std::size_t scratch_size = (median_scratch(int(ranks.n)) + 63) / 64 * 64;
    at::parallel_for(0, size, kGrain, [&](std::int64_t begin, std::int64_t end) {
      const std::unique_ptr<void, Free> scratch(std::aligned_alloc(64, scratch_size));
      auto k = std::size_t(std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin());
      for (; begin < end; ++k) {
        const std::int64_t start = k == 0 ? 0 : ends[k - 1], stop = std::min(end, ends[k]);
        median_elements(jobs[k], begin - start, stop - start, scratch.get());
        begin = stop;
      }
    });
  }
};

}  // namespace
}  // namespace buttress

TORCH_LIBRARY_IMPL(buttress, CPU, library) { buttress::implement_median<buttress::Cpu>(library); }
