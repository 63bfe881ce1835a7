// Which kernel serves a convolution, and with which tiles.
#include "conv_shape.h"
#include "geometry.cuh"

namespace mmcompress {
namespace cuda {

bool supports(const ConvShape& shape, Kernel kernel) {
  return kernel == Kernel::kGeneric ||
         (shape.groups == 1 && shape.kernel_h <= 255 && shape.kernel_w <= 255);
}

Plan plan_conv(const ConvShape& shape, Kernel kernel) {
  if (kernel == Kernel::kGeneric) return {kernel, 0};
  const int groups = ceil_div(shape.out_channels, kGroupChannels);
  const int64_t wide_blocks =
      (shape.out_pixels() + kBlockPixels - 1) / kBlockPixels * (groups / 2);
  const bool wide = groups % 2 == 0 && wide_blocks >= multiprocessor_count();
  return {kernel, wide ? 128 : 64};
}

}  // namespace cuda
}  // namespace mmcompress
