// Quantization as loops that a compiler vectorises. Only for files compiled
// for one instruction set: see kernels.h.
#pragma once

#include <cstring>

#include "codes_kernels.h"

namespace mmcompress {
namespace {

// Adding it leaves no bits for fractions: the sum is rounded, ties to even,
// and its last byte is that of the integer.
constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// A grid as the loops need it.
struct Levels {
  float scale, low, high;
  uint32_t zero;

  explicit Levels(const Grid& grid)
      : scale(grid.scale),
        low(float(grid.low - grid.zero)),
        high(float(grid.high - grid.zero)),
        zero(uint32_t(grid.zero)) {}

  // The bounds are integers, so they may be taken before rounding.
  uint32_t code(float x) const {
    float value = x / scale;
    value = value > low ? value : low;  // also where it is not a number
    value = value < high ? value : high;
    return (bits_of(value + kRounder) + zero) & 0xff;
  }
};

void quantize(const float* x, int64_t count, const Grid& grid,
              uint8_t* codes) {
  const Levels levels(grid);
  for (int64_t i = 0; i < count; ++i) codes[i] = uint8_t(levels.code(x[i]));
}

constexpr int64_t kPixelBlock = 64;

// Four channels of a block of pixels, one in each byte.
void quantize_four(const float* x, int64_t channel_stride, int64_t num_pixels,
                   const Levels& levels, uint32_t* fours) {
  const float* second = x + channel_stride;
  const float* third = second + channel_stride;
  const float* fourth = third + channel_stride;
  for (int64_t p = 0; p < num_pixels; ++p)
    fours[p] = levels.code(x[p]) | levels.code(second[p]) << 8 |
               levels.code(third[p]) << 16 | levels.code(fourth[p]) << 24;
}

[[maybe_unused]] void quantize_pixels(const float* x, int64_t channel_stride,
                                      int64_t channels, int64_t num_pixels,
                                      const Grid& grid, uint8_t* codes) {
  const Levels levels(grid);
  for (int64_t first = 0; first < num_pixels; first += kPixelBlock) {
    const int64_t size =
        num_pixels - first < kPixelBlock ? num_pixels - first : kPixelBlock;
    const float* channel = x + first;
    uint8_t* target = codes + first * channels;
    int64_t c = 0;
    for (; c + 4 <= channels; c += 4, channel += 4 * channel_stride) {
      uint32_t fours[kPixelBlock];
      quantize_four(channel, channel_stride, size, levels, fours);
      for (int64_t p = 0; p < size; ++p)
        std::memcpy(target + p * channels + c, &fours[p], 4);
    }
    for (; c < channels; ++c, channel += channel_stride) {
      uint8_t ones[kPixelBlock];
      quantize(channel, size, grid, ones);
      for (int64_t p = 0; p < size; ++p) target[p * channels + c] = ones[p];
    }
  }
}

}  // namespace
}  // namespace mmcompress
