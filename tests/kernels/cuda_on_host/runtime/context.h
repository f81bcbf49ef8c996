// A stack, and the place in it where its code goes on. The sanitizers are told of every change between stacks.
#pragma once

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <new>

#if defined(ON_HOST_thread)
#include <sanitizer/tsan_interface.h>

extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#elif defined(ON_HOST_address)
#include <sanitizer/common_interface_defs.h>
#endif

namespace on_host {

class Context {
 public:
  Context() = default;  // of the code that runs already
  explicit Context(void (*entry)());
  Context(const Context&) = delete;
  ~Context();

  // Goes on with `to`; returns when something goes on with this one.
  void leave_for(Context& to);

  // The first thing that an entry calls.
  static void enter();

 private:
  static constexpr std::size_t kStack = 1 << 18;
  void* stack_ = nullptr;
  ucontext_t context_{};
#if defined(ON_HOST_thread)
  void* fiber_ = __tsan_get_current_fiber();
#elif defined(ON_HOST_address)
  void* fake_ = nullptr;
  const void* bottom_ = nullptr;
  std::size_t size_ = 0;
#else
  jmp_buf place_{};
  bool started_ = true;
#endif
};

// Orders between threads, which ThreadSanitizer cannot see: what came before `signal` came before what follows `await`.
inline void signal([[maybe_unused]] void* of) {
#ifdef ON_HOST_thread
  __tsan_release(of);
#endif
}

inline void await([[maybe_unused]] void* of) {
#ifdef ON_HOST_thread
  __tsan_acquire(of);
#endif
}

// Whether ThreadSanitizer sees what the running thread does: kernels, but not the runtime's own memory.
inline void watch([[maybe_unused]] bool on) {
#ifdef ON_HOST_thread
  (on ? AnnotateIgnoreReadsEnd : AnnotateIgnoreReadsBegin)(__FILE__, __LINE__);
  (on ? AnnotateIgnoreWritesEnd : AnnotateIgnoreWritesBegin)(__FILE__, __LINE__);
#endif
}

struct Unwatched {
  Unwatched() { watch(false); }
  ~Unwatched() { watch(true); }
};

}  // namespace on_host
