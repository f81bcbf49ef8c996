// Parts that the median's kernels on CUDA share: the tensors of a launch, and the elements of one that a block takes.
#pragma once

#include <cuda_runtime.h>

#include "median/cuda.h"

namespace buttress {

constexpr int kThreads = 128, kBlocks = 1 << 16;

// The records of all tensors: of the only one, or a table.
struct Records {
  std::int64_t in_launch[kHead + kRowsInLaunch];
  const std::int64_t* table;
  std::int64_t tensors, tiles;
  int n;
  __device__ const std::int64_t* of(std::int64_t tensor) const {
    return table != nullptr ? table + tensor * (kHead + n) : in_launch;
  }
};

// The elements begin to end of one tensor.
struct Tile {
  const std::int64_t* record;
  std::int64_t begin, end;
  __device__ Tile(const Records& all, std::int64_t number) {
    std::int64_t tensor = 0;
    for (std::int64_t after = all.tensors; after - tensor > 1;) {  // the last tensor that begins at or before this tile
      const std::int64_t middle = tensor + (after - tensor) / 2;
      (*all.of(middle) <= number ? tensor : after) = middle;
    }
    record = all.of(tensor);
    begin = (number - record[0]) * kTile;
    end = begin + kTile < record[1] ? begin + kTile : record[1];
  }
  __device__ void* out() const { return reinterpret_cast<void*>(record[2]); }
  // Whether vectors of so many bytes can be loaded from all versions, and stored.
  __device__ bool aligned(std::int64_t bytes) const { return (record[3] & (bytes - 1)) == 0; }
  __device__ const void* row(int i) const { return reinterpret_cast<const void*>(record[kHead + i]); }
};

// The most rows of a network, by type: what 255 registers hold.
constexpr int kLargest = 128, kLargestOf64Bits = 72;
constexpr int largest_network(Type type) {
  return type == Type::float64 && kLargest > kLargestOf64Bits ? kLargestOf64Bits : kLargest;
}

// The median of up to largest_network(type) rows; each type is compiled in a file of its own.
template <Type type>
void launch_network(const CudaJob& job, const Records& records, unsigned blocks, cudaStream_t stream);

}  // namespace buttress
