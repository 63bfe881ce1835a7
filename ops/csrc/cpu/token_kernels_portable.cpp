// Merging tokens on any processor.
#define MMCOMPRESS_LANES 4
#define MMCOMPRESS_ROWS 4
#include "token_loops.h"

namespace mmcompress {

const TokenKernels& portable_tokens() {
  static const TokenKernels table = make_tokens("portable");
  return table;
}

}  // namespace mmcompress
