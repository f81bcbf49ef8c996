#include "median/operators.h"

#include <ATen/ops/empty_like.h>

#include <string>

#include "common/tensors.h"

namespace buttress {
namespace {

at::Tensor dense_like(const at::Tensor& tensor) {
  return tensor.is_non_overlapping_and_dense() ? at::empty_like(tensor)
                                               : at::empty_like(tensor, at::MemoryFormat::Contiguous);
}

std::string indexed(const char* name, std::int64_t index) {
  return std::string(name) + "[" + std::to_string(index) + "]";
}

void expect_versions(const std::string& who, at::TensorList versions) {
  expect_compiled_type(who + ": tensors[0]", versions[0]);
  for (std::size_t i = 1; i < versions.size(); ++i) {
    TORCH_CHECK_VALUE(fits(versions[i], versions[0]), who, ": tensors[", i, "] has ", facts(versions[i]), ", expected ",
                      facts(versions[0]));
  }
}

}  // namespace

Ranks::Ranks(std::int64_t n, c10::string_view even)
    : n(n),
      lower(int(even == "upper" ? n / 2 : (n - 1) / 2)),
      upper(int(even == "lower" ? lower : n / 2)),
      mean(even == "mean" && lower != upper) {}

void MedianArguments::check(c10::string_view even) const {
  TORCH_CHECK_VALUE(even == "lower" || even == "upper" || even == "mean", who,
                    ": even: expected lower, upper or mean, got '", even, "'");
  TORCH_CHECK_VALUE(n >= 1 && !tensors.empty(), who, many ? ": lists[0]" : "",
                    ": expected at least one tensor, got none");
  TORCH_CHECK_VALUE(n < 65536, who, ": expected less than 65536 tensors of one parameter, got ", n);
  TORCH_CHECK_VALUE(std::int64_t(tensors.size()) % n == 0, who, ": expected a multiple of n = ", n, " tensors, got ",
                    tensors.size());
  for (std::size_t k = 0; k < lists(); ++k) {
    const std::string where = many ? std::string(who) + ": " + indexed("lists", std::int64_t(k)) : who;
    expect_versions(where, tensors.slice(k * std::size_t(n), std::size_t(n)));
    TORCH_CHECK_VALUE(first(k).device() == first(0).device(), where, " is on ", first(k).device(), ", expected ",
                      first(0).device(), ", as lists[0]");
  }
}

void MedianArguments::check_out(at::TensorList outs) const {
  TORCH_CHECK_VALUE(outs.size() == lists(), who, ": expected ", lists(), " tensors in out, one for each list, got ",
                    outs.size());
  Memory memory(outs.size() + tensors.size());
  for (std::size_t k = 0; k < outs.size(); ++k) {
    TORCH_CHECK_VALUE(fits(outs[k], first(k)), who, ": ", many ? indexed("out", std::int64_t(k)) : "out", " has ",
                      facts(outs[k]), ", expected ", facts(first(k)));
    memory.add("out", outs[k], true, many ? std::int64_t(k) : -1);
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    memory.add(many ? "lists" : "tensors", tensors[i], false, std::int64_t(i), many ? n : 0);
  }
  memory.expect_apart(who);
}

std::vector<at::Tensor> MedianArguments::results() const {
  std::vector<at::Tensor> made;
  for (std::size_t k = 0; k < lists(); ++k) made.push_back(dense_like(first(k)));
  return made;
}

std::vector<at::Tensor> MedianArguments::dense(at::TensorList outs) const {
  std::vector<at::Tensor> taken;
  for (const at::Tensor& out : outs) taken.push_back(out.is_non_overlapping_and_dense() ? out : dense_like(out));
  return taken;
}

void MedianArguments::finish(at::TensorList dense, at::TensorList outs) const {
  for (std::size_t k = 0; k < outs.size(); ++k) {
    if (!dense[k].is_same(outs[k])) outs[k].copy_(dense[k]);
  }
}

std::vector<at::Tensor> MedianArguments::rows(at::TensorList dense) const {
  std::vector<at::Tensor> all;
  all.reserve(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor& like = dense[i / std::size_t(n)];
    all.push_back(tensors[i].strides() == like.strides() ? tensors[i] : at::empty_like(like).copy_(tensors[i]));
  }
  return all;
}

}  // namespace buttress
