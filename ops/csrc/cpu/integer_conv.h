// Convolutions of integers on CPUs, free of any framework.
//
// Inputs are codes, uint8, or floats that become codes on the way; taps
// outside of the image count as the zero point. Outputs lie channels-last.
// Callers check sizes and pointers.
#pragma once

#include <cstdint>

#include "binary_conv.h"
#include "integer_blob.h"

namespace mmcompress {

// An image (N, C, H, W) with any strides, counted in elements.
struct IntegerInput {
  const uint8_t* codes;  // null: of `image`, by `scale`
  FloatImage image;      // its strides are also those of `codes`
  float scale;
  CodeGrid grid;
};

enum class Activation { kNone, kRelu, kRelu6 };

// See IntegerEpilogue.
struct IntegerOutput {
  float input_scale;
  const float* scale;
  const float* bias;  // null: none
  FloatImage residual;
  Activation act;
  Result result;
  float* y;
  uint8_t* codes;
  float next_scale;
  CodeGrid grid;
};

// `pad_value` of the shape has no meaning here.
void integer_conv(const ConvShape& shape, const IntegerInput& input,
                  const IntegerBlob& blob, const IntegerOutput& output,
                  const Parallel& parallel);

}  // namespace mmcompress
