// Launches, shared memory, and what a thread knows about itself. A kernel's threads run block after block.
#pragma once

#include <cstddef>

#include "on_host/vectors.h"

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9, cudaErrorLaunchFailure = 719 };

using cudaStream_t = struct Stream*;

// The first error since the last call.
cudaError_t cudaGetLastError();

inline constinit thread_local uint3 threadIdx{}, blockIdx{};
inline constinit thread_local dim3 blockDim, gridDim;

// Waits for all threads of the block. Raises an error of the launch where a thread has returned, or is at another line.
void __syncthreads(int line = __builtin_LINE());

namespace on_host {

// A reference to something that can be called; std::function takes half a second of every compilation.
template <typename... Arguments>
class Call {
 public:
  template <typename Body>
  Call(const Body& body) : body_(&body), run_([](const void* body, Arguments... arguments) {
    (*static_cast<const Body*>(body))(arguments...);
  }) {}
  void operator()(Arguments... arguments) const { run_(body_, arguments...); }

 private:
  const void* body_;
  void (*run_)(const void*, Arguments...);
};

struct Configuration {
  dim3 grid, block;
  std::size_t shared = 0;  // bytes of dynamic shared memory, which no kernel here has yet
  cudaStream_t stream = nullptr;
};

// `kernel<<<...>>>(arguments)`; `thread` is the call.
void launch(const char* kernel, const Configuration& configuration, Call<> thread);

// A `__shared__` variable: each block has its own, full of garbage first. `key` says which variable.
void* shared(const void* key, std::size_t bytes);

// Raises an error of the launch unless the address is a multiple of the size.
void expect_aligned(const void* address, std::size_t size, int line);

}  // namespace on_host
