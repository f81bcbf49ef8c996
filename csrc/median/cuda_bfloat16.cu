// The networks of bfloat16.
#include "median/cuda_networks.h"

namespace buttress {

template void launch_network<Type::bfloat16>(const CudaJob&, const Records&, unsigned, cudaStream_t);

}  // namespace buttress
