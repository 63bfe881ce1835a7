// RoIAlign (Mask R-CNN, average pooling) of channels-last feature maps.
//
// A bilinear sample is a product of two interpolations, so the mean over the
// samples of a bin is a weighted mean over rows of weighted means over
// columns. Each pixel of a region is read once instead of four times per
// sample, and all channels of a pixel lie together.
#pragma once

#include <cstdint>

#include "binary_conv.h"

namespace mmcompress {

// Most samples per bin and axis where the region decides: its work has a
// bound, however far out of the image it reaches.
constexpr float kMaxSamples = 4096.0f;

struct RoIAlignShape {
  int64_t batch, channels, height, width;
  int64_t num_regions;
  int64_t bins_h, bins_w;
  float spatial_scale;
  int64_t sampling_ratio;  // samples per bin and axis; 0: one per pixel
  bool aligned;            // pixel centres are at half coordinates
};

// `x` has neighbouring channels (stride_c 1), `rois` is (num_regions, 5): the
// number of an image, which must be one of the batch, and x1, y1, x2, y2. `out`
// is (num_regions, channels, bins_h, bins_w), contiguous.
void roi_align(const RoIAlignShape& shape, const FloatImage& x,
               const float* rois, float* out, const Kernels& kernels,
               const Parallel& parallel);

}  // namespace mmcompress
