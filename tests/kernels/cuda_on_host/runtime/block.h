// Who waits for whom in one block of threads.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "on_host/warp.h"

namespace on_host {

// Something that a kernel must not do.
struct Fault {
  std::string message;
};

struct Warp {
  std::array<unsigned, kLanes> waits{};  // the mask of the meeting at which a lane waits, or 0
  std::array<std::uint64_t, kLanes> slots{};
};

class Block {
 public:
  Block(unsigned threads, unsigned char garbage);

  // Both return when all have come: all threads, or those lanes of the warp that the mask names.
  void meet_all(unsigned thread, int line);
  void meet_lanes(unsigned thread, unsigned mask, int line);

  Warp& warp_of(unsigned thread) { return warps_[thread / kLanes]; }

  // A shared variable of this block, full of garbage first; `key` says which.
  void* shared(const void* key, std::size_t bytes);

  // The lanes of a warp that a mask names; the last warp may have less than 32 threads.
  unsigned present(unsigned thread, unsigned mask) const;

 private:
  bool last_of_all(int line);
  static bool last_of_lanes(Warp& warp, unsigned lane, unsigned mask);

  unsigned threads_;
  unsigned char garbage_;
  std::map<const void*, std::unique_ptr<unsigned char[]>> shared_;
  unsigned arrived_ = 0;
  int line_ = 0;
  std::vector<Warp> warps_;
};

}  // namespace on_host
