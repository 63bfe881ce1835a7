// Which table of token_kernels.h goes with which of kernels.h.
#include "token_kernels.h"

namespace mmcompress {

const TokenKernels& tokens_by_name(const std::string& name) {
#ifdef __x86_64__
  if (name == "avx512") return avx512_tokens();
  if (name == "avx2" && __builtin_cpu_supports("fma")) return avx2_tokens();
#endif
#ifdef __aarch64__
  if (name == "neon") return neon_tokens();
#endif
  return portable_tokens();
}

}  // namespace mmcompress
