// The operators under the loss-stationary condition on CUDA: launches on the current stream, which nobody waits for.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "lsc/cuda.h"
#include "lsc/operators.h"

namespace buttress {
namespace {

cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

void expect_success(int code) { C10_CUDA_CHECK(cudaError_t(code)); }

struct Cuda {
  using Guard = c10::cuda::CUDAGuard;

  template <typename T>
  static void losses(T* losses, LscRow<T>* rows, const LscLogits<T>& logits, const LscCondition& condition) {
    expect_success(lsc_losses_cuda(logits, condition, losses, rows, stream()));
  }

  template <typename T>
  static void gradients(T* out, const T* grad, const LscLogits<T>& logits, const LscRow<T>* rows) {
    expect_success(lsc_gradients_cuda(logits, rows, grad, out, stream()));
  }

  template <typename T>
  static void mean(T* mean, std::int64_t* kept, const T* losses, const LscRow<T>* rows, std::int64_t n,
                   const LscCondition& condition) {
    expect_success(lsc_mean_cuda(losses, rows, n, condition, mean, kept, stream()));
  }

  template <typename T>
  static void mask(T* out, const T* grad, const T* losses, std::int64_t n, const LscCondition& condition) {
    expect_success(lsc_mask_cuda(losses, n, condition, grad, out, stream()));
  }
};

}  // namespace
}  // namespace buttress

TORCH_LIBRARY_IMPL(buttress, CUDA, library) { buttress::implement_lsc<buttress::Cuda>(library); }
