#include "context.h"

namespace on_host {

#ifdef ON_HOST_address
namespace {

// Whose stack was left last: its bounds are learned on arriving elsewhere.
thread_local const void** bottom_left = nullptr;
thread_local std::size_t* size_left = nullptr;

}  // namespace
#endif

Context::Context(void (*entry)())
    : stack_(mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
  if (stack_ == MAP_FAILED) throw std::bad_alloc();
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = kStack;
  makecontext(&context_, entry, 0);
#if defined(ON_HOST_thread)
  fiber_ = __tsan_create_fiber(0);
#elif defined(ON_HOST_address)
  bottom_ = stack_;
  size_ = kStack;
#else
  started_ = false;
#endif
}

Context::~Context() {
  if (stack_ != nullptr) munmap(stack_, kStack);
}

#if defined(ON_HOST_thread)

void Context::leave_for(Context& to) {
  __tsan_switch_to_fiber(to.fiber_, __tsan_switch_to_fiber_no_sync);
  swapcontext(&context_, &to.context_);
}

void Context::enter() {}

#elif defined(ON_HOST_address)

void Context::leave_for(Context& to) {
  bottom_left = &bottom_;
  size_left = &size_;
  __sanitizer_start_switch_fiber(&fake_, to.bottom_, to.size_);
  swapcontext(&context_, &to.context_);
  __sanitizer_finish_switch_fiber(fake_, bottom_left, size_left);
}

void Context::enter() { __sanitizer_finish_switch_fiber(nullptr, bottom_left, size_left); }

#else

// swapcontext makes a system call: it serves for the first start alone.
void Context::leave_for(Context& to) {
  if (_setjmp(place_) != 0) return;
  if (to.started_) _longjmp(to.place_, 1);
  to.started_ = true;
  setcontext(&to.context_);
}

void Context::enter() {}

#endif

}  // namespace on_host
