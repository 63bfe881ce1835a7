// One row times packed weights as loops without intrinsics. Only for files
// compiled for one instruction set: see kernels.h.
#pragma once

#include "codes_kernels.h"

namespace mmcompress {
namespace {

// Weights as integer_row.h lays them out; `kBits` bits each. Those of 8 bits
// are signed and meet unsigned codes, the others the other way round.
template <int kBits>
void multiply_loop(const PanelProducts& args) {
  constexpr int kFields = 8 / kBits;  // in a byte
  constexpr int kHalves = kBits == 8 ? 2 : 1;
  constexpr int64_t kChannels = kFields * kHalves * 2;  // per step, of 4 or 8
  for (int64_t r = 0; r < args.num_rows; ++r) {
    const uint8_t* row = args.rows + r * args.row_stride;
    const uint8_t* weights = args.weights;
    int32_t sums[kPanel] = {};
    for (int64_t k = 0; k < args.channels; k += kChannels) {
      for (int field = 0; field < kFields * kHalves; ++field) {
        // fields alternate between the halves of the panel
        const int64_t channel = k + 4 * (field / 2);
        const int64_t output = 16 * (field % 2);
        const uint8_t* bytes = weights + (kBits == 8 ? 64 * field : 0);
        const int shift = kBits == 8 ? 0 : kBits * field;
        for (int64_t o = 0; o < 16; ++o) {
          int32_t sum = 0;
          for (int64_t i = 0; i < 4; ++i) {
            const uint8_t byte = bytes[4 * o + i];
            sum += kBits == 8
                       ? int8_t(byte) * row[channel + i]
                       : (byte >> shift & ((1 << kBits) - 1)) *
                             int8_t(row[channel + i]);
          }
          sums[output + o] = int32_t(uint32_t(sums[output + o]) + sum);
        }
      }
      weights += 64 * kHalves;
    }
    for (int64_t o = 0; o < kPanel; ++o)
      args.sums[r * kPanel + o] = uint32_t(sums[o]);
  }
}

void finish(const PanelOutput& args) {
  float y[kPanel];
  // one loop per rounding, each of which a compiler can vectorise
  for (int64_t o = 0; o < args.outputs; ++o) {
    const uint32_t sum = args.sums[o] - args.row_part +
                         args.column_factor * args.weight_sums[o];
    y[o] = float(int32_t(sum)) * args.input_scale * args.scale[o];
  }
  if (args.bias)
    for (int64_t o = 0; o < args.outputs; ++o) y[o] += args.bias[o];
  for (int64_t o = 0; o < args.outputs; ++o) args.y[o] = y[o];
}

}  // namespace
}  // namespace mmcompress
