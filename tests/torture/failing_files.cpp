// Put before libc by LD_PRELOAD: counts what a process does to files below a folder; the n-th of these operations fails,
// or the process is killed before it, or within a write. Python, torch and the safetensors library all come here.

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

enum Mode { COUNT, FAIL, KILL_BEFORE, KILL_AFTER };

char folder[PATH_MAX];
long chosen, mode = COUNT, code, log_descriptor = -1;
long *count;  // shared with the process that forked this one, which reads it when this one has been killed

__attribute__((constructor)) void begin() {
  count = static_cast<long *>(
      mmap(nullptr, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

[[noreturn]] void die() {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

bool is_below(const char *path) {
  const size_t length = strlen(folder);
  return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

struct Place {
  char path[2 * PATH_MAX] = "";

  explicit Place(int descriptor) { of(descriptor); }

  Place(int parent, const char *name) {
    if (!name || name[0] == '/') {
      snprintf(path, sizeof path, "%s", name ? name : "");
      return;
    }
    if (parent != AT_FDCWD)
      of(parent);
    else if (!getcwd(path, PATH_MAX))
      path[0] = 0;
    const size_t length = strlen(path);
    snprintf(path + length, sizeof path - length, "/%s", name);
  }

private:
  void of(int descriptor) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t length = syscall(SYS_readlink, link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
  }
};

// What is to become of an operation: go on, fail, or be killed after it.
Mode turn(const char *what, const Place &place) {
  const int before = errno;
  if (!folder[0] || !is_below(place.path)) return COUNT;
  const long number = __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
  if (log_descriptor >= 0) {
    char line[3 * PATH_MAX];
    const int length = snprintf(line, sizeof line, "%s %s\n", what, place.path);
    if (syscall(SYS_write, log_descriptor, line, static_cast<size_t>(length)) < 0) abort();
  }
  errno = before;
  if (number != chosen) return COUNT;
  if (mode == KILL_BEFORE) die();
  if (mode == FAIL) errno = static_cast<int>(code);
  return static_cast<Mode>(mode);
}

template <typename Function> Function *next(const char *name) {
  return reinterpret_cast<Function *>(dlsym(RTLD_NEXT, name));
}

template <typename Call> auto taken(const char *what, const Place &place, Call call) -> decltype(call()) {
  const Mode fate = turn(what, place);
  if (fate == FAIL) return static_cast<decltype(call())>(-1);
  const auto found = call();
  if (fate == KILL_AFTER) die();
  return found;
}

bool writes(int flags) { return flags & (O_WRONLY | O_RDWR | O_CREAT); }

} // namespace

extern "C" {

void failing_files_begin(const char *below, long which, long what, long error, long log) {
  snprintf(folder, sizeof folder, "%s", below);
  chosen = which, mode = what, code = error, log_descriptor = log;
  *count = 0;
}

long failing_files_count() { return *count; }

#define OPEN(NAME)                                                                                                     \
  int NAME(const char *path, int flags, ...) {                                                                         \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    const mode_t permissions = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                             \
    va_end(rest);                                                                                                      \
    const auto real = next<int(const char *, int, ...)>(#NAME);                                                        \
    if (!writes(flags)) return real(path, flags, permissions);                                                         \
    const char *what = flags & O_CREAT && access(path, F_OK) ? "create" : "open";                                      \
    return taken(what, Place(AT_FDCWD, path), [&] { return real(path, flags, permissions); });                         \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(NAME)                                                                                                   \
  int NAME(int parent, const char *path, int flags, ...) {                                                             \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    const mode_t permissions = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                             \
    va_end(rest);                                                                                                      \
    const auto real = next<int(int, const char *, int, ...)>(#NAME);                                                   \
    if (!writes(flags)) return real(parent, path, flags, permissions);                                                 \
    const char *what = flags & O_CREAT && faccessat(parent, path, F_OK, 0) ? "create" : "open";                        \
    return taken(what, Place(parent, path), [&] { return real(parent, path, flags, permissions); });                   \
  }
OPENAT(openat)
OPENAT(openat64)

// Of writes that are killed, half is written.
#define WRITE(NAME, PARAMETERS, ARGUMENTS, HALF)                                                                       \
  ssize_t NAME PARAMETERS {                                                                                            \
    const auto real = next<ssize_t PARAMETERS>(#NAME);                                                                 \
    const Mode fate = turn("write", Place(descriptor));                                                                \
    if (fate == FAIL) return -1;                                                                                       \
    if (fate != KILL_AFTER) return real ARGUMENTS;                                                                     \
    real HALF;                                                                                                         \
    die();                                                                                                             \
  }
WRITE(write, (int descriptor, const void *data, size_t size), (descriptor, data, size), (descriptor, data, size / 2))
WRITE(pwrite64, (int descriptor, const void *data, size_t size, off_t at), (descriptor, data, size, at),
      (descriptor, data, size / 2, at))
WRITE(writev, (int descriptor, const iovec *parts, int number), (descriptor, parts, number),
      (descriptor, parts, number / 2))
WRITE(sendfile, (int descriptor, int source, off_t *at, size_t size), (descriptor, source, at, size),
      (descriptor, source, at, size / 2))

#define OF_DESCRIPTOR(WHAT, NAME, PARAMETERS, ARGUMENTS)                                                               \
  int NAME PARAMETERS {                                                                                                \
    const auto real = next<int PARAMETERS>(#NAME);                                                                     \
    return taken(WHAT, Place(descriptor), [&] { return real ARGUMENTS; });                                             \
  }
OF_DESCRIPTOR("sync", fsync, (int descriptor), (descriptor))
OF_DESCRIPTOR("sync", fdatasync, (int descriptor), (descriptor))
OF_DESCRIPTOR("truncate", ftruncate, (int descriptor, off_t size), (descriptor, size))
OF_DESCRIPTOR("truncate", ftruncate64, (int descriptor, off_t size), (descriptor, size))
OF_DESCRIPTOR("chmod", fchmod, (int descriptor, mode_t permissions), (descriptor, permissions))

#define OF_PATH(WHAT, NAME, PARENT, PATH, PARAMETERS, ARGUMENTS)                                                       \
  int NAME PARAMETERS {                                                                                                \
    const auto real = next<int PARAMETERS>(#NAME);                                                                     \
    return taken(WHAT, Place(PARENT, PATH), [&] { return real ARGUMENTS; });                                           \
  }
OF_PATH("truncate", truncate, AT_FDCWD, path, (const char *path, off_t size), (path, size))
OF_PATH("truncate", truncate64, AT_FDCWD, path, (const char *path, off_t size), (path, size))
OF_PATH("chmod", chmod, AT_FDCWD, path, (const char *path, mode_t permissions), (path, permissions))
OF_PATH("chmod", fchmodat, parent, path, (int parent, const char *path, mode_t permissions, int flags),
        (parent, path, permissions, flags))
OF_PATH("mkdir", mkdir, AT_FDCWD, path, (const char *path, mode_t permissions), (path, permissions))
OF_PATH("mkdir", mkdirat, parent, path, (int parent, const char *path, mode_t permissions),
        (parent, path, permissions))
OF_PATH("remove", rmdir, AT_FDCWD, path, (const char *path), (path))
OF_PATH("remove", unlink, AT_FDCWD, path, (const char *path), (path))
OF_PATH("remove", unlinkat, parent, path, (int parent, const char *path, int flags), (parent, path, flags))
OF_PATH("link", link, AT_FDCWD, path, (const char *source, const char *path), (source, path))
OF_PATH("link", linkat, parent, path, (int from, const char *source, int parent, const char *path, int flags),
        (from, source, parent, path, flags))
OF_PATH("rename", rename, AT_FDCWD, path, (const char *source, const char *path), (source, path))
OF_PATH("rename", renameat, parent, path, (int from, const char *source, int parent, const char *path),
        (from, source, parent, path))
OF_PATH("rename", renameat2, parent, path,
        (int from, const char *source, int parent, const char *path, unsigned flags),
        (from, source, parent, path, flags))

} // extern "C"
