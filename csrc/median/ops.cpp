// buttress::median and median_many as torch operators: schemas, checks, threads, and no gradient.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "median/cpu.h"

#ifdef BUTTRESS_WITH_CUDA
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "median/gpu.h"
#endif

namespace buttress {
namespace {

// Elements that one task handles: enough to hide its start, few enough to share out.
constexpr std::int64_t kGrain = 1 << 15;

Type type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return Type::float32;
    case at::kDouble: return Type::float64;
    case at::kHalf: return Type::float16;
    case at::kBFloat16: return Type::bfloat16;
    default: TORCH_CHECK(false, "median: expected a floating dtype, got ", tensor.scalar_type());
  }
}

// `tensors` holds the n versions of the first tensor, then those of the second, ...; for `median` there is one tensor.
void check(const char* who, at::TensorList tensors, std::int64_t n, c10::string_view even) {
  TORCH_CHECK(even == "lower" || even == "upper" || even == "mean", who, ": even: expected lower, upper or mean");
  TORCH_CHECK(!tensors.empty() && n >= 1, who, ": expected at least one tensor, got none");
  TORCH_CHECK(n < 65536, who, ": expected less than 65536 tensors, got ", n);
  TORCH_CHECK(std::int64_t(tensors.size()) % n == 0, who, ": expected a multiple of n = ", n, " tensors, got ",
              tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor& first = tensors[i / std::size_t(n) * std::size_t(n)];
    TORCH_CHECK(tensors[i].sizes() == first.sizes() && tensors[i].scalar_type() == first.scalar_type() &&
                    tensors[i].device() == tensors[0].device(),
                who, ": tensors[", i, "] differs in shape, dtype or device from the first of its versions");
  }
}

void check_out(const char* who, const at::Tensor& out, const at::Tensor& like) {
  TORCH_CHECK(out.sizes() == like.sizes() && out.scalar_type() == like.scalar_type() && out.device() == like.device(),
              who, ": out differs in shape, dtype or device from the tensors");
}

// One layout for all, so that elements at equal offsets belong together: as it is where all are dense in one order.
at::Tensor aligned(const at::Tensor& tensor, const at::Tensor& like) {
  return tensor.strides() == like.strides() ? tensor : at::empty_like(like).copy_(tensor);
}

struct Ranks {
  int lower, upper;
  bool mean;
  Ranks(std::int64_t n, c10::string_view even)
      : lower(int(even == "upper" ? n / 2 : (n - 1) / 2)),
        upper(int(even == "lower" ? lower : n / 2)),
        mean(even == "mean" && lower != upper) {}
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

// All tensors as one range of elements: threads share it out, whatever the sizes are.
void median_cpu(at::TensorList outs, at::TensorList rows, std::int64_t n, c10::string_view even) {
  const Ranks ranks(n, even);
  std::vector<const void*> pointers;
  for (const at::Tensor& row : rows) pointers.push_back(row.const_data_ptr());
  std::vector<Job> jobs;
  std::vector<std::int64_t> ends;  // of each tensor within the range
  std::int64_t size = 0;
  for (const at::Tensor& out : outs) size += out.numel();
  for (std::size_t k = 0; k < outs.size(); ++k) {
    jobs.push_back({type_of(outs[k]), int(n), size, pointers.data() + k * std::size_t(n), outs[k].mutable_data_ptr(),
                    ranks.lower, ranks.upper, ranks.mean});
    ends.push_back((ends.empty() ? 0 : ends.back()) + outs[k].numel());
  }
  const std::size_t scratch_size = (median_scratch(int(n)) + 63) / 64 * 64;
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

#ifdef BUTTRESS_WITH_CUDA
// One launch for all tensors of a dtype. A single tensor's addresses travel with the launch, more as a table.
void median_cuda(at::TensorList outs, at::TensorList rows, std::int64_t n, c10::string_view even) {
  const c10::cuda::CUDAGuard guard(outs[0].device());
  const Ranks ranks(n, even);
  for (const Type type : {Type::float32, Type::float64, Type::float16, Type::bfloat16}) {
    std::vector<std::int64_t> records;
    std::int64_t tensors = 0, tiles = 0;
    for (std::size_t k = 0; k < outs.size(); ++k) {
      if (type_of(outs[k]) != type || outs[k].numel() == 0) continue;
      records.insert(records.end(), {tiles, outs[k].numel(), std::int64_t(outs[k].mutable_data_ptr())});
      for (std::size_t i = 0; i < std::size_t(n); ++i) {
        records.push_back(std::int64_t(rows[k * std::size_t(n) + i].const_data_ptr()));
      }
      tiles += (outs[k].numel() + kTile - 1) / kTile;
      ++tensors;
    }
    if (tensors == 0) continue;
    at::Tensor table;
    if (tensors > 1 || n > kRowsInLaunch) {
      table = at::empty({std::int64_t(records.size())}, at::TensorOptions().dtype(at::kLong).pinned_memory(true));
      std::copy(records.begin(), records.end(), table.mutable_data_ptr<std::int64_t>());
      table = table.to(outs[0].device(), /*non_blocking=*/true);
    }
    const std::int64_t* there = table.defined() ? table.const_data_ptr<std::int64_t>() : nullptr;
    const GpuJob job{type,  int(n),      tensors,     tiles,     records.data(),
                     there, ranks.lower, ranks.upper, ranks.mean};
    C10_CUDA_CHECK(cudaError_t(median_gpu(job, c10::cuda::getCurrentCUDAStream().stream())));
  }
}
#endif

// Into `outs`, which are dense.
void median_all(at::TensorList outs, at::TensorList tensors, std::int64_t n, c10::string_view even) {
  std::vector<at::Tensor> rows;
  rows.reserve(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) rows.push_back(aligned(tensors[i], outs[i / std::size_t(n)]));
#ifdef BUTTRESS_WITH_CUDA
  if (outs[0].is_cuda()) return median_cuda(outs, rows, n, even);
#endif
  median_cpu(outs, rows, n, even);
}

at::Tensor dense_like(const at::Tensor& tensor) {
  return tensor.is_non_overlapping_and_dense() ? at::empty_like(tensor)
                                               : at::empty_like(tensor, at::MemoryFormat::Contiguous);
}

std::vector<at::Tensor> compute(at::TensorList tensors, std::int64_t n, c10::string_view even) {
  std::vector<at::Tensor> outs;
  for (std::size_t k = 0; k < tensors.size(); k += std::size_t(n)) outs.push_back(dense_like(tensors[k]));
  median_all(outs, tensors, n, even);
  return outs;
}

void compute_into(at::TensorList outs, at::TensorList tensors, std::int64_t n, c10::string_view even) {
  std::vector<at::Tensor> dense;
  for (const at::Tensor& out : outs) dense.push_back(out.is_non_overlapping_and_dense() ? out : dense_like(out));
  median_all(dense, tensors, n, even);
  for (std::size_t k = 0; k < outs.size(); ++k) {
    if (!dense[k].is_same(outs[k])) outs[k].copy_(dense[k]);
  }
}

at::Tensor median(at::TensorList tensors, c10::string_view even) {
  const auto n = std::int64_t(tensors.size());
  check("median", tensors, n, even);
  return compute(tensors, n, even)[0];
}

void median_into(at::Tensor out, at::TensorList tensors, c10::string_view even) {
  const auto n = std::int64_t(tensors.size());
  check("median", tensors, n, even);
  check_out("median", out, tensors[0]);
  compute_into({out}, tensors, n, even);
}

std::vector<at::Tensor> median_many(at::TensorList tensors, std::int64_t n, c10::string_view even) {
  check("median_many", tensors, n, even);
  return compute(tensors, n, even);
}

void median_many_into(at::TensorList outs, at::TensorList tensors, std::int64_t n, c10::string_view even) {
  check("median_many", tensors, n, even);
  TORCH_CHECK(std::int64_t(outs.size()) == std::int64_t(tensors.size()) / n, "median_many: expected ",
              std::int64_t(tensors.size()) / n, " outputs, got ", outs.size());
  for (std::size_t k = 0; k < outs.size(); ++k) check_out("median_many", outs[k], tensors[k * std::size_t(n)]);
  compute_into(outs, tensors, n, even);
}

}  // namespace
}  // namespace buttress

TORCH_LIBRARY_FRAGMENT(buttress, library) {
  library.def("median(Tensor[] tensors, str even) -> Tensor");
  library.def("median_into(Tensor(a!) out, Tensor[] tensors, str even) -> ()");
  library.def("median_many(Tensor[] tensors, int n, str even) -> Tensor[]");
  library.def("median_many_into(Tensor(a!)[] out, Tensor[] tensors, int n, str even) -> ()");
}

TORCH_LIBRARY_IMPL(buttress, CPU, library) {
  library.impl("median", &buttress::median);
  library.impl("median_into", &buttress::median_into);
  library.impl("median_many", &buttress::median_many);
  library.impl("median_many_into", &buttress::median_many_into);
}

#ifdef BUTTRESS_WITH_CUDA
TORCH_LIBRARY_IMPL(buttress, CUDA, library) {
  library.impl("median", &buttress::median);
  library.impl("median_into", &buttress::median_into);
  library.impl("median_many", &buttress::median_many);
  library.impl("median_many_into", &buttress::median_many_into);
}
#endif

TORCH_LIBRARY_IMPL(buttress, Autograd, library) {
  library.impl("median", torch::autograd::autogradNotImplementedFallback());
  library.impl("median_into", torch::autograd::autogradNotImplementedFallback());
  library.impl("median_many", torch::autograd::autogradNotImplementedFallback());
  library.impl("median_many_into", torch::autograd::autogradNotImplementedFallback());
}
