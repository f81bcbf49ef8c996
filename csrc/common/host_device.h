// Marks a function for the host and, under nvcc, for the device too.
#pragma once

#ifdef __CUDACC__
#define BUTTRESS_HOST_DEVICE __host__ __device__ __forceinline__
#else
// Always inline: a caller compiled for another instruction set could not inline it otherwise.
#define BUTTRESS_HOST_DEVICE inline __attribute__((always_inline))
#endif
