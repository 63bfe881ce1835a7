// Merging tokens on 64-bit Arm.
#define MMCOMPRESS_LANES 4
#define MMCOMPRESS_ROWS 8
#include "token_loops.h"

namespace mmcompress {

const TokenKernels& neon_tokens() {
  static const TokenKernels table = make_tokens("neon");
  return table;
}

}  // namespace mmcompress
