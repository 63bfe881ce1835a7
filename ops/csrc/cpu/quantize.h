// float32 -> codes, see Grid in codes_kernels.h.
#pragma once

#include <cstdint>

#include "binary_conv.h"
#include "codes_kernels.h"

namespace mmcompress {

void quantize_codes(const float* x, int64_t count, const Grid& grid,
                    uint8_t* codes, const CodesKernels& kernels,
                    const Parallel& parallel);

// An image whose pixels lie next to each other, channel by channel, into
// codes (N, H * W, C).
struct Planes {
  const float* data;
  int64_t batch, channels, num_pixels;
  int64_t image_stride, channel_stride;  // in floats
};

void quantize_planes(const Planes& x, const Grid& grid, uint8_t* codes,
                     const CodesKernels& kernels, const Parallel& parallel);

// Of rows of norm.channels.
void layer_norm_codes(const LayerNorm& norm, const float* x, int64_t rows,
                      const Grid& grid, uint8_t* codes,
                      const CodesKernels& kernels, const Parallel& parallel);

}  // namespace mmcompress
