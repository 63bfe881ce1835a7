// The float epilogue as loops that a compiler vectorises without special
// flags. Only for files compiled for the same instruction set: see kernels.h.
#pragma once

#include <cstring>

#include "kernels.h"

namespace mmcompress {
namespace {

void store_word(uint8_t* p, uint64_t word) {
  std::memcpy(p, &word, sizeof word);
}

// Up to 64 contiguous values as one word.
using PackWord = uint64_t (*)(const float* x, int64_t stride, int64_t channels,
                              const Comparison& compare);

template <PackWord pack_word>
void finish_float(const FloatEpilogue& args) {
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    float y[kSegment];
    const int32_t* k = args.k + p * args.k_stride;
    // one loop per rounding, each of which a compiler can vectorise
    for (int64_t o = 0; o < args.channels; ++o)
      y[o] = args.scale[o] * float(k[o]) + args.shift[o];
    if (args.residual) {
      const float* residual = args.residual + p * args.residual_stride;
      for (int64_t o = 0; o < args.channels; ++o) y[o] += residual[o];
    }
    if (args.pre)
      for (int64_t o = 0; o < args.channels; ++o) y[o] += args.pre[o];
    if (args.slope)
      for (int64_t o = 0; o < args.channels; ++o)
        y[o] = y[o] > 0.0f ? y[o] : args.slope[o] * y[o];
    if (args.post)
      for (int64_t o = 0; o < args.channels; ++o) y[o] += args.post[o];
    if (args.y)
      std::memcpy(args.y + p * args.y_stride, y,
                  args.channels * sizeof(float));
    if (args.bits)
      store_word(args.bits + p * args.bits_stride,
                 pack_word(y, 1, args.channels, args.next));
  }
}

}  // namespace
}  // namespace mmcompress
