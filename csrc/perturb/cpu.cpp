// One body of loops, compiled for each instruction set, chosen when the program runs.
#include "perturb/cpu.h"

#include <cstddef>
#include <cstring>

#include "common/number.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define BUTTRESS_X86 1
#endif

namespace buttress::perturbation {
namespace {

namespace portable {
#include "perturb/passes.inc"
}  // namespace portable

#ifdef BUTTRESS_X86
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#include "perturb/passes.inc"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")
namespace avx512 {
#include "perturb/passes.inc"
}  // namespace avx512
#pragma GCC pop_options
#endif

const Passes& choose() {
#ifdef BUTTRESS_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    return avx512::kPasses;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kPasses;
#endif
  return portable::kPasses;
}

}  // namespace

const Passes& passes() {
  static const Passes& chosen = choose();
  return chosen;
}

}  // namespace buttress::perturbation
