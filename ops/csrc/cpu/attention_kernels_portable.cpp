// Attention on any processor.
#include "attention_kernels.h"
#include "attention_loops.h"

namespace mmcompress {

const AttentionKernels& portable_attention() {
  static const AttentionKernels table = {"portable", attend<16, 2>};
  return table;
}

}  // namespace mmcompress
