// The loss-stationary condition on CUDA, in float and double; no torch in here. Every function is one launch on
// `stream`, a cudaStream_t, and returns a cudaError_t; all pointers are in the device's memory.
#pragma once

#include "lsc/cpu.h"

namespace buttress {

// Two numbers of a row of logits for the gradient: softmax_k = exp(x_k - largest) * scale. A scale of 0 says that the
// example is not kept: the scale of one that is kept lies between 1 / classes and 1. NaN says that its target is no
// class.
template <typename T>
struct LscRow {
  T largest, scale;
};

// Losses [batch] and rows [batch]. Where a target is no class, the row's scale and the loss are NaN.
template <typename T>
int lsc_losses_cuda(const LscLogits<T>& logits, const LscCondition& condition, T* losses, LscRow<T>* rows,
                    void* stream);

// out [batch, classes]: (softmax - onehot) * *grad / batch where the example is kept, else 0; NaN where a target is no
// class.
template <typename T>
int lsc_gradients_cuda(const LscLogits<T>& logits, const LscRow<T>* rows, const T* grad, T* out, void* stream);

// *mean: the sum of the losses [n] that are kept, over n; 0 for n = 0. *kept: their number. `rows` [n] may be null; a
// scale of NaN among them makes the mean NaN.
template <typename T>
int lsc_mean_cuda(const T* losses, const LscRow<T>* rows, std::int64_t n, const LscCondition& condition, T* mean,
                  std::int64_t* kept, void* stream);

// out [n]: *grad / n where the loss is kept, else 0.
template <typename T>
int lsc_mask_cuda(const T* losses, std::int64_t n, const LscCondition& condition, const T* grad, T* out, void* stream);

}  // namespace buttress
