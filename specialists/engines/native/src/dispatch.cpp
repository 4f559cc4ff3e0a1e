// Which instruction sets are compiled in (PH_HAVE_*, set by the build) and which of them this processor has.
#include <cstring>

#include "kernels.h"

namespace ph {

extern const Kernels kernels_plain;
#if defined(PH_HAVE_X86)
extern const Kernels kernels_avx2, kernels_avx512, kernels_vnni;
#endif

const Kernels* const* usable_kernels(int* count) {
  static const Kernels* found[4];
  static int usable = 0;
  static const bool once = [] {
#if defined(PH_HAVE_X86)
    __builtin_cpu_init();
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
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
