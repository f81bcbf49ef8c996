// The median's operators on CUDA: one launch for all tensors of a dtype. A single tensor's addresses travel with the
// launch, those of more as a table, from pinned memory, so that the host does not wait for the copy.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>

#include "common/tensors.h"
#include "median/cuda.h"
#include "median/operators.h"

namespace buttress {
namespace {

// The records of all tensors of one dtype that are not empty.
struct Records {
  std::vector<std::int64_t> fields;
  std::int64_t tensors = 0, tiles = 0;

  Records(Type type, at::TensorList outs, at::TensorList rows, std::int64_t n) {
    for (std::size_t k = 0; k < outs.size(); ++k) {
      if (type_of(outs[k]) != type || outs[k].numel() == 0) continue;
      const auto out = std::int64_t(outs[k].mutable_data_ptr());
      fields.insert(fields.end(), {tiles, outs[k].numel(), out, out});
      const std::size_t bits = fields.size() - 1;
      for (const at::Tensor& row : rows.slice(k * std::size_t(n), std::size_t(n))) {
        fields.push_back(std::int64_t(row.const_data_ptr()));
        fields[bits] |= fields.back();
      }
      tiles += (outs[k].numel() + kTile - 1) / kTile;
      ++tensors;
    }
  }

  at::Tensor table(at::Device device) const {
    const at::Tensor here =
        at::empty({std::int64_t(fields.size())}, at::TensorOptions().dtype(at::kLong).pinned_memory(true));
    std::copy(fields.begin(), fields.end(), here.mutable_data_ptr<std::int64_t>());
    return here.to(device, /*non_blocking=*/true);
  }
};

struct Cuda {
  static void median(at::TensorList outs, at::TensorList rows, const Ranks& ranks) {
    const c10::cuda::CUDAGuard guard(outs[0].device());
    for (const Type type : {Type::float32, Type::float64, Type::float16, Type::bfloat16}) {
      const Records records(type, outs, rows, ranks.n);
      if (records.tensors == 0) continue;
      at::Tensor table;
      if (records.tensors > 1 || ranks.n > kRowsInLaunch) table = records.table(outs[0].device());
      const CudaJob job{
          type,          int(ranks.n),          records.tensors,
          records.tiles, records.fields.data(), table.defined() ? table.const_data_ptr<std::int64_t>() : nullptr,
          ranks.lower,   ranks.upper,           ranks.mean};
      C10_CUDA_CHECK(cudaError_t(median_cuda(job, c10::cuda::getCurrentCUDAStream().stream())));
    }
  }
};

}  // namespace
}  // namespace buttress

TORCH_LIBRARY_IMPL(buttress, CUDA, library) { buttress::implement_median<buttress::Cuda>(library); }
