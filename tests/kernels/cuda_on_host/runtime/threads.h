// The threads of a block as fibers: one runs until it waits or ends, then another one, in a known order.
#pragma once

#include "on_host/launch.h"

namespace on_host {

// Thrown out of `suspend` where no thread can go on any more.
struct Stuck {};

// Runs thread(0), ..., thread(count - 1) of a block, the last one first if `backwards`, to their ends. They throw
// nothing but Stuck.
void run_threads(unsigned count, bool backwards, Call<unsigned> thread);

// Called by the running thread: stops it until another one wakes it.
void suspend(unsigned thread);
void wake(unsigned thread);

// Around all blocks of a launch: for ThreadSanitizer, blocks come in no order.
void launch_begins();
void launch_ends();

}  // namespace on_host
