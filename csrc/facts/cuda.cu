// Read from the macros that nvcc defines; launches nothing.
#include <cuda_runtime_api.h>

#include "facts/cuda.h"

namespace buttress {

std::string nvcc_version() {
  return std::to_string(__CUDACC_VER_MAJOR__) + "." + std::to_string(__CUDACC_VER_MINOR__) + "." +
         std::to_string(__CUDACC_VER_BUILD__);
}

std::string cuda_runtime_version() {
  return std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
}

std::string cuda_architectures() {
#ifdef __CUDA_ARCH_LIST__
  constexpr int kArchitectures[] = {__CUDA_ARCH_LIST__};  // 800, 900
  std::string names;
  for (const int architecture : kArchitectures) {
    names +=
        (names.empty() ? "" : " ") + std::to_string(architecture / 100) + "." + std::to_string(architecture / 10 % 10);
  }
  return names;
#else
  return "unknown";
#endif
}

}  // namespace buttress
