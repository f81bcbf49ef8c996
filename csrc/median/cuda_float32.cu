// The networks of float32.
#include "median/cuda_networks.h"

namespace buttress {

template void launch_network<Type::float32>(const CudaJob&, const Records&, unsigned, cudaStream_t);

}  // namespace buttress
