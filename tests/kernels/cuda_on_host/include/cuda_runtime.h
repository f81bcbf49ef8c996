// In place of the toolkit's header of this name: CUDA sources that rewrite.py has prepared run on the host.
#pragma once

// Functions of all floating types in the global namespace, as nvcc has them.
#include <math.h>

#include "on_host/launch.h"
#include "on_host/numbers.h"
#include "on_host/vectors.h"
#include "on_host/warp.h"

#define __host__
#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
