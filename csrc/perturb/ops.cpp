// buttress::perturb_, restore_, unperturb_, accumulate_ and ascend_ as torch operators: schemas, the order of the
// passes on the CPU, and no gradient.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "common/in_place.h"
#include "perturb/arguments.h"
#include "perturb/cpu.h"

#ifdef BUTTRESS_WITH_CUDA
#include "perturb/launch.h"
#endif

namespace buttress::perturbation {
namespace {

// Blocks that one task handles: enough to hide its start, few enough to share out.
constexpr std::int64_t kGrain = 4;

// Bytes of weights whose norms and update are done together where each has its own norm, so that the update finds them
// in the last-level cache.
constexpr std::int64_t kTogether = 4 << 20;

bool by_layer(const char* name, c10::string_view norm) {
  TORCH_CHECK(norm == "layer" || norm == "global", name, ": norm: expected layer or global");
  return norm == "layer";
}

void check_length(const char* name, const char* what, double value) {
  TORCH_CHECK(value >= 0 && std::isfinite(value), name, ": ", what, ": expected a finite number >= 0, got ", value);
}

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
  std::vector<Range> found;
  std::int64_t begin = 0, elements = 0;
  const auto n = std::int64_t(a.items.size());
  for (std::int64_t i = 0; i < n; ++i) {
    elements += a.items[std::size_t(i)].size;
    if (i + 1 == n || (layer && elements * 4 >= kTogether)) {
      found.push_back({begin, i + 1});
      begin = i + 1;
      elements = 0;
    }
  }
  return found;
}

Range blocks_of(const Arguments& a, Range group) {
  return {a.first_block(std::size_t(group.begin)), a.first_block(std::size_t(group.end))};
}

using Sums = std::vector<std::array<double, 3>>;

// Of every item of a group, the blocks' sums added in their order.
Sums by_item(const Arguments& a, Range group, const Sums& partial) {
  Sums found(std::size_t(group.end - group.begin), {0, 0, 0});
  for (std::int64_t i = group.begin; i < group.end; ++i) {
    for (std::int64_t b = a.first_block(std::size_t(i)); b < a.first_block(std::size_t(i) + 1); ++b) {
      for (std::size_t k = 0; k < 3; ++k) found[std::size_t(i - group.begin)][k] += partial[std::size_t(b)][k];
    }
  }
  return found;
}

// Every entry replaced by the sum of all.
void put_together(Sums& sums) {
  std::array<double, 3> all{};
  for (const auto& each : sums) {
    for (std::size_t k = 0; k < 3; ++k) all[k] += each[k];
  }
  std::fill(sums.begin(), sums.end(), all);
}

void perturb_cpu(const Arguments& a, double gamma, bool layer) {
  const Passes& pass = passes();
  Sums partial(std::size_t(a.blocks), {0, 0, 0});
  for (const Range group : groups(a, layer)) {
    each_block(a, blocks_of(a, group), [&](int at, Range range, std::int64_t block) {
      pass.perturb_sums(a.items[std::size_t(at)], range, partial[std::size_t(block)].data());
    });
    Sums sums = by_item(a, group, partial);
    if (!layer) put_together(sums);
    each_block(a, blocks_of(a, group), [&](int at, Range range, std::int64_t) {
      const auto& s = sums[std::size_t(at - group.begin)];
      const double scale = relative_scale(gamma, std::sqrt(s[0]), std::sqrt(s[1]));
      pass.perturb(a.items[std::size_t(at)], range, {.add = scale});
    });
  }
}

// state: [2, n], the norms of the origin and the factors of the total.
void accumulate_cpu(const Arguments& a, double* state, double gamma, bool layer, bool rescale, bool kept, bool begin) {
  if (!kept && !begin) return;
  const Passes& pass = passes();
  const std::size_t n = a.items.size();
  double *norms = state, *scales = state + n;
  Sums partial(std::size_t(a.blocks), {0, 0, 0});
  for (const Range group : groups(a, layer)) {
    each_block(a, blocks_of(a, group), [&](int at, Range range, std::int64_t block) {
      const Factors factors{.add = kept ? 1.0 : 0.0, .keep = rescale ? scales[at] : 1.0, .begin = begin};
      pass.accumulate_sums(a.items[std::size_t(at)], range, factors, partial[std::size_t(block)].data());
    });
    Sums sums = by_item(a, group, partial);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      double& norm = norms[std::size_t(group.begin) + i];
      if (begin) norm = std::sqrt(sums[i][0]);
      sums[i][0] = norm * norm;
    }
    if (!layer) put_together(sums);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      scales[std::size_t(group.begin) + i] = relative_scale(gamma, std::sqrt(sums[i][0]), std::sqrt(sums[i][1]));
    }
    if (!kept) continue;
    each_block(a, blocks_of(a, group), [&](int at, Range range, std::int64_t) {
      pass.accumulate(a.items[std::size_t(at)], range, {.all = scales[at]});
    });
  }
}

// Returns the length of what has been accumulated, all tensors together.
double ascend_cpu(const Arguments& a, double xi, double delta, bool together, double clip, bool begin) {
  const Passes& pass = passes();
  Sums partial(std::size_t(a.blocks), {0, 0, 0});
  each_block(a, all_blocks(a), [&](int at, Range range, std::int64_t block) {
    pass.ascend_sums(a.items[std::size_t(at)], range, {.begin = begin}, partial[std::size_t(block)].data());
  });
  const Sums own = by_item(a, {0, std::int64_t(a.items.size())}, partial);
  Sums all = own;
  put_together(all);
  const double add = step_size(xi, clip, all[0][0]);
  std::vector<double> shrink(own.size());
  double square = 0;
  for (std::size_t i = 0; i < own.size(); ++i) {
    const auto& s = together ? all[i] : own[i];
    shrink[i] = into_ball(delta, stepped_norm({s[0], s[1], s[2]}, add));
    const double length = shrink[i] * stepped_norm({own[i][0], own[i][1], own[i][2]}, add);
    square += length * length;
  }
  each_block(a, all_blocks(a), [&](int at, Range range, std::int64_t) {
    const Factors factors{.add = add, .all = shrink[std::size_t(at)], .begin = begin};
    pass.ascend(a.items[std::size_t(at)], range, factors);
  });
  return std::sqrt(square);
}

// The operators

std::int64_t block_of(at::TensorList weights) {
#ifdef BUTTRESS_WITH_CUDA
  if (!weights.empty() && weights[0].is_cuda()) return kGpuBlock;
#endif
  return kCpuBlock;
}

void perturb_(at::TensorList weights, at::TensorList directions, at::TensorList saved, double gamma,
              c10::string_view norm) {
  check_length("perturb_", "gamma", gamma);
  const bool layer = by_layer("perturb_", norm);
  Arguments a("perturb_", block_of(weights), {weights, true}, {directions}, {saved, true}, {});
#ifdef BUTTRESS_WITH_CUDA
  if (a.device.is_cuda()) {
    perturb_cuda(a, gamma, layer);
    return a.finish();
  }
#endif
  perturb_cpu(a, gamma, layer);
  a.finish();
}

void restore_(at::TensorList weights, at::TensorList saved) {
  Arguments a("restore_", block_of(weights), {weights, true}, {}, {saved}, {});
#ifdef BUTTRESS_WITH_CUDA
  if (a.device.is_cuda()) {
    restore_cuda(a);
    return a.finish();
  }
#endif
  each_block(a, all_blocks(a), [&](int at, Range range, std::int64_t) {
    passes().restore(a.items[std::size_t(at)], range);
  });
  a.finish();
}

void unperturb_(at::TensorList weights, at::TensorList saved, at::TensorList perturbed) {
  Arguments a("unperturb_", block_of(weights), {weights, true}, {}, {saved}, {perturbed});
#ifdef BUTTRESS_WITH_CUDA
  if (a.device.is_cuda()) {
    unperturb_cuda(a);
    return a.finish();
  }
#endif
  each_block(a, all_blocks(a),
             [&](int at, Range range, std::int64_t) { passes().unperturb(a.items[std::size_t(at)], range); });
  a.finish();
}

void accumulate_(at::TensorList weights, at::TensorList directions, at::TensorList origin, at::TensorList total,
                 at::Tensor state, double gamma, c10::string_view norm, bool rescale,
                 const std::optional<at::Tensor>& kept, bool begin) {
  check_length("accumulate_", "gamma", gamma);
  const bool layer = by_layer("accumulate_", norm);
  TORCH_CHECK(state.dim() == 2 && state.size(0) == 2 && state.size(1) == std::int64_t(weights.size()) &&
                  state.scalar_type() == at::kDouble && state.is_contiguous(),
              "accumulate_: state: expected a contiguous float64 tensor of shape [2, ", weights.size(), "]");
  TORCH_CHECK(!kept || (kept->numel() == 1 && kept->scalar_type() == at::kLong && kept->device() == state.device()),
              "accumulate_: kept: expected one int64 number on the device of state");
  Arguments a("accumulate_", block_of(weights), {weights, true}, {directions}, {origin, true}, {total, true});
  TORCH_CHECK(weights.empty() || a.device == state.device(), "accumulate_: state: expected it on ", a.device);
#ifdef BUTTRESS_WITH_CUDA
  if (a.device.is_cuda()) {
    accumulate_cuda(a, state, gamma, layer, rescale, kept, begin);
    return a.finish();
  }
#endif
  const bool some = !kept || *kept->const_data_ptr<std::int64_t>() > 0;
  accumulate_cpu(a, state.mutable_data_ptr<double>(), gamma, layer, rescale, some, begin);
  a.finish();
}

at::Tensor ascend_(at::TensorList weights, at::TensorList directions, at::TensorList origin, at::TensorList total,
                   double xi, double delta, c10::string_view ball, std::optional<double> clip_norm, bool begin) {
  check_length("ascend_", "xi", xi);
  check_length("ascend_", "delta", delta);
  TORCH_CHECK(ball == "global" || ball == "per_tensor", "ascend_: ball: expected global or per_tensor");
  TORCH_CHECK(!clip_norm || *clip_norm > 0, "ascend_: clip_norm: expected a number > 0");
  Arguments a("ascend_", block_of(weights), {weights, true}, {directions}, {origin, true}, {total, true});
  const double clip = clip_norm.value_or(std::numeric_limits<double>::infinity());
  at::Tensor length = at::empty({}, at::TensorOptions().dtype(at::kDouble).device(a.device));
#ifdef BUTTRESS_WITH_CUDA
  if (a.device.is_cuda()) {
    ascend_cuda(a, length, xi, delta, ball == "global", clip, begin);
    a.finish();
    return length;
  }
#endif
  *length.mutable_data_ptr<double>() = ascend_cpu(a, xi, delta, ball == "global", clip, begin);
  a.finish();
  return length;
}

void implement(torch::Library& library) {
  library.impl("perturb_", &perturb_);
  library.impl("restore_", &restore_);
  library.impl("unperturb_", &unperturb_);
  library.impl("accumulate_", &accumulate_);
  library.impl("ascend_", &ascend_);
}

}  // namespace
}  // namespace buttress::perturbation

TORCH_LIBRARY_FRAGMENT(buttress, library) {
  library.def("perturb_(Tensor(a!)[] weights, Tensor[] directions, Tensor(b!)[] saved, float gamma, str norm) -> ()");
  library.def("restore_(Tensor(a!)[] weights, Tensor[] saved) -> ()");
  library.def("unperturb_(Tensor(a!)[] weights, Tensor[] saved, Tensor[] perturbed) -> ()");
  library.def(
      "accumulate_(Tensor(a!)[] weights, Tensor[] directions, Tensor(b!)[] origin, Tensor(c!)[] total, "
      "Tensor(d!) state, float gamma, str norm, bool rescale, Tensor? kept, bool begin) -> ()");
  library.def(
      "ascend_(Tensor(a!)[] weights, Tensor[] directions, Tensor(b!)[] origin, Tensor(c!)[] total, float xi, "
      "float delta, str ball, float? clip_norm, bool begin) -> Tensor");
}

TORCH_LIBRARY_IMPL(buttress, CPU, library) { buttress::perturbation::implement(library); }

#ifdef BUTTRESS_WITH_CUDA
TORCH_LIBRARY_IMPL(buttress, CUDA, library) { buttress::perturbation::implement(library); }
#endif

TORCH_LIBRARY_IMPL(buttress, Autograd, library) {
  for (const char* name : {"perturb_", "restore_", "unperturb_", "accumulate_", "ascend_"}) {
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&buttress::in_place_without_gradient>());
  }
}
