// The Python module: build facts for `buttress doctor`, and reading of files. Importing it registers the operators. In
// Python's limited API, so that one build serves Python 3.11 and all later versions.
#undef Py_LIMITED_API  // torch's build asks for an older one, which has no buffers
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <torch/version.h>

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "files/read.h"
#include "median/cpu.h"

#ifdef BUTTRESS_WITH_CUDA
#include "facts/cuda.h"
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

// The instruction sets that are compiled in and run on this processor, and the one in use.
std::string simd() {
  std::string names;
  for (const std::string& level : buttress::median_levels()) names += level + " ";
  return names + "on this processor, using " + buttress::median_level();
}

std::map<std::string, std::string> facts() {
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

struct Release {
  void operator()(PyObject* object) const { Py_DecRef(object); }
};
using Object = std::unique_ptr<PyObject, Release>;

// Thrown where Python's error is set.
struct ErrorSet {};

Object owned(PyObject* object) {
  if (object == nullptr) throw ErrorSet();
  return Object(object);
}

Object build_facts(PyObject*) {
  Object result = owned(PyDict_New());
  for (const auto& [name, fact] : facts()) {
    if (PyDict_SetItemString(result.get(), name.c_str(), owned(PyUnicode_FromString(fact.c_str())).get()) != 0) {
      throw ErrorSet();
    }
  }
  return result;
}

// Sequences of one length: the arguments of `read_rows`.
class Arguments {
 public:
  explicit Arguments(PyObject* arguments) {
    if (PyArg_ParseTuple(arguments, "OOO:read_rows", &files_, &offsets_, &rows_) == 0) throw ErrorSet();
    size = PySequence_Size(rows_);
    const Py_ssize_t files = PySequence_Size(files_), offsets = PySequence_Size(offsets_);
    if (size < 0 || files < 0 || offsets < 0) throw ErrorSet();
    if (files != size || offsets != size) {
      throw std::invalid_argument("read_rows: expected a file and an offset for each row");
    }
  }

  std::int64_t file(Py_ssize_t i) const { return number(files_, i); }
  std::int64_t offset(Py_ssize_t i) const { return number(offsets_, i); }
  Object row(Py_ssize_t i) const { return owned(PySequence_GetItem(rows_, i)); }

  Py_ssize_t size;

 private:
  static std::int64_t number(PyObject* sequence, Py_ssize_t i) {
    const std::int64_t value = PyLong_AsLongLong(owned(PySequence_GetItem(sequence, i)).get());
    if (value == -1 && PyErr_Occurred() != nullptr) throw ErrorSet();
    return value;
  }

  PyObject *files_, *offsets_, *rows_;
};

// The memory of Python objects, which stays in its place as long as this lives.
class Memory {
 public:
  explicit Memory(Py_ssize_t size) { views_.reserve(std::size_t(size)); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    for (Py_buffer& view : views_) PyBuffer_Release(&view);
  }

  const Py_buffer& add(PyObject* object) {
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_WRITABLE) != 0) throw ErrorSet();
    return views_.emplace_back(view);
  }

 private:
  std::vector<Py_buffer> views_;
};

// Fills memory from files, range by range; other Python threads run meanwhile.
Object read_rows(PyObject* given) {
  const Arguments arguments(given);
  Memory memory(arguments.size);
  std::vector<buttress::Range> ranges;
  for (Py_ssize_t i = 0; i < arguments.size; ++i) {
    const Py_buffer& row = memory.add(arguments.row(i).get());
    ranges.push_back({row.buf, std::size_t(row.len), int(arguments.file(i)), arguments.offset(i)});
  }
  PyThreadState* const state = PyEval_SaveThread();
  const std::size_t filled = buttress::read_ranges(ranges);
  PyEval_RestoreThread(state);
  return owned(PyLong_FromSize_t(filled));
}

// `function` as Python calls it; what it throws becomes Python's error.
template <Object function(PyObject*)>
PyObject* callable(PyObject*, PyObject* arguments) {
  try {
    return function(arguments).release();
  } catch (const ErrorSet&) {
  } catch (const std::exception& problem) {
    PyErr_SetString(PyExc_ValueError, problem.what());
  }
  return nullptr;
}

PyMethodDef methods[] = {
    {"build_facts", &callable<build_facts>, METH_NOARGS, "What the extension was built with, fact by fact."},
    {"read_rows", &callable<read_rows>, METH_VARARGS,
     "Fill rows of bytes from files at offsets; how many were filled before one could not be."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C_torch", "Build facts of buttress, and reading of files.", -1,
                          methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

// The name of the module, and with it of this function, holds torch's version: setup.py defines TORCH_EXTENSION_NAME.
#define BUTTRESS_JOINED(a, b) a##b
#define BUTTRESS_INIT(name) BUTTRESS_JOINED(PyInit_, name)

PyMODINIT_FUNC BUTTRESS_INIT(TORCH_EXTENSION_NAME)() { return PyModule_Create(&definition); }
