// 1-bit convolution on CPUs, free of any framework.
//
// Packed bits are uint8 (N, H, W, packed_bytes(C)): channel c is bit c % 8 of
// byte c / 8, set for +1, and the bits after the last channel are 0. The dot
// product of n signs is k = n - 2 * mismatches. Outputs lie channels-last.
// Callers check sizes and pointers; functions throw std::runtime_error only
// for blobs that don't fit.
#pragma once

#include <cstdint>

#include "blob.h"
#include "kernels.h"
#include "parallel.h"

namespace mmcompress {

struct ConvShape {
  int64_t batch;
  int64_t height;
  int64_t width;
  WeightShape weight;
  int64_t stride_h, stride_w;
  int64_t padding_h, padding_w;
  int64_t dilation_h, dilation_w;
  int pad_value;  // 0: taps outside of the image are skipped; -1: they are -1

  int64_t out_height() const {
    return (height + 2 * padding_h - dilation_h * (weight.kernel_h - 1) - 1) /
               stride_h + 1;
  }
  int64_t out_width() const {
    return (width + 2 * padding_w - dilation_w * (weight.kernel_w - 1) - 1) /
               stride_w + 1;
  }
};

// A float image (N, C, H, W) with any strides, counted in floats.
struct FloatImage {
  const float* data;
  int64_t stride_n, stride_c, stride_h, stride_w;
};

// How floats become bits; null threshold: 0, null flip: no channel.
struct Thresholds {
  const float* threshold;
  const bool* flip;  // where true the bit is x < t, else x > t
};

// Either packed bits or a float image that is packed on the way.
struct ConvInput {
  const uint8_t* bits;
  FloatImage image;
  Thresholds thresholds;
};

// y = scale * k + shift; y += residual; y += pre; y = y > 0 ? y : slope * y;
// y += post; every operation is rounded to float32. Null: step left out.
struct FloatOutput {
  const float* scale;
  const float* shift;
  FloatImage residual;
  const float* pre;
  const float* slope;
  const float* post;
  Thresholds next;
  float* y;       // null: not wanted
  uint8_t* bits;  // null: not wanted
};

void pack(const FloatImage& x, int64_t batch, int64_t channels, int64_t height,
          int64_t width, const Thresholds& thresholds, uint8_t* bits,
          const Parallel& parallel);

// bits (num_pixels, packed_bytes(channels)) -> -1 and +1.
void unpack(const uint8_t* bits, int64_t num_pixels, int64_t channels,
            float* signs);

// k as int32.
void conv_counts(const ConvShape& shape, const ConvInput& input,
                 const Blob& blob, int32_t* k, const Parallel& parallel);

// bit = (k >= limit) ^ flip.
void conv_bits(const ConvShape& shape, const ConvInput& input,
               const Blob& blob, const int32_t* limit, const bool* flip,
               uint8_t* bits, const Parallel& parallel);

void conv_float(const ConvShape& shape, const ConvInput& input,
                const Blob& blob, const FloatOutput& output,
                const Parallel& parallel);

}  // namespace mmcompress
