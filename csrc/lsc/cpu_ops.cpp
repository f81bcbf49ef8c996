// The operators under the loss-stationary condition on the CPU: examples shared out among threads.
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

#include "lsc/operators.h"

namespace buttress {
namespace {

// Logits that one task handles: enough to hide its start, few enough to share out.
constexpr std::int64_t kGrain = 1 << 15;

// Calls work(begin, end) on ranges of examples that are whole tiles: the numbers do not depend on the number of
// threads.
template <typename Work>
void over_tiles(std::int64_t batch, std::int64_t classes, const Work& work) {
  const std::int64_t tile = lsc_tile(classes), tiles = (batch + tile - 1) / tile;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / (tile * classes));
  at::parallel_for(0, tiles, grain,
                   [&](std::int64_t begin, std::int64_t end) { work(begin * tile, std::min(end * tile, batch)); });
}

struct Cpu {
  struct Guard {
    explicit Guard(at::Device) {}
  };

  // Raises at::ValueError where a target is no class.
  template <typename T>
  static void losses(T* losses, LscRow<T>* rows, const LscLogits<T>& logits, const LscCondition& condition) {
    std::atomic<std::int64_t> first{logits.batch};  // example whose target is no class
    over_tiles(logits.batch, logits.classes, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t wrong = lsc_losses(logits, condition, begin, end, losses, rows);
      std::int64_t known = first.load();
      while (wrong >= 0 && wrong < known && !first.compare_exchange_weak(known, wrong)) {
      }
    });
    const std::int64_t wrong = first.load();
    if (wrong == logits.batch) return;
    TORCH_CHECK_VALUE(false, "lsc_cross_entropy: targets[", wrong, "] is ", logits.targets[wrong],
                      ", expected a class from 0 to ", logits.classes - 1);
  }

  template <typename T>
  static void gradients(T* out, const T* grad, const LscLogits<T>& logits, const LscRow<T>* rows) {
    over_tiles(logits.batch, logits.classes, [&](std::int64_t begin, std::int64_t end) {
      lsc_gradients(logits, rows, *grad / T(logits.batch), begin, end, out);
    });
  }

  template <typename T>
  static void mean(T* mean, std::int64_t* kept, const T* losses, const LscRow<T>*, std::int64_t n,
                   const LscCondition& condition) {
    const LscSum sum = lsc_sum(losses, n, condition);
    *mean = T(sum.total / double(std::max<std::int64_t>(n, 1)));
    *kept = sum.kept;
  }

  template <typename T>
  static void mask(T* out, const T* grad, const T* losses, std::int64_t n, const LscCondition& condition) {
    lsc_mask(losses, n, condition, *grad / T(n), out);
  }
};

}  // namespace
}  // namespace buttress

TORCH_LIBRARY_IMPL(buttress, CPU, library) { buttress::implement_lsc<buttress::Cpu>(library); }
