// LayerNorm into codes, operation by operation as
// mmcompress/ops/layer_norm.py says, in loops that a compiler vectorises.
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

}  // namespace
}  // namespace mmcompress
