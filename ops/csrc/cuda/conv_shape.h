// A convolution, and which kernel computes it with which tiles.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mmcompress {
namespace cuda {

// A convolution; a linear layer is a 1x1 convolution of a 1x1 map per token.
struct ConvShape {
  int batch, channels, height, width;
  int out_channels, kernel_h, kernel_w;
  int stride_h = 1, stride_w = 1;
  int pad_h = 0, pad_w = 0;
  int dilation_h = 1, dilation_w = 1;
  int groups = 1;
  bool pad_minus_one = false;  // else out-of-image taps count nothing

  int out_height() const {
    return (height + 2 * pad_h - dilation_h * (kernel_h - 1) - 1) / stride_h + 1;
  }
  int out_width() const {
    return (width + 2 * pad_w - dilation_w * (kernel_w - 1) - 1) / stride_w + 1;
  }
  int64_t out_pixels() const {
    return int64_t(batch) * out_height() * out_width();
  }
};

// kTensorCore takes any channel count, but one group and kernels up to 255.
enum class Kernel { kGeneric, kTensorCore };

bool supports(const ConvShape& shape, Kernel kernel);

struct Plan {
  Kernel kernel = Kernel::kGeneric;
  int block_channels = 0;  // output channels per thread block: 64 or 128
};

// Small blocks where large ones would leave multiprocessors idle.
Plan plan_conv(const ConvShape& shape, Kernel kernel);

}  // namespace cuda
}  // namespace mmcompress
