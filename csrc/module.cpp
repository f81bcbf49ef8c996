// The Python module buttress._C: build facts for `buttress doctor`. Importing it registers the operators.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/version.h>

#include <map>
#include <string>

#include "median/cpu.h"

#ifdef BUTTRESS_WITH_CUDA
#include "facts/facts.h"
#endif

namespace {

std::string compiler() {
#if defined(__clang__)
  return "clang " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__);
#elif defined(__GNUC__)
  return "gcc " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__);
#else
  return "unknown";
#endif
}

// What the processor runs of what is compiled in, and which of it is in use.
std::string simd() {
  std::string names;
  for (const std::string& level : buttress::median_levels()) names += level + " ";
  return names + "on this processor, using " + buttress::median_level();
}

std::map<std::string, std::string> build_facts() {
  std::map<std::string, std::string> facts{
      {"compiler", compiler()},
      {"C++ standard", std::to_string(__cplusplus / 100 % 100)},
      {"built against torch", TORCH_VERSION},
      {"SIMD", simd()},
  };
#ifdef BUTTRESS_WITH_CUDA
  facts["CUDA"] = "yes";
  facts["nvcc"] = buttress::nvcc_version();
  facts["CUDA runtime headers"] = buttress::cuda_runtime_version();
  facts["CUDA architectures"] = buttress::cuda_architectures();
#else
  facts["CUDA"] = "no";
#endif
  return facts;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "Build facts of buttress.";
  module.def("build_facts", &build_facts, "What the extension was built with, fact by fact.");
}
