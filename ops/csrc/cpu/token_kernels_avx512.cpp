// Merging tokens with AVX-512.
#define MMCOMPRESS_LANES 16
#define MMCOMPRESS_ROWS 12
#include "token_loops.h"

namespace mmcompress {

const TokenKernels& avx512_tokens() {
  static const TokenKernels table = make_tokens("avx512");
  return table;
}

}  // namespace mmcompress
