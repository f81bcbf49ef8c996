// Launches: the grid's blocks one after another. And what the tests ask of the runtime.
#include "on_host/launch.h"

#include <string>
#include <utility>

#include "block.h"
#include "context.h"
#include "threads.h"

namespace on_host {
namespace {

cudaError_t error = cudaSuccess;
std::string message;
bool backwards = false, only_last = false;
Block* block = nullptr;

void report(cudaError_t code, const std::string& problem) {
  if (error != cudaSuccess) return;
  error = code;
  message = problem;
}

// The limits of the hardware.
bool possible(const dim3& grid, const dim3& block) {
  const bool grid_fits = grid.x > 0 && grid.x < 1u << 31 && grid.y > 0 && grid.y < 1 << 16 && grid.z > 0 &&
                         grid.z < 1 << 16;
  const bool block_fits = block.x > 0 && block.x <= 1024 && block.y > 0 && block.y <= 1024 && block.z > 0 &&
                          block.z <= 64 && std::uint64_t(block.x) * block.y * block.z <= 1024;
  return grid_fits && block_fits;
}

uint3 index(std::uint64_t number, const dim3& size) {
  return {unsigned(number % size.x), unsigned(number / size.x % size.y), unsigned(number / size.x / size.y)};
}

void run_thread(const char* kernel, Call<> thread) {
  try {
    thread();
  } catch (const Fault& fault) {
    report(cudaErrorLaunchFailure, std::string(kernel) + ": " + fault.message);
  } catch (const Stuck&) {
    report(cudaErrorLaunchFailure, std::string(kernel) + ": threads wait for others that have returned or wait elsewhere");
  }
}

void run_block(const char* kernel, const Configuration& at, std::uint64_t number, Call<> thread) {
  const unsigned threads = at.block.x * at.block.y * at.block.z;
  Block here(threads, number % 2 == 0 ? 0xff : 0x7f);
  block = &here;
  run_threads(threads, backwards, [&](unsigned i) {
    gridDim = at.grid;
    blockDim = at.block;
    blockIdx = index(number, at.grid);
    threadIdx = index(i, at.block);
    run_thread(kernel, thread);
  });
}

unsigned running() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }

void run_blocks(const char* kernel, const Configuration& at, Call<> thread) {
  const Unwatched here;
  const std::uint64_t blocks = std::uint64_t(at.grid.x) * at.grid.y * at.grid.z;
  for (std::uint64_t i = only_last ? blocks - 1 : 0; i < blocks && error == cudaSuccess; ++i) {
    run_block(kernel, at, backwards && !only_last ? blocks - 1 - i : i, thread);
  }
}

}  // namespace

void launch(const char* kernel, const Configuration& at, Call<> thread) {
  if (!possible(at.grid, at.block)) return report(cudaErrorInvalidConfiguration, std::string(kernel) + ": grid or block");
  launch_begins();
  run_blocks(kernel, at, thread);
  launch_ends();
}

void* shared(const void* key, std::size_t bytes) {
  const Unwatched here;
  return block->shared(key, bytes);
}

unsigned lane() { return running() % kLanes; }

void meet(unsigned mask, int line) {
  const Unwatched here;
  block->meet_lanes(running(), mask, line);
}

void* slot(unsigned lane) { return &block->warp_of(running()).slots[lane]; }

void expect_in_mask(unsigned lane, unsigned mask, int line) {
  if (lane < kLanes && (block->present(running(), mask) >> lane & 1) != 0) return;
  throw Fault{"a shuffle reads lane " + std::to_string(lane) + ", which takes no part, line " + std::to_string(line)};
}

void expect_aligned(const void* address, std::size_t size, int line) {
  if (reinterpret_cast<std::uintptr_t>(address) % size == 0) return;
  throw Fault{std::to_string(size) + " bytes at an address that is no multiple of that, line " + std::to_string(line)};
}

}  // namespace on_host

void __syncthreads(int line) {
  const on_host::Unwatched here;
  on_host::block->meet_all(on_host::running(), line);
}

cudaError_t cudaGetLastError() { return std::exchange(on_host::error, cudaSuccess); }

extern "C" {

// The last error in words.
const char* on_host_message() { return on_host::message.c_str(); }

// Whether threads and blocks run in reverse; whether each launch is its last block alone, for grids that take too long.
void on_host_order(bool backwards, bool only_last) {
  on_host::backwards = backwards;
  on_host::only_last = only_last;
}
}
