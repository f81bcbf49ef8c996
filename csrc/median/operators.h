// The operators of the median on any device: checks, layouts and memory. A device computes
//   void median(at::TensorList outs, at::TensorList rows, const Ranks& ranks)
// where `rows` holds ranks.n versions of each of `outs`, all dense and in one layout.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <vector>

namespace buttress {

// Which of n sorted values are wanted.
struct Ranks {
  std::int64_t n;
  int lower, upper;
  bool mean;
  Ranks(std::int64_t n, c10::string_view even);
};

// The arguments of both operators; `median` has one list, and n versions in it.
struct MedianArguments {
  const char* who;
  at::TensorList tensors;
  std::int64_t n;
  bool many;

  std::size_t lists() const { return tensors.size() / std::size_t(n); }
  const at::Tensor& first(std::size_t list) const { return tensors[list * std::size_t(n)]; }

  // Both raise at::ValueError, naming list and index.
  void check(c10::string_view even) const;
  void check_out(at::TensorList outs) const;

  // Dense tensors for the results.
  std::vector<at::Tensor> results() const;
  // `outs` where they are dense, else dense tensors like them; and what is in those put into `outs`.
  std::vector<at::Tensor> dense(at::TensorList outs) const;
  void finish(at::TensorList dense, at::TensorList outs) const;
  // All versions in the layouts of `dense`.
  std::vector<at::Tensor> rows(at::TensorList dense) const;
};

template <typename Device>
std::vector<at::Tensor> median_of(const MedianArguments& arguments, c10::string_view even) {
  arguments.check(even);
  std::vector<at::Tensor> results = arguments.results();
  Device::median(results, arguments.rows(results), Ranks(arguments.n, even));
  return results;
}

template <typename Device>
void median_into(const MedianArguments& arguments, c10::string_view even, at::TensorList outs) {
  arguments.check(even);
  arguments.check_out(outs);
  const std::vector<at::Tensor> dense = arguments.dense(outs);
  Device::median(dense, arguments.rows(dense), Ranks(arguments.n, even));
  arguments.finish(dense, outs);
}

template <typename Device>
at::Tensor median(at::TensorList tensors, c10::string_view even) {
  return median_of<Device>({"median", tensors, std::int64_t(tensors.size()), false}, even)[0];
}

template <typename Device>
void median_out(at::TensorList tensors, c10::string_view even, at::Tensor out) {
  median_into<Device>({"median", tensors, std::int64_t(tensors.size()), false}, even, {out});
}

template <typename Device>
std::vector<at::Tensor> median_many(at::TensorList tensors, std::int64_t n, c10::string_view even) {
  return median_of<Device>({"median_many", tensors, n, true}, even);
}

template <typename Device>
void median_many_out(at::TensorList tensors, std::int64_t n, c10::string_view even, at::TensorList out) {
  median_into<Device>({"median_many", tensors, n, true}, even, out);
}

template <typename Device>
void implement_median(torch::Library& library) {
  library.impl("median", &median<Device>);
  library.impl("median_out", &median_out<Device>);
  library.impl("median_many", &median_many<Device>);
  library.impl("median_many_out", &median_many_out<Device>);
}

}  // namespace buttress
