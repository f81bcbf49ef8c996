// Device memory: full of garbage first, with guards that tell a write beyond its ends. AddressSanitizer has its own.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace on_host {
namespace {

#ifdef ON_HOST_address
constexpr std::size_t kGuard = 0;
#else
constexpr std::size_t kGuard = 4096;
#endif

constexpr std::size_t kAlignment = 256;  // as of cudaMalloc
constexpr unsigned char kGarbage = 0xff;

// Other bytes for each array: a kernel that goes too far in all of them must not write what is there already.
unsigned char mark_of(const unsigned char* memory) {
  return static_cast<unsigned char>(reinterpret_cast<std::uintptr_t>(memory) / kAlignment % 251);
}

bool marked(const unsigned char* guard, unsigned char mark) {
  for (std::size_t i = 0; i < kGuard; ++i) {
    if (guard[i] != mark) return false;
  }
  return true;
}

}  // namespace

}  // namespace on_host

extern "C" {

unsigned char* on_host_allocate(std::size_t bytes) {
  using namespace on_host;
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes + 2 * kGuard) != 0) throw std::bad_alloc();
  const auto start = static_cast<unsigned char*>(memory);
  std::memset(start, mark_of(start + kGuard), kGuard);
  std::memset(start + kGuard, kGarbage, bytes);
  std::memset(start + kGuard + bytes, mark_of(start + kGuard), kGuard);
  return start + kGuard;
}

// Whether nothing was written before or behind the memory.
bool on_host_free(unsigned char* memory, std::size_t bytes) {
  using namespace on_host;
  const bool whole = marked(memory - kGuard, mark_of(memory)) && marked(memory + bytes, mark_of(memory));
  std::free(memory - kGuard);
  return whole;
}
}
