// Which instruction sets are compiled in (PH_HAVE_*, set by the build) and which of them this processor has.
#include <cstring>
#if defined(PH_HAVE_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "kernels.h"

namespace ph {

extern const Kernels kernels_plain;
#if defined(PH_HAVE_X86)
extern const Kernels kernels_avx2, kernels_avx512, kernels_vnni;
#endif

#if defined(PH_HAVE_AMX)
extern const Kernels kernels_amx;

// Linux lets a process use tiles only when it asks (their state would make every signal's frame larger).
static bool may_use_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const unsigned tile_and_int8 = 3u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tile_and_int8) != tile_and_int8) return false;
  const long request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#endif

const Kernels* const* usable_kernels(int* count) {
  static const Kernels* found[5];
  static int usable = 0;
  static const bool once = [] {
#if defined(PH_HAVE_X86)
    __builtin_cpu_init();
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#if defined(PH_HAVE_AMX)
    if (wide && __builtin_cpu_supports("avx512vnni") && may_use_tiles()) found[usable++] = &kernels_amx;
#endif
    if (wide && __builtin_cpu_supports("avx512vnni")) found[usable++] = &kernels_vnni;
    if (wide) found[usable++] = &kernels_avx512;
    // every processor with AVX2 that was ever sold converts f16 too
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found[usable++] = &kernels_avx2;
#endif
    found[usable++] = &kernels_plain;
    return true;
  }();
  (void)once;
  *count = usable;
  return found;
}

const Kernels* find_kernels(const char* name) {
  int count = 0;
  const Kernels* const* usable = usable_kernels(&count);
  if (name == nullptr || std::strcmp(name, "auto") == 0) return usable[0];
  for (int i = 0; i < count; i++)
    if (std::strcmp(usable[i]->name, name) == 0) return usable[i];
  return nullptr;
}

}  // namespace ph
