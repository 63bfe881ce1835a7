// LayerNorm and GELU into codes, operation by operation as
// mmcompress/ops/fused_codes.py says, in loops that a compiler vectorises.
// Only for files compiled for one instruction set: see kernels.h.
#pragma once

#include <cmath>

#include "quantize_loops.h"

namespace mmcompress {
namespace {

// Sums that grow side by side.
constexpr int64_t kSumLanes = 64;

// Sum of terms(0..count), 64 sums that are then halved.
template <typename Terms>
float sum_of(int64_t count, const Terms& terms) {
  float sums[kSumLanes] = {};
  int64_t first = 0;
  for (; first + kSumLanes <= count; first += kSumLanes)
    for (int64_t i = 0; i < kSumLanes; ++i) sums[i] += terms(first + i);
  for (int64_t i = 0; first + i < count; ++i) sums[i] += terms(first + i);
  for (int64_t half = kSumLanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) sums[i] += sums[half + i];
  return sums[0];
}

void layer_norm(const LayerNorm& norm, const float* x, const Grid& grid,
                uint8_t* codes) {
  const Levels levels(grid);
  const int64_t count = norm.channels;
  const float mean =
      sum_of(count, [=](int64_t i) { return x[i]; }) / float(count);
  const float variance = sum_of(count, [=](int64_t i) {
                           const float y = x[i] - mean;
                           return y * y;
                         }) / float(count);
  const float factor = 1.0f / std::sqrt(variance + norm.eps);
  const float* const weight = norm.weight;
  const float* const bias = norm.bias;
  for (int64_t i = 0; i < count; ++i) {
    const float y = (x[i] - mean) * factor * weight[i] + bias[i];
    codes[i] = uint8_t(levels.code(y));
  }
}

float clamp(float x, float low, float high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

void gelu(const float* x, int64_t count, const Grid& grid, uint8_t* codes) {
  const Levels levels(grid);
  for (int64_t i = 0; i < count; ++i) {
    const float t = clamp(x[i] * 0.7071067690849304f, -4.0f, 4.0f);
    const float s = t * t;
    float p = s * 1.9869689822371583e-06f;
    p = (p + 0.0002845449198503047f) * s;
    p = (p + 0.0038823450449854136f) * s;
    p = (p + 0.053098611533641815f) * s;
    p = (p + 0.19352151453495026f) * s;
    p = p + 1.1283791065216064f;
    float q = s * 3.742104672710411e-05f;
    q = (q + 0.0011853331234306097f) * s;
    q = (q + 0.015205228701233864f) * s;
    q = (q + 0.11534025520086288f) * s;
    q = (q + 0.5048365592956543f) * s;
    q = q + 1.0f;
    const float erf = clamp(t * p / q, -1.0f, 1.0f);
    codes[i] = uint8_t(levels.code(x[i] * 0.5f * (erf + 1.0f)));
  }
}

}  // namespace
}  // namespace mmcompress
