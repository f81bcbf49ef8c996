// The launch code of csrc/lsc/cuda.h for ctypes: numbers and addresses in, a cudaError_t out.
#include "lsc/cuda.h"

using namespace buttress;

extern "C" {

#define LSC(T)                                                                                                         \
  int lsc_losses_##T(const T* logits, const std::int64_t* targets, std::int64_t batch, std::int64_t classes,           \
                     double c_min, bool inclusive, T* losses, T* rows) {                                               \
    return lsc_losses_cuda<T>({logits, targets, batch, classes}, {c_min, inclusive}, losses,                           \
                              reinterpret_cast<LscRow<T>*>(rows), nullptr);                                            \
  }                                                                                                                    \
  int lsc_gradients_##T(const T* logits, const std::int64_t* targets, std::int64_t batch, std::int64_t classes,        \
                        const T* rows, const T* grad, T* out) {                                                        \
    return lsc_gradients_cuda<T>({logits, targets, batch, classes}, reinterpret_cast<const LscRow<T>*>(rows), grad,    \
                                 out, nullptr);                                                                        \
  }                                                                                                                    \
  int lsc_mean_##T(const T* losses, const T* rows, std::int64_t n, double c_min, bool inclusive, T* mean,              \
                   std::int64_t* kept) {                                                                               \
    return lsc_mean_cuda<T>(losses, reinterpret_cast<const LscRow<T>*>(rows), n, {c_min, inclusive}, mean, kept,       \
                            nullptr);                                                                                  \
  }                                                                                                                    \
  int lsc_mask_##T(const T* losses, std::int64_t n, double c_min, bool inclusive, const T* grad, T* out) {             \
    return lsc_mask_cuda<T>(losses, n, {c_min, inclusive}, grad, out, nullptr);                                        \
  }
LSC(float)
LSC(double)
#undef LSC
}
