// One table of items a call, from pinned memory, so that the host does not wait for the copy.
#ifdef BUTTRESS_WITH_CUDA
#include "perturb/launch.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cstring>

namespace buttress::perturbation {
namespace {

// A job and the memory that it points to. Torch hands that memory out again in the stream's order only.
class Prepared {
 public:
  explicit Prepared(const Arguments& a, bool sums) : guard_(a.device) {
    const auto n = std::int64_t(a.items.size());
    const auto bytes = at::TensorOptions().dtype(at::kByte);
    const at::Tensor table = at::empty({n * std::int64_t(sizeof(Item))}, bytes.pinned_memory(true));
    std::memcpy(table.mutable_data_ptr(), a.items.data(), a.items.size() * sizeof(Item));
    table_ = table.to(bytes.device(a.device), /*non_blocking=*/true);
    if (sums) scratch_ = at::empty({3 * (a.blocks + n)}, at::TensorOptions().dtype(at::kDouble).device(a.device));
    double* partial = sums ? scratch_.mutable_data_ptr<double>() : nullptr;
    job = {static_cast<const Item*>(table_.const_data_ptr()),
           int(n),
           a.blocks,
           partial,
           sums ? partial + 3 * a.blocks : nullptr,
           c10::cuda::getCurrentCUDAStream().stream()};
  }

  GpuJob job{};

 private:
  c10::cuda::CUDAGuard guard_;
  at::Tensor table_, scratch_;
};

void expect_success(int code) { C10_CUDA_CHECK(cudaError_t(code)); }

}  // namespace

void perturb_cuda(const Arguments& a, double gamma, bool layer) {
  const Prepared prepared(a, true);
  expect_success(perturb_gpu(prepared.job, gamma, layer));
}

void restore_cuda(const Arguments& a) {
  const Prepared prepared(a, false);
  expect_success(restore_gpu(prepared.job));
}

void unperturb_cuda(const Arguments& a) {
  const Prepared prepared(a, false);
  expect_success(unperturb_gpu(prepared.job));
}

void accumulate_cuda(const Arguments& a, at::Tensor& state, double gamma, bool layer, bool rescale,
                     const std::optional<at::Tensor>& kept, bool begin) {
  const Prepared prepared(a, true);
  expect_success(accumulate_gpu(prepared.job, state.mutable_data_ptr<double>(), gamma, layer, rescale,
                                kept ? kept->const_data_ptr<std::int64_t>() : nullptr, begin));
}

void ascend_cuda(const Arguments& a, at::Tensor& length, double xi, double delta, bool together, double clip,
                 bool begin) {
  const Prepared prepared(a, true);
  expect_success(ascend_gpu(prepared.job, length.mutable_data_ptr<double>(), xi, delta, together, clip, begin));
}

}  // namespace buttress::perturbation
#endif
