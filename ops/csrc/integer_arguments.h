// Arguments of the operators of integers, in the words of mmcompress/ops/
// quantize.py and integer.py; for the bindings for CPU and CUDA.
#pragma once

#include <string>

#include "arguments.h"

namespace mmcompress {
namespace binding {

inline void check_grid(const char* name, const Ints& grid) {
  STD_TORCH_CHECK(grid.size() == 3 && 0 <= grid[1] && grid[1] <= grid[0] &&
                      grid[0] <= grid[2] && grid[2] <= 255,
                  name,
                  " must be [zero_point, low, high] with 0 <= low <= "
                  "zero_point <= high <= 255, it is ",
                  text(grid));
}

inline void check_bits(int64_t bits) {
  STD_TORCH_CHECK(bits == 2 || bits == 4 || bits == 8,
                  "bits must be 2, 4 or 8, it is ", bits);
}

inline void check_high(int64_t high) {
  STD_TORCH_CHECK(0 <= high && high <= 255, "high must be 0 to 255, it is ",
                  high);
}

inline void check_act(const std::string& name) {
  STD_TORCH_CHECK(name.empty() || name == "relu" || name == "relu6",
                  "act must be '', 'relu' or 'relu6', it is '", name, "'");
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

}  // namespace binding
}  // namespace mmcompress
