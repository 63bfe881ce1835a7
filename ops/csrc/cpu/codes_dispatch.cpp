// Which table of codes_kernels.h goes with which of kernels.h.
#include "codes_kernels.h"

namespace mmcompress {

const CodesKernels& codes_by_name(const std::string& name) {
#ifdef __x86_64__
  if (name == "avx512" && __builtin_cpu_supports("avx512vnni"))
    return avx512_codes();
  if (name == "avx2" || name == "avx512") return avx2_codes();
#endif
#ifdef __aarch64__
  if (name == "neon") return neon_codes();
#endif
  return portable_codes();
}

}  // namespace mmcompress
