// Attention by vectors of 16, of which there are 32 registers.
#include "attention_kernels.h"
#include "attention_loops.h"

namespace mmcompress {

const AttentionKernels& avx512_attention() {
  static const AttentionKernels table = {"avx512", attend<64, 4>};
  return table;
}

}  // namespace mmcompress
