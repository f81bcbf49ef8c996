// The launch code of csrc/median/cuda.h for ctypes: numbers and addresses in, a cudaError_t out.
#include "median/cuda.h"

using namespace buttress;

extern "C" {

std::int64_t median_tile = kTile, median_head = kHead, median_rows_in_launch = kRowsInLaunch;

int median(int type, int n, std::int64_t tensors, std::int64_t tiles, const std::int64_t* records,
           const std::int64_t* table, int lower, int upper, bool mean) {
  return median_cuda({Type(type), n, tensors, tiles, records, table, lower, upper, mean}, nullptr);
}
}
