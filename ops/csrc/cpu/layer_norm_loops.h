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
constexpr int64_t kQuarter = kSumLanes / 4;

// Rows at once: one alone waits for each of its additions.
constexpr int64_t kRows = 16;

// Sums of terms(row, 0..count), each of 64 sums that are then halved.
template <typename Terms>
void sum_rows(int64_t rows, int64_t count, const Terms& terms,
              float (&totals)[kRows]) {
  float quarters[kQuarter][kRows] = {};
  for (int64_t r = 0; r < rows; ++r) {
    float sums[kSumLanes] = {};
    int64_t first = 0;
    for (; first + kSumLanes <= count; first += kSumLanes)
      for (int64_t i = 0; i < kSumLanes; ++i) sums[i] += terms(r, first + i);
    for (int64_t i = 0; first + i < count; ++i) sums[i] += terms(r, first + i);
    for (int64_t i = 0; i < kQuarter; ++i)
      quarters[i][r] = (sums[i] + sums[2 * kQuarter + i]) +
                       (sums[kQuarter + i] + sums[3 * kQuarter + i]);
  }
  for (int64_t half = kQuarter / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i)
      for (int64_t r = 0; r < kRows; ++r)
        quarters[i][r] += quarters[half + i][r];
  for (int64_t r = 0; r < kRows; ++r) totals[r] = quarters[0][r];
}

// Of up to kRows rows.
void layer_norm_block(const LayerNorm& norm, const float* x, int64_t rows,
                      const Levels& levels, uint8_t* codes) {
  const int64_t count = norm.channels;
  float means[kRows], factors[kRows];
  sum_rows(rows, count, [=](int64_t r, int64_t i) { return x[r * count + i]; },
           means);
  for (float& mean : means) mean /= float(count);
  const auto square = [=, &means](int64_t r, int64_t i) {
    const float y = x[r * count + i] - means[r];
    return y * y;
  };
  sum_rows(rows, count, square, factors);
  for (float& factor : factors)
    factor = 1.0f / std::sqrt(factor / float(count) + norm.eps);
  const float* const weight = norm.weight;
  const float* const bias = norm.bias;
  for (int64_t r = 0; r < rows; ++r, x += count, codes += count) {
    const float mean = means[r], factor = factors[r];
    for (int64_t i = 0; i < count; ++i) {
      const float y = (x[i] - mean) * factor * weight[i] + bias[i];
      codes[i] = uint8_t(levels.code(y));
    }
  }
}

void layer_norm(const LayerNorm& norm, const float* x, int64_t rows,
                const Grid& grid, uint8_t* codes) {
  const Levels levels(grid);
  for (int64_t r = 0; r < rows; r += kRows)
    layer_norm_block(norm, x + r * norm.channels,
                     rows - r < kRows ? rows - r : kRows, levels,
                     codes + r * norm.channels);
}

}  // namespace
}  // namespace mmcompress
