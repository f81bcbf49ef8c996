// The operators that perturb weights, on the CPU: the order of the passes, shared out among threads by blocks.
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "perturb/cpu.h"
#include "perturb/operators.h"

namespace buttress::perturbation {
namespace {

// Blocks that one task handles: enough to hide its start, few enough to share out.
constexpr std::int64_t kGrain = 4;

// Bytes of weights whose norms and update are done together where each has its own norm, so that the update finds them
// in the last-level cache.
constexpr std::int64_t kTogether = 4 << 20;

// body(item's number, range, block) for blocks begin to end, in parallel.
template <typename Body>
void each_block(const Arguments& a, Range blocks, Body body) {
  at::parallel_for(blocks.begin, blocks.end, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const int at = owner(a.items.data(), int(a.items.size()), block);
      const Item& item = a.items[std::size_t(at)];
      const std::int64_t start = (block - item.first) * kCpuBlock;
      body(at, Range{start, std::min(start + kCpuBlock, item.size)}, block);
    }
  });
}

Range all_blocks(const Arguments& a) { return {0, a.blocks}; }

// Items whose two passes are done together: all, or, by layer, few enough to stay in the cache.
std::vector<Range> groups(const Arguments& a, bool layer) {
  std::vector<Range> ranges;
  std::int64_t begin = 0, elements = 0;
  const auto n = std::int64_t(a.items.size());
  for (std::int64_t i = 0; i < n; ++i) {
    elements += a.items[std::size_t(i)].size;
    if (i + 1 == n || (layer && elements * 4 >= kTogether)) {
      ranges.push_back({begin, i + 1});
      begin = i + 1;
      elements = 0;
    }
  }
  return ranges;
}

Range blocks_of(const Arguments& a, Range group) {
  return {a.first_block(std::size_t(group.begin)), a.first_block(std::size_t(group.end))};
}

using Sums = std::vector<std::array<double, 3>>;

// For every item of a group, the sums of its blocks, added in their order.
Sums by_item(const Arguments& a, Range group, const Sums& partial) {
  Sums sums(std::size_t(group.end - group.begin), {0, 0, 0});
  for (std::int64_t i = group.begin; i < group.end; ++i) {
    for (std::int64_t b = a.first_block(std::size_t(i)); b < a.first_block(std::size_t(i) + 1); ++b) {
      for (std::size_t k = 0; k < 3; ++k) sums[std::size_t(i - group.begin)][k] += partial[std::size_t(b)][k];
    }
  }
  return sums;
}

// Every entry replaced by the sum of all.
void put_together(Sums& sums) {
  std::array<double, 3> all{};
  for (const auto& each : sums) {
    for (std::size_t k = 0; k < 3; ++k) all[k] += each[k];
  }
  std::fill(sums.begin(), sums.end(), all);
}

// The state of RWP: norms [n] of the origin, and factors [n] of the total.
struct State {
  double *norms, *scales;
  State(const at::Tensor& state, std::size_t n) : norms(state.mutable_data_ptr<double>()), scales(norms + n) {}
};

bool some(const std::optional<at::Tensor>& kept) { return !kept || *kept->const_data_ptr<std::int64_t>() > 0; }

// sums(item, its number, range, sums) is the first pass; then the norms of the origin are looked up, or `measured`.
template <typename FirstPass>
void rwp(const Arguments& a, State state, double gamma, bool layer, bool move, bool measured, FirstPass first_pass) {
  Sums partial(std::size_t(a.blocks), {0, 0, 0});
  for (const Range group : groups(a, layer)) {
    each_block(a, blocks_of(a, group), [&](int at, Range range, std::int64_t block) {
      first_pass(a.items[std::size_t(at)], at, range, partial[std::size_t(block)].data());
    });
    Sums sums = by_item(a, group, partial);
    double *const norms = state.norms + group.begin, *const scales = state.scales + group.begin;
    for (std::size_t i = 0; i < sums.size(); ++i) {
      if (measured) norms[i] = std::sqrt(sums[i][0]);
      sums[i][0] = norms[i] * norms[i];
    }
    if (!layer) put_together(sums);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      scales[i] = relative_scale(gamma, std::sqrt(sums[i][0]), std::sqrt(sums[i][1]));
    }
    if (!move) continue;
    each_block(a, blocks_of(a, group), [&](int at, Range range, std::int64_t) {
      passes().rwp(a.items[std::size_t(at)], range, {.all = state.scales[at]});
    });
  }
}

// Returns the length of the total after the step.
template <typename FirstPass, typename LastPass>
double amp(const Arguments& a, const AmpSettings& settings, FirstPass first_pass, LastPass last_pass) {
  Sums partial(std::size_t(a.blocks), {0, 0, 0});
  each_block(a, all_blocks(a), [&](int at, Range range, std::int64_t block) {
    first_pass(a.items[std::size_t(at)], range, partial[std::size_t(block)].data());
  });
  const Sums own = by_item(a, {0, std::int64_t(a.items.size())}, partial);
  Sums all = own;
  put_together(all);
  const double add = all.empty() ? 0 : step_size(settings.xi, settings.clip, all[0][0]);
  std::vector<double> shrink(own.size());
  double square = 0;
  for (std::size_t i = 0; i < own.size(); ++i) {
    const auto& s = settings.together ? all[i] : own[i];
    shrink[i] = into_ball(settings.delta, stepped_norm({s[0], s[1], s[2]}, add));
    const double length = shrink[i] * stepped_norm({own[i][0], own[i][1], own[i][2]}, add);
    square += length * length;
  }
  each_block(a, all_blocks(a), [&](int at, Range range, std::int64_t) {
    last_pass(a.items[std::size_t(at)], range, {.add = add, .all = shrink[std::size_t(at)]});
  });
  return std::sqrt(square);
}

struct Cpu {
  static constexpr std::int64_t kBlock = kCpuBlock;

  static void perturb(const Arguments& a, double gamma, bool layer) {
    Sums partial(std::size_t(a.blocks), {0, 0, 0});
    for (const Range group : groups(a, layer)) {
      each_block(a, blocks_of(a, group), [&](int at, Range range, std::int64_t block) {
        passes().perturb_sums(a.items[std::size_t(at)], range, partial[std::size_t(block)].data());
      });
      Sums sums = by_item(a, group, partial);
      if (!layer) put_together(sums);
      each_block(a, blocks_of(a, group), [&](int at, Range range, std::int64_t) {
        const auto& s = sums[std::size_t(at - group.begin)];
        const double scale = relative_scale(gamma, std::sqrt(s[0]), std::sqrt(s[1]));
        passes().perturb(a.items[std::size_t(at)], range, {.add = scale});
      });
    }
  }

  static void restore(const Arguments& a) {
    each_block(a, all_blocks(a),
               [&](int at, Range range, std::int64_t) { passes().restore(a.items[std::size_t(at)], range); });
  }

  static void unperturb(const Arguments& a) {
    each_block(a, all_blocks(a),
               [&](int at, Range range, std::int64_t) { passes().unperturb(a.items[std::size_t(at)], range); });
  }

  static void rwp_first_step(const Arguments& a, const at::Tensor& state, double gamma, bool layer,
                             const std::optional<at::Tensor>& kept) {
    const bool move = some(kept);
    rwp(a, State(state, a.items.size()), gamma, layer, move, true,
        [move](const Item& item, int, Range range, double* sums) {
          passes().rwp_first_sums(item, range, {.add = move ? 1.0 : 0.0}, sums);
        });
  }

  static void rwp_step(const Arguments& a, const at::Tensor& state, double gamma, bool layer, bool rescale,
                       const std::optional<at::Tensor>& kept) {
    if (!some(kept)) return;
    const State known(state, a.items.size());
    rwp(a, known, gamma, layer, true, false, [&](const Item& item, int at, Range range, double* sums) {
      passes().rwp_sums(item, range, {.keep = rescale ? known.scales[at] : 1.0}, sums);
    });
  }

  static void amp_first_step(const Arguments& a, at::Tensor& length, const AmpSettings& settings) {
    *length.mutable_data_ptr<double>() = amp(a, settings, passes().amp_first_sums, passes().amp_first);
  }

  static void amp_step(const Arguments& a, at::Tensor& length, const AmpSettings& settings) {
    *length.mutable_data_ptr<double>() = amp(a, settings, passes().amp_sums, passes().amp);
  }
};

}  // namespace
}  // namespace buttress::perturbation

TORCH_LIBRARY_IMPL(buttress, CPU, library) { buttress::perturbation::implement<buttress::perturbation::Cpu>(library); }
