// How fast one thread does each kind of work, about: drivers estimate from it
// how long a call takes, and parallel.h how many threads that is worth.
#pragma once

namespace mmcompress {

// Per microsecond, with what belongs to the work but not the start of a call.
struct Rates {
  // binary_conv.h: products of signs, and floats that become bits
  double sign_products;
  double packed_values;
  // integer_conv.h: products by WeightFormat, and sums that become results
  double quad_products;
  double pair_products;
  double depthwise_products;
  double sums;
  // integer_row.h: products in registers
  double row_products;
  // quantize.h: floats that become codes, and those of layer_norm_codes
  double codes;
  double normalized_values;
  // fake_quantize.h
  double fake_quantized;
  double fake_quantized_backward;
  // match_merge.h: products of keys, and values of keys and tokens
  double similarity_products;
  double token_values;
  // roi_align.h: outputs with one or two samples per bin
  double pooled_values;
  // routed_attention.h: products of queries, keys and values
  double attention_products;
};

// Of all kernels, per microsecond: bytes of weights that are read but once,
// whatever is computed of them.
constexpr double kReadBytes = 1e5;

// Codes that max pooling looks at.
constexpr double kMaxima = 5e4;

// Keys that change their place.
constexpr double kTransposed = 2e3;

// Of the kernels with this name.
const Rates& rates_of(const char* kernels);

}  // namespace mmcompress
