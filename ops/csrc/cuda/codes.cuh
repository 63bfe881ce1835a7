// Real values to codes of a grid, as ops.quantize_codes does: halves to even
// numbers, NaN to the lowest code.
#pragma once

#include <cmath>

#include "integer_ops.h"
#include "primitives.cuh"

namespace mmcompress {
namespace cuda {

__device__ inline uint8_t clamp_code(float code, const Grid& grid) {
  // false for NaN
  const float raised = code > grid.low ? code : grid.low;
  return static_cast<uint8_t>(raised < grid.high ? raised : grid.high);
}

__device__ inline uint8_t quantize(float x, float scale, const Grid& grid) {
  return clamp_code(__fadd_rn(rintf(__fdiv_rn(x, scale)), grid.zero_point),
                    grid);
}

// With the reciprocal of the scale, and rounded after the zero point is added.
__device__ inline uint8_t requantize(float y, float reciprocal,
                                     const Grid& grid) {
  return clamp_code(rintf(__fadd_rn(__fmul_rn(y, reciprocal), grid.zero_point)),
                    grid);
}

}  // namespace cuda
}  // namespace mmcompress
