// Integer kernels as loops that a compiler vectorises without special flags.
// Only for files compiled for the same instruction set: see kernels.h.
#pragma once

#include <cstring>

#include "integer_kernels.h"
#include "quantize_loops.h"

namespace mmcompress {
namespace {

// Round half to even: |x| is far below 2^22.
int32_t round_to_even(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  return int32_t((x + kMagic) - kMagic);
}

// NaN becomes `low`.
float clamp_codes(float x, float low, float high) {
  x = x > low ? x : low;
  return x < high ? x : high;
}

void reciprocal_loop(const float* x, int64_t count, float reciprocal,
                     const CodeGrid& grid, uint8_t* codes) {
  const auto zero_point = float(grid.zero_point);
  const auto low = float(grid.low), high = float(grid.high);
  for (int64_t i = 0; i < count; ++i) {
    const float step = x[i] * reciprocal;
    codes[i] =
        uint8_t(round_to_even(clamp_codes(step + zero_point, low, high)));
  }
}

// One loop per rounding, each of which a compiler can vectorise.
void finish_loop(const IntegerEpilogue& args) {
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    float y[64];
    const int32_t* sums = args.sums + p * args.sums_stride;
    for (int64_t o = 0; o < args.channels; ++o)
      y[o] = float(sums[o]) * args.input_scale;
    for (int64_t o = 0; o < args.channels; ++o) y[o] *= args.scale[o];
    for (int64_t o = 0; o < args.channels; ++o) y[o] += args.bias[o];
    if (args.residual) {
      const float* residual = args.residual + p * args.residual_stride;
      for (int64_t o = 0; o < args.channels; ++o) y[o] += residual[o];
    }
    for (int64_t o = 0; o < args.channels; ++o) {
      y[o] = y[o] < args.lowest ? args.lowest : y[o];
      y[o] = y[o] > args.highest ? args.highest : y[o];
    }
    uint8_t* codes = args.codes + p * args.codes_stride;
    if (args.result == Result::kCodes) {
      reciprocal_loop(y, args.channels, args.next_scale, args.grid, codes);
      continue;
    }
    std::memcpy(args.y + p * args.y_stride, y, args.channels * sizeof(float));
    if (args.result == Result::kFloatsAndCodes)
      quantize(y, args.channels,
               {args.next_scale, args.grid.zero_point, args.grid.low,
                args.grid.high},
               codes);
  }
}

// A product of a code and a weight fits into 16 bits.
[[maybe_unused]] void sum_depthwise_loop(const SumArgs& args) {
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    int32_t* sums = args.sums + p * args.sums_stride;
    if (args.start)
      std::memcpy(sums, args.start, args.lanes * sizeof(int32_t));
    const auto* weights = reinterpret_cast<const int8_t*>(args.weights);
    for (int64_t i = 0; i < args.num_chunks; ++i, weights += args.lanes) {
      const uint8_t* x = args.pixels[p] + args.chunks[i].offset + args.skip;
      for (int64_t lane = 0; lane < args.lanes; ++lane)
        sums[lane] += int16_t(int16_t(x[lane]) * int16_t(weights[lane]));
    }
  }
}

}  // namespace
}  // namespace mmcompress
