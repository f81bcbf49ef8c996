// A fiber runs threads one after another while they do not wait, so that a kernel without barriers is a plain loop. One
// whose thread waits is left, and another fiber goes on. Under ThreadSanitizer each thread has a fiber of its own, as
// have those of the block before: to it the threads of one fiber would be one.
#include "threads.h"

#include <memory>
#include <utility>
#include <vector>

#include "context.h"
#include "on_host/launch.h"

namespace on_host {
namespace {

#ifdef ON_HOST_thread
constexpr bool kOwnFibers = true;
#else
constexpr bool kOwnFibers = false;
#endif

enum class State : char { unstarted, running, waiting, ready, ended };

struct Thread {
  State state = State::unstarted;
  Context* fiber = nullptr;
};

using Fibers = std::vector<Context*>;

// One block at a time.
struct Scheduler {
  Context own;
  const Call<unsigned>* body = nullptr;
  bool backwards = false, stuck = false;
  unsigned begun = 0, ended = 0;
  std::vector<Thread> threads;
  std::vector<std::unique_ptr<Context>> fibers;
  Fibers idle, resting, used;  // to be taken; used by the block before; by this one
  Context* current = nullptr;
  char start = 0, end = 0;  // marks of a launch, for their addresses

  unsigned count() const { return unsigned(threads.size()); }
  unsigned at(unsigned position) const { return backwards ? count() - 1 - position : position; }

  Context* fiber();
  void resume(Context* fiber);
  void run_next();
  void run_fiber();
  bool sweep();
  void let_rest();
};

Scheduler& scheduler() {
  static Scheduler one;
  return one;
}

void enter_fiber() {
  Context::enter();
  watch(false);
  scheduler().run_fiber();
}

void Scheduler::run_next() {
  const unsigned thread = at(begun++);
  threads[thread].state = State::running;
  watch(true);
  await(&start);
  (*body)(thread);
  signal(&end);
  watch(false);
  threads[thread].state = State::ended;
  ++ended;
}

void Scheduler::run_fiber() {
  for (;;) {
    do run_next();
    while (!kOwnFibers && begun < count());
    (kOwnFibers ? used : idle).push_back(current);
    current->leave_for(own);
  }
}

Context* Scheduler::fiber() {
  if (idle.empty()) {
    fibers.push_back(std::make_unique<Context>(enter_fiber));
    return fibers.back().get();
  }
  Context* fiber = idle.back();
  idle.pop_back();
  return fiber;
}

void Scheduler::resume(Context* fiber) {
  current = fiber;
  own.leave_for(*fiber);
}

// Runs every thread that can run as far as it can; false where none could.
bool Scheduler::sweep() {
  bool some = false;
  for (unsigned position = 0; position < count(); ++position) {
    const Thread& thread = threads[at(position)];
    if (thread.state != State::unstarted && thread.state != State::ready) continue;
    some = true;
    resume(thread.state == State::unstarted ? fiber() : thread.fiber);
  }
  return some;
}

void Scheduler::let_rest() {
  idle.insert(idle.end(), resting.begin(), resting.end());
  resting = std::exchange(used, {});
}

}  // namespace

void run_threads(unsigned count, bool backwards, Call<unsigned> thread) {
  Scheduler& all = scheduler();
  all.body = &thread;
  all.backwards = backwards;
  all.stuck = false;
  all.begun = all.ended = 0;
  all.threads.assign(count, {});
  while (all.ended < count) {
    if (all.sweep()) continue;
    all.stuck = true;
    for (Thread& each : all.threads) each.state = each.state == State::waiting ? State::ready : each.state;
  }
  all.let_rest();
}

void suspend(unsigned thread) {
  Scheduler& all = scheduler();
  const uint3 index = threadIdx;
  all.threads[thread] = {State::waiting, all.current};
  all.current->leave_for(all.own);
  threadIdx = index;
  all.threads[thread].state = State::running;
  if (all.stuck) throw Stuck();
  await(&all.threads[thread]);
}

void wake(unsigned thread) {
  signal(&scheduler().threads[thread]);
  scheduler().threads[thread].state = State::ready;
}

void launch_begins() { signal(&scheduler().start); }
void launch_ends() { await(&scheduler().end); }

}  // namespace on_host
