// Arguments of the operators of integers, in the words of mmcompress/ops/
// quantize.py, integer_blob.py and integer.py; for the bindings for CPU and
// CUDA.
#pragma once

#include <string>

#include "arguments.h"

namespace mmcompress {
namespace binding {

// `Grid` begins with the zero point, the lowest and the highest code.
template <class Grid>
Grid grid_of(const char* name, const Ints& grid) {
  STD_TORCH_CHECK(grid.size() == 3 && 0 <= grid[1] && grid[1] <= grid[0] &&
                      grid[0] <= grid[2] && grid[2] <= 255,
                  name,
                  " must be [zero_point, low, high] with 0 <= low <= "
                  "zero_point <= high <= 255, it is ",
                  text(grid));
  return {int32_t(grid[0]), int32_t(grid[1]), int32_t(grid[2])};
}

// The scale of a whole tensor, kept alive, or nothing.
inline Vector scale_of(const char* name, const MaybeTensor& scale,
                       const Tensor& input) {
  return Vector(name, scale, ScalarType::Float, 1, input);
}

inline void check_bits(int64_t bits) {
  STD_TORCH_CHECK(bits == 2 || bits == 4 || bits == 8,
                  "bits must be 2, 4 or 8, it is ", bits);
}

inline void check_high(int64_t high) {
  STD_TORCH_CHECK(0 <= high && high <= 255, "high must be 0 to 255, it is ",
                  high);
}

template <class Activation>
Activation activation_of(const std::string& name) {
  STD_TORCH_CHECK(name.empty() || name == "relu" || name == "relu6",
                  "act must be '', 'relu' or 'relu6', it is '", name, "'");
  return name.empty()     ? Activation::kNone
         : name == "relu" ? Activation::kRelu
                          : Activation::kRelu6;
}

// Codes, or what becomes codes.
inline void check_codes_or_floats(const Tensor& x) {
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float ||
                      x.scalar_type() == ScalarType::Byte,
                  "x must be uint8 codes or float32, it is ",
                  name_of(x.scalar_type()));
}

inline void check_codes_image(const Tensor& x) {
  check_codes_or_floats(x);
  STD_TORCH_CHECK(x.dim() == 4, "x must be (N, C, H, W), it has shape ",
                  text(shape_of(x)));
  check_sizes("x", x);
}

// Of the result of a linear layer, (..., C) -> (..., K).
inline Ints linear_shape(const Tensor& x, const Ints& weight_shape) {
  check_codes_or_floats(x);
  check_sizes("x", x);
  check_weight_shape(weight_shape, 1);
  STD_TORCH_CHECK(weight_shape[2] == 1 && weight_shape[3] == 1,
                  "weight_shape must be [K, C, 1, 1], it is ",
                  text(weight_shape));
  Ints shape = shape_of(x);
  STD_TORCH_CHECK(!shape.empty(), "x must have a dimension of features");
  STD_TORCH_CHECK(shape.back() == weight_shape[1], "x has ", shape.back(),
                  " channels, the weight wants ", weight_shape[1]);
  shape.back() = weight_shape[0];
  return shape;
}

}  // namespace binding
}  // namespace mmcompress
