// The networks of float16.
#include "median/cuda_networks.h"

namespace buttress {

template void launch_network<Type::float16>(const CudaJob&, const Records&, unsigned, cudaStream_t);

}  // namespace buttress
