// Max pooling of codes.
#pragma once

#include <cstdint>

#include "binary_conv.h"

namespace mmcompress {

// Images (N, H, W, C): planes of other layouts are images of one channel.
// Windows overlap the image.
struct PoolShape {
  int64_t batch, height, width, channels;
  int64_t kernel_h, kernel_w;
  int64_t stride_h, stride_w;
  int64_t padding_h, padding_w;

  int64_t out_height() const {
    return (height + 2 * padding_h - kernel_h) / stride_h + 1;
  }
  int64_t out_width() const {
    return (width + 2 * padding_w - kernel_w) / stride_w + 1;
  }
};

// The largest code of each window.
void max_pool(const PoolShape& shape, const uint8_t* x, uint8_t* out,
              const Parallel& parallel);

}  // namespace mmcompress
