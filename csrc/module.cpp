// The Python module buttress._C: build facts for `buttress doctor`, and reading of files. Importing it registers the
// operators.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/version.h>

#include <map>
#include <string>
#include <vector>

#include "files/read.h"
#include "median/cpu.h"

#ifdef BUTTRESS_WITH_CUDA
#include "facts/cuda.h"
#endif

namespace py = pybind11;

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

// The instruction sets that are compiled in and run on this processor, and the one in use.
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

// Fills memory from files, range by range; other Python threads run meanwhile.
std::size_t read_rows(const std::vector<int>& files, const std::vector<std::int64_t>& offsets,
                      const std::vector<py::buffer>& rows) {
  if (files.size() != rows.size() || offsets.size() != rows.size()) {
    throw py::value_error("read_rows: expected a file and an offset for each row");
  }
  std::vector<py::buffer_info> memory;
  std::vector<buttress::Range> ranges;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    memory.push_back(rows[i].request(/*writable=*/true));
    ranges.push_back({memory[i].ptr, std::size_t(memory[i].size * memory[i].itemsize), files[i], offsets[i]});
  }
  const py::gil_scoped_release others;
  return buttress::read_ranges(ranges);
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "Build facts of buttress, and reading of files.";
  module.def("build_facts", &build_facts, "What the extension was built with, fact by fact.");
  module.def("read_rows", &read_rows, "Fill rows of bytes from files; how many were filled before one could not be.",
             py::arg("files"), py::arg("offsets"), py::arg("rows"));
}
