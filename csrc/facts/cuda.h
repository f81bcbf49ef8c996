// Facts about the build of the extension's CUDA half.
#pragma once

#include <string>

namespace buttress {

// "13.0.88": the version of nvcc.
std::string nvcc_version();

// "13.0": the version of the runtime headers.
std::string cuda_runtime_version();

// "8.0 9.0": the architectures that nvcc compiled for, lowest first.
std::string cuda_architectures();

}  // namespace buttress
