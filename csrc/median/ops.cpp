// buttress::median as torch operators: schemas, the CPU implementation, and no gradient.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

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

void check(at::TensorList tensors, c10::string_view even) {
  TORCH_CHECK(even == "lower" || even == "upper" || even == "mean", "median: even: expected lower, upper or mean");
  TORCH_CHECK(!tensors.empty(), "median: expected at least one tensor, got none");
  TORCH_CHECK(tensors.size() < 65536, "median: expected less than 65536 tensors, got ", tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    TORCH_CHECK(tensors[i].sizes() == tensors[0].sizes() && tensors[i].scalar_type() == tensors[0].scalar_type() &&
                    tensors[i].device() == tensors[0].device(),
                "median: tensors[", i, "] differs in shape, dtype or device from tensors[0]");
  }
}

// One layout for all, so that elements at equal offsets belong together: as it is where all are dense in one order.
std::vector<at::Tensor> aligned(at::TensorList tensors, const at::Tensor& like) {
  std::vector<at::Tensor> rows;
  rows.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) {
    rows.push_back(tensor.strides() == like.strides() ? tensor : at::empty_like(like).copy_(tensor));
  }
  return rows;
}

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

void median_cpu_(at::Tensor& out, at::TensorList tensors, c10::string_view even) {
  const int n = int(tensors.size());
  const std::vector<at::Tensor> rows = aligned(tensors, out);
  std::vector<const void*> pointers;
  for (const at::Tensor& row : rows) pointers.push_back(row.const_data_ptr());
  const int lower = even == "upper" ? n / 2 : (n - 1) / 2;
  const int upper = even == "lower" ? lower : n / 2;
  const Job job{type_of(out),
                n,
                out.numel(),
                pointers.data(),
                out.mutable_data_ptr(),
                lower,
                upper,
                even == "mean" && lower != upper};
  at::parallel_for(0, out.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    const std::unique_ptr<void, Free> scratch(std::aligned_alloc(64, (median_scratch(n) + 63) / 64 * 64));
    median_elements(job, begin, end, scratch.get());
  });
}

#ifdef BUTTRESS_WITH_CUDA
void median_cuda_(at::Tensor& out, at::TensorList tensors, c10::string_view even) {
  const int n = int(tensors.size());
  const c10::cuda::CUDAGuard guard(out.device());
  const std::vector<at::Tensor> rows = aligned(tensors, out);
  std::vector<const void*> pointers;
  for (const at::Tensor& row : rows) pointers.push_back(row.const_data_ptr());
  at::Tensor more;
  if (n > kRowsInLaunch) {
    more = at::empty({n}, at::TensorOptions().dtype(at::kLong));
    std::copy(pointers.begin(), pointers.end(), static_cast<const void**>(more.mutable_data_ptr()));
    more = more.to(out.device());
  }
  const int lower = even == "upper" ? n / 2 : (n - 1) / 2;
  const int upper = even == "lower" ? lower : n / 2;
  const GpuJob job{type_of(out),
                   n,
                   out.numel(),
                   pointers.data(),
                   n > kRowsInLaunch ? static_cast<const void* const*>(more.const_data_ptr()) : nullptr,
                   out.mutable_data_ptr(),
                   lower,
                   upper,
                   even == "mean" && lower != upper};
  C10_CUDA_CHECK(cudaError_t(median_gpu(job, c10::cuda::getCurrentCUDAStream().stream())));
}
#endif

void median_(at::Tensor& out, at::TensorList tensors, c10::string_view even) {
#ifdef BUTTRESS_WITH_CUDA
  if (out.is_cuda()) return median_cuda_(out, tensors, even);
#endif
  median_cpu_(out, tensors, even);
}

at::Tensor median(at::TensorList tensors, c10::string_view even) {
  check(tensors, even);
  at::Tensor out = tensors[0].is_non_overlapping_and_dense() ? at::empty_like(tensors[0])
                                                             : at::empty_like(tensors[0], at::MemoryFormat::Contiguous);
  median_(out, tensors, even);
  return out;
}

void median_into(at::Tensor out, at::TensorList tensors, c10::string_view even) {
  check(tensors, even);
  TORCH_CHECK(out.sizes() == tensors[0].sizes() && out.scalar_type() == tensors[0].scalar_type() &&
                  out.device() == tensors[0].device(),
              "median: out differs in shape, dtype or device from tensors[0]");
  if (out.is_non_overlapping_and_dense()) {
    median_(out, tensors, even);
  } else {
    out.copy_(median(tensors, even));
  }
}

}  // namespace
}  // namespace buttress

TORCH_LIBRARY_FRAGMENT(buttress, library) {
  library.def("median(Tensor[] tensors, str even) -> Tensor");
  library.def("median_into(Tensor(a!) out, Tensor[] tensors, str even) -> ()");
}

TORCH_LIBRARY_IMPL(buttress, CPU, library) {
  library.impl("median", &buttress::median);
  library.impl("median_into", &buttress::median_into);
}

#ifdef BUTTRESS_WITH_CUDA
TORCH_LIBRARY_IMPL(buttress, CUDA, library) {
  library.impl("median", &buttress::median);
  library.impl("median_into", &buttress::median_into);
}
#endif

TORCH_LIBRARY_IMPL(buttress, Autograd, library) {
  library.impl("median", torch::autograd::autogradNotImplementedFallback());
  library.impl("median_into", torch::autograd::autogradNotImplementedFallback());
}
