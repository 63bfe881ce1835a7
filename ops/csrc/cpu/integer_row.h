// Linear layers of a few rows with weights of 2, 4 or 8 bits: bound by the
// memory of the weights, which stay packed and are unpacked in registers.
//
// Weights are in panels of 32 outputs, filled up with 0. Of a panel, 4
// neighbouring channels of 16 outputs are 64 fields; in the order of the
// channels, first the one half of the outputs and then the other, these are
//
//     8 bits: 64 bytes; signed
//     4 bits: the low and the high half of 64 bytes; w + 8
//     2 bits: from the lowest bits on, quarters of 64 bytes; w + 2
//
// so that a panel is one stream of memory. 4 and 2 bits are multiplied with
// signed codes, x - 128.
#pragma once

#include <cstdint>

#include "binary_conv.h"
#include "codes_kernels.h"

namespace mmcompress {

// Most rows for which this is meant.
constexpr int64_t kMostRows = 4;

struct RowShape {
  int64_t outputs, channels;
  int bits;  // 2, 4 or 8

  int64_t padded_channels() const {
    return kChannelGranule * ceil_div(channels, kChannelGranule);
  }
  int64_t panels() const { return ceil_div(outputs, kPanel); }
  int64_t panel_bytes() const { return kPanel * padded_channels() * bits / 8; }
  // Of all weights and, before them, their sums.
  int64_t total_bytes() const {
    return panels() * (kPanel * int64_t(sizeof(int32_t)) + panel_bytes());
  }
};

// codes (outputs, channels) -> total_bytes(), aligned to 64.
void prepack_rows(const int8_t* codes, const RowShape& shape, uint8_t* blob);

// Rows of codes or of values that are quantized first; the other is null.
struct Rows {
  const uint8_t* codes;
  const float* values;
  int64_t count;
  Grid grid;
};

// y = (float(sum of (code - zero) * w) * grid.scale) * scale + bias; each
// operation is rounded to float32. Sums of |w| * 255 are below 2^31.
void linear_rows(const RowShape& shape, const uint8_t* blob, const Rows& rows,
                 const float* scale, const float* bias, float* y,
                 const CodesKernels& kernels, const Parallel& parallel);

}  // namespace mmcompress
