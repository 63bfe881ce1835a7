// Attention by vectors of 8, fused multiplications and additions.
#include "attention_kernels.h"
#include "attention_loops.h"

namespace mmcompress {

const AttentionKernels& avx2_attention() {
  static const AttentionKernels table = {"avx2", attend<32, 2>};
  return table;
}

}  // namespace mmcompress
