// The stand-in itself: exchange within warps, packed numbers, and what a kernel must not do.
#include <cuda_runtime.h>

#include <cstdint>

namespace {

// out [7, threads]
__global__ void exchanges(int* out) {
  const int thread = int(threadIdx.x), threads = int(blockDim.x), lane = thread % 32;
  const bool some = lane % 3 == 0;
  out[thread] = __shfl_sync(~0u, thread, 5);
  out[threads + thread] = __shfl_xor_sync(~0u, thread, 3);
  out[2 * threads + thread] = __shfl_up_sync(~0u, thread, 2, 8);
  out[3 * threads + thread] = __shfl_down_sync(~0u, thread, 2, 8);
  out[4 * threads + thread] = int(__ballot_sync(~0u, some));
  const unsigned half = lane < 16 ? 0xffffu : 0xffff0000u;
  out[5 * threads + thread] = __any_sync(half, lane == 20);
  __syncwarp();
  out[6 * threads + thread] = __all_sync(half, lane < 16);
}

// out [6, n]
__global__ void packed(const unsigned* a, const unsigned* b, int n, unsigned* out) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  out[i] = __vminu2(a[i], b[i]);
  out[n + i] = __vmaxu2(a[i], b[i]);
  out[2 * n + i] = __vmins2(a[i], b[i]);
  out[3 * n + i] = __vmaxs2(a[i], b[i]);
  out[4 * n + i] = __byte_perm(a[i], b[i], 0x9d47);
  out[5 * n + i] = min(max(a[i], __ldg(b + i)), 0x7fffffffu);
}

__global__ void indices(int* out) {
  const unsigned x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  out[y * gridDim.x * blockDim.x + x] = int(100 * y + x);
}

__global__ void unread(int* out) {
  __shared__ int shared;
  if (threadIdx.x == 0) out[blockIdx.x] = shared;
}

enum Misuse { returned, lines, mask, absent, odd };

__global__ void misused(int how) {
  if (how == returned && threadIdx.x == 7) return;
  if (how == lines && threadIdx.x == 7) __syncthreads();
  if (how == mask) __syncwarp(~0u << 1);
  if (how == absent) __shfl_sync(0xffffu, 1, int(threadIdx.x) == 3 ? 20 : 0);
  if (how == odd) __ldcs(reinterpret_cast<const uint2*>(4 * threadIdx.x + 8));
  __syncthreads();
}

}  // namespace

extern "C" {

int run_exchanges(int threads, int* out) {
  exchanges<<<1, threads>>>(out);
  return cudaGetLastError();
}

int run_packed(const unsigned* a, const unsigned* b, int n, unsigned* out) {
  packed<<<(n + 63) / 64, 64>>>(a, b, n, out);
  return cudaGetLastError();
}

int run_indices(int* out) {
  indices<<<dim3(2, 3), dim3(4, 2)>>>(out);
  return cudaGetLastError();
}

int run_unread(int* out) {
  unread<<<2, 32>>>(out);
  return cudaGetLastError();
}

int run_misused(int how, int threads) {
  misused<<<1, threads>>>(how);
  return cudaGetLastError();
}
}
