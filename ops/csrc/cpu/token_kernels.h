// What one instruction set provides for merging tokens, as kernels.h does for
// bits: a table of plain function pointers, whose files share no inline
// function.
#pragma once

#include <cstdint>
#include <string>

#include "kernels.h"

namespace mmcompress {

// The keys of one token: neighbouring values of each head.
struct TokenKeys {
  const float* data;
  int64_t head_stride;
  int64_t heads;
  int64_t dims;
  int64_t next;  // from here to the token that is read afterwards
};

// Products of the tokens in one panel of rows with all columns. A panel holds
// the vectors of some tokens side by side: [dims][tile].
struct Similarities {
  const float* rows;     // one panel
  const float* columns;  // panels; what is behind the last column is no number
  int64_t num_columns;
  int64_t dims;
  // Of each row: the largest product, at most kMostSimilar, -inf if none is a
  // number, and the first column that has it.
  float* best;
  int32_t* column;
};

// One row of floats, the average of some.
struct TokenAverage {
  const float* const* rows;
  const float* weights;
  int64_t num_rows;
  float total;  // of the weights
  int64_t channels;
  float* out;
};

struct TokenKernels {
  const char* name;
  // Tokens in a panel.
  int64_t tile_rows;
  int64_t tile_columns;

  // The sum over all heads, of length 1 (0 stays), to out[0], out[stride]...;
  // `scratch` has room for dims floats.
  void (*unit_key)(const TokenKeys& keys, float* scratch, int64_t stride,
                   float* out);
  // Each product adds up in the same order, wherever its tokens lie.
  void (*find_best)(const Similarities& args);
  void (*average)(const TokenAverage& args);
};

const TokenKernels& portable_tokens();
const TokenKernels& avx2_tokens();
const TokenKernels& avx512_tokens();
const TokenKernels& neon_tokens();

// The table for kernels of this name, which this CPU can run, or a slower one
// where it lacks what tokens need on top.
const TokenKernels& tokens_by_name(const std::string& name);

}  // namespace mmcompress
