// The operators that perturb weights, on CUDA: the table of items, from pinned memory so that the host does not wait
// for the copy; scratch memory; the current stream.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cstring>

#include "perturb/cuda.h"
#include "perturb/operators.h"

namespace buttress::perturbation {
namespace {

enum class Scratch { none, sums };

// A job and the memory that it points to. Torch hands that memory out again in the stream's order only.
class Prepared {
 public:
  Prepared(const Arguments& a, Scratch scratch) : guard_(a.device) {
    const auto n = std::int64_t(a.items.size());
    const auto bytes = at::TensorOptions().dtype(at::kByte);
    const at::Tensor table = at::empty({n * std::int64_t(sizeof(Item))}, bytes.pinned_memory(true));
    std::memcpy(table.mutable_data_ptr(), a.items.data(), a.items.size() * sizeof(Item));
    table_ = table.to(bytes.device(a.device), /*non_blocking=*/true);
    const bool sums = scratch == Scratch::sums;
    if (sums) scratch_ = at::empty({3 * (a.blocks + n)}, at::TensorOptions().dtype(at::kDouble).device(a.device));
    double* partial = sums ? scratch_.mutable_data_ptr<double>() : nullptr;
    job = {static_cast<const Item*>(table_.const_data_ptr()),
           int(n),
           a.blocks,
           partial,
           sums ? partial + 3 * a.blocks : nullptr,
           c10::cuda::getCurrentCUDAStream().stream()};
  }

  CudaJob job{};

 private:
  c10::cuda::CUDAGuard guard_;
  at::Tensor table_, scratch_;
};

// Calls launch(job, ...), which returns a cudaError_t.
template <typename Launch, typename... Rest>
void run(const Arguments& a, Scratch scratch, Launch launch, Rest... rest) {
  const Prepared prepared(a, scratch);
  C10_CUDA_CHECK(cudaError_t(launch(prepared.job, rest...)));
}

const std::int64_t* number(const std::optional<at::Tensor>& kept) {
  return kept ? kept->const_data_ptr<std::int64_t>() : nullptr;
}

struct Cuda {
  static constexpr std::int64_t kBlock = kCudaBlock;

  static void perturb(const Arguments& a, double gamma, bool layer) {
    run(a, Scratch::sums, perturb_cuda, gamma, layer);
  }
  static void restore(const Arguments& a) { run(a, Scratch::none, restore_cuda); }
  static void unperturb(const Arguments& a) { run(a, Scratch::none, unperturb_cuda); }
  static void rwp_first_step(const Arguments& a, const at::Tensor& state, double gamma, bool layer,
                             const std::optional<at::Tensor>& kept) {
    run(a, Scratch::sums, rwp_first_step_cuda, state.mutable_data_ptr<double>(), gamma, layer, number(kept));
  }
  static void rwp_step(const Arguments& a, const at::Tensor& state, double gamma, bool layer, bool rescale,
                       const std::optional<at::Tensor>& kept) {
    run(a, Scratch::sums, rwp_step_cuda, state.mutable_data_ptr<double>(), gamma, layer, rescale, number(kept));
  }
  static void amp_first_step(const Arguments& a, at::Tensor& length, const AmpSettings& settings) {
    run(a, Scratch::sums, amp_first_step_cuda, length.mutable_data_ptr<double>(), settings);
  }
  static void amp_step(const Arguments& a, at::Tensor& length, const AmpSettings& settings) {
    run(a, Scratch::sums, amp_step_cuda, length.mutable_data_ptr<double>(), settings);
  }
};

}  // namespace
}  // namespace buttress::perturbation

TORCH_LIBRARY_IMPL(buttress, CUDA, library) {
  buttress::perturbation::implement<buttress::perturbation::Cuda>(library);
}
