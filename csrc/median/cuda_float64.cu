// The networks of float64.
#include "median/cuda_networks.h"

namespace buttress {

template void launch_network<Type::float64>(const CudaJob&, const Records&, unsigned, cudaStream_t);

}  // namespace buttress
