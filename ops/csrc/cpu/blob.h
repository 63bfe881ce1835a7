// Weights in the private layout of one instruction set, made by `prepack`.
//
// A blob is one block of bytes: a header that says what it is, a table that
// corrects dot products at the border, and the weights of each group and
// segment of 64 output channels. It is made at load time and never stored.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace mmcompress {

struct WeightShape {
  int64_t num_outputs;        // K, of all groups
  int64_t channels_per_group;  // C / groups
  int64_t kernel_h;
  int64_t kernel_w;
  int64_t groups;

  int64_t taps() const { return kernel_h * kernel_w; }
  int64_t channels() const { return channels_per_group * groups; }
  int64_t outputs_per_group() const { return num_outputs / groups; }
  // n of k = n - 2 * mismatches
  int64_t products() const { return taps() * channels_per_group; }
  int64_t segments_per_group() const {
    return ceil_div(outputs_per_group(), kSegment);
  }
};

// Where the parts of a blob lie, in bytes.
struct BlobLayout {
  int64_t lanes;
  int64_t segment_bytes;
  int64_t border_offset;
  int64_t weights_offset;
  int64_t dense_offset;
  int64_t dense_bytes;  // of a segment; 0 where there is no dense form
  int64_t total_bytes;

  BlobLayout(const WeightShape& shape, const Kernels& kernels);
};

struct Blob {
  const Kernels* kernels;
  int64_t lanes;
  int64_t segment_bytes;
  // int32 (kernel_h + 1, kernel_w + 1, K): entry (y, x) is the sum over the
  // taps above y and left of x of what a pixel of -1 adds to the dot product
  const int32_t* border;
  const uint8_t* weights;  // (groups, segments) times segment_bytes
  const uint8_t* dense;    // for few rows, segments times dense_bytes; or null
  int64_t dense_bytes;
};

// `bits` are packed weights (K, kernel_h, kernel_w, packed_bytes(C / groups)).
void prepack(const uint8_t* bits, const WeightShape& shape,
             const Kernels& kernels, uint8_t* blob);

// Throws std::runtime_error if these bytes are no blob, or one of another
// shape, or for a CPU other than this.
Blob open_blob(const uint8_t* blob, int64_t size, const WeightShape& shape);

}  // namespace mmcompress
