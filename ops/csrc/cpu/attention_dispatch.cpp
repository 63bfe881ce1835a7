// Which table of attention_kernels.h goes with which of kernels.h.
#include "attention_kernels.h"

namespace mmcompress {

const AttentionKernels& attention_by_name(const std::string& name) {
#ifdef __x86_64__
  if (name == "avx512") return avx512_attention();
  if (name == "avx2" && __builtin_cpu_supports("fma")) return avx2_attention();
#endif
  return portable_attention();
}

}  // namespace mmcompress
