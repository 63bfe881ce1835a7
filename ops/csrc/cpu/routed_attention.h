// Attention of the tokens of each region of a map to those of a few others.
//
// Keys and values are read where they are; only the keys of one head that a
// region looks at are brought together, from a transposed copy of all.
#pragma once

#include <cstdint>

#include "attention_kernels.h"
#include "parallel.h"

namespace mmcompress {

// Tokens of (N, H, W, C), the channels next to each other. Strides count
// floats.
struct TokenMap {
  const float* data;
  int64_t stride_n, stride_h, stride_w;
};

struct RoutedShape {
  int64_t batch;
  int64_t grid_h, grid_w;    // regions
  int64_t query_h, query_w;  // tokens of a region
  int64_t key_h, key_w;      // the same of keys and values
  int64_t topk;
  int64_t heads;
  int64_t dims, value_dims;  // of a head
  float scale;

  int64_t regions() const { return grid_h * grid_w; }
  int64_t queries() const { return query_h * query_w; }
  int64_t keys() const { return key_h * key_w; }
};

// `routes` is (batch, regions, topk), numbers of regions; `out` has the size
// of the queries and is contiguous.
void routed_attention(const RoutedShape& shape, const TokenMap& q,
                      const TokenMap& k, const TokenMap& v,
                      const int64_t* routes, float* out,
                      const AttentionKernels& kernels,
                      const Parallel& parallel);

}  // namespace mmcompress
