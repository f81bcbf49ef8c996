#include "block.h"

#include <cstring>

#include "context.h"
#include "threads.h"

namespace on_host {

Block::Block(unsigned threads, unsigned char garbage)
    : threads_(threads), garbage_(garbage), warps_((threads + kLanes - 1) / kLanes) {}

void* Block::shared(const void* key, std::size_t bytes) {
  auto& memory = shared_[key];
  if (memory == nullptr) {
    memory.reset(new unsigned char[bytes]);
    std::memset(memory.get(), garbage_, bytes);
  }
  return memory.get();
}

unsigned Block::present(unsigned thread, unsigned mask) const {
  const unsigned first = thread / kLanes * kLanes;
  return threads_ - first < kLanes ? mask & ((1u << (threads_ - first)) - 1) : mask;
}

// Whether the thread that calls is the last one to come.
bool Block::last_of_all(int line) {
  if (arrived_ == 0) line_ = line;
  if (line_ != line) {
    throw Fault{"threads of one block wait at __syncthreads() of lines " + std::to_string(line_) + " and " +
                std::to_string(line)};
  }
  signal(this);
  if (++arrived_ < threads_) return false;
  await(this);
  arrived_ = 0;
  return true;
}

void Block::meet_all(unsigned thread, int line) {
  if (!last_of_all(line)) return suspend(thread);
  for (unsigned other = 0; other < threads_; ++other) {
    if (other != thread) wake(other);
  }
}

// Likewise for the lanes of a mask.
bool Block::last_of_lanes(Warp& warp, unsigned lane, unsigned mask) {
  signal(&warp.waits[lane]);
  warp.waits[lane] = mask;
  for (unsigned other = 0; other < kLanes; ++other) {
    if ((mask >> other & 1) != 0 && warp.waits[other] != mask) return false;
  }
  for (unsigned other = 0; other < kLanes; ++other) {
    if ((mask >> other & 1) == 0) continue;
    await(&warp.waits[other]);
    warp.waits[other] = 0;
  }
  return true;
}

void Block::meet_lanes(unsigned thread, unsigned mask, int line) {
  const unsigned lane = thread % kLanes, first = thread - lane;
  if ((mask >> lane & 1) == 0) {
    throw Fault{"lane " + std::to_string(lane) + " is not in its own mask, line " + std::to_string(line)};
  }
  mask = present(thread, mask);
  if (!last_of_lanes(warp_of(thread), lane, mask)) return suspend(thread);
  for (unsigned other = 0; other < kLanes; ++other) {
    if (other != lane && (mask >> other & 1) != 0) wake(first + other);
  }
}

}  // namespace on_host
