// Merging tokens with AVX2 and FMA.
#define MMCOMPRESS_LANES 8
#define MMCOMPRESS_ROWS 6
#include "token_loops.h"

namespace mmcompress {

const TokenKernels& avx2_tokens() {
  static const TokenKernels table = make_tokens("avx2");
  return table;
}

}  // namespace mmcompress
