// Sizes and addresses of match_merge, for kernels on CPUs and CUDA devices.
#pragma once

#include <cstdint>

namespace mmcompress {

// Keys that are equal are so similar, whatever rounding makes of 1.
constexpr float kMostSimilar = 1.0f - 8.0f / (1 << 23);

struct MatchMergeShape {
  int64_t batch, heads, tokens, dims, channels;
  int64_t num_new;  // tokens that are left
};

// Values of a head, and channels, lie together.
struct MatchMergeInput {
  const float* keys;
  int64_t key_batch_stride, key_head_stride, key_token_stride;
  const float* x;
  int64_t x_batch_stride, x_token_stride;
  const float* mass;  // (batch, tokens); null: 1
};

// All contiguous.
struct MatchMergeOutput {
  float* x;       // (batch, num_new, channels)
  float* mass;    // (batch, num_new)
  int64_t* slot;  // (batch, tokens)
};

}  // namespace mmcompress
