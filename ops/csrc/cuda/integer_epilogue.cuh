// What becomes of an integer sum: a float, a code for the next layer, or both.
#pragma once

#include "codes.cuh"
#include "geometry.cuh"

namespace mmcompress {
namespace cuda {

// Equal to the reference bit for bit, as AffineEpilogue is.
struct IntegerEpilogue {
  IntegerArguments a;
  int channels;
  uint32_t* packed = nullptr;  // no bits are voted on

  IntegerEpilogue(const IntegerArguments& arguments, int out_channels)
      : a(arguments), channels(out_channels) {}

  struct Channel {
    float input_scale, scale, bias;
    float next;  // the next scale, or its reciprocal
  };
  __device__ Channel load(int channel) const {
    Channel c = {*a.input_scale, a.scale[channel],
                 a.bias ? a.bias[channel] : 0.0f,
                 a.codes ? *a.next_scale : 0.0f};
    if (a.by_reciprocal) c.next = __fdiv_rn(1.0f, c.next);
    return c;
  }

  // Offset of the pixel's first channel in the residual.
  __device__ int64_t locate(const OutputPixel& pixel) const {
    return pixel.image * a.residual_strides[0] +
           pixel.y * a.residual_strides[2] + pixel.x * a.residual_strides[3];
  }

  __device__ float value(const Channel& c, int64_t located, int channel,
                         int sum) const {
    float y = __fmul_rn(__fmul_rn(__int2float_rn(sum), c.input_scale), c.scale);
    if (a.bias) y = __fadd_rn(y, c.bias);
    if (a.residual)
      y = __fadd_rn(y, a.residual[located + channel * a.residual_strides[1]]);
    // -0 and NaN stay what they are
    if (a.activation != Activation::kNone) y = y < 0 ? 0 : y;
    if (a.activation == Activation::kRelu6) y = y > 6 ? 6 : y;
    return y;
  }

  __device__ bool apply(const Channel& c, int64_t pixel, int64_t located,
                        int channel, int sum) const {
    const float y = value(c, located, channel, sum);
    const int64_t index = pixel * channels + channel;
    if (a.y) a.y[index] = y;
    if (a.codes)
      a.codes[index] = a.by_reciprocal ? requantize(y, c.next, a.next_grid)
                                       : quantize(y, c.next, a.next_grid);
    return false;
  }
};

}  // namespace cuda
}  // namespace mmcompress
