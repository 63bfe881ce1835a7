#include "integer_row.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "rates.h"

namespace mmcompress {
namespace {

// What is added to a weight, and subtracted from a code.
uint32_t weight_offset(int bits) { return bits == 8 ? 0 : 1 << (bits - 1); }
uint32_t code_offset(int bits) { return bits == 8 ? 0 : 128; }

// Place of a weight: byte of the panel, and its lowest bit there.
struct Place {
  int64_t byte;
  int shift;
};

Place place_of(int64_t output, int64_t channel, int bits) {
  // 64 fields that belong together
  const int64_t group = channel / 4 * 2 + output / 16;
  const int64_t fields = 8 / bits;
  return {group / fields * 64 + output % 16 * 4 + channel % 4,
          int(group % fields) * bits};
}

// Rows as the kernels read them, and their sums.
class Operand {
 public:
  Operand(const RowShape& shape, const Rows& rows, const CodesKernels& kernels)
      : channels_(shape.padded_channels()), codes_(rows.count * channels_) {
    const uint8_t flip = uint8_t(code_offset(shape.bits));
    for (int64_t r = 0; r < rows.count; ++r) {
      uint8_t* target = codes_.data() + r * channels_;
      if (rows.codes)
        std::memcpy(target, rows.codes + r * shape.channels, shape.channels);
      else
        kernels.quantize(rows.values + r * shape.channels, shape.channels,
                         rows.grid, target);
      sums_[r] = 0;
      if (!flip) continue;
      for (int64_t c = 0; c < shape.channels; ++c) {
        target[c] ^= flip;
        sums_[r] += uint32_t(int8_t(target[c]));
      }
    }
  }

  const uint8_t* row(int64_t r) const { return codes_.data() + r * channels_; }
  uint32_t sum(int64_t r) const { return sums_[r]; }

 private:
  int64_t channels_;
  std::vector<uint8_t> codes_;
  uint32_t sums_[kMostRows];
};

using Multiply = void (*)(const PanelProducts&);

// Any number of channels.
void multiply_all(Multiply multiply, const PanelProducts& all, int bits) {
  PanelProducts part = all;
  part.channels = std::min(all.channels, kMostChannels);
  multiply(part);
  for (int64_t k = kMostChannels; k < all.channels; k += kMostChannels) {
    uint32_t sums[kMostRows * kPanel];
    part.weights = all.weights + kPanel * k * bits / 8;
    part.rows = all.rows + k;
    part.channels = std::min(all.channels - k, kMostChannels);
    part.sums = sums;
    multiply(part);
    for (int64_t i = 0; i < all.num_rows * kPanel; ++i) all.sums[i] += sums[i];
  }
}

}  // namespace

void prepack_rows(const int8_t* codes, const RowShape& shape, uint8_t* blob) {
  std::memset(blob, 0, shape.total_bytes());
  uint8_t* const panels =
      blob + shape.panels() * kPanel * int64_t(sizeof(int32_t));
  for (int64_t o = 0; o < shape.outputs; ++o) {
    uint8_t* panel = panels + o / kPanel * shape.panel_bytes();
    uint32_t sum = 0;
    for (int64_t c = 0; c < shape.channels; ++c) {
      const int8_t code = codes[o * shape.channels + c];
      const Place place = place_of(o % kPanel, c, shape.bits);
      const uint32_t field =
          (uint32_t(code) + weight_offset(shape.bits)) &
          ((1u << shape.bits) - 1);
      panel[place.byte] |= uint8_t(field << place.shift);
      sum += uint32_t(code);
    }
    std::memcpy(blob + o * sizeof sum, &sum, sizeof sum);
  }
}

void linear_rows(const RowShape& shape, const uint8_t* blob, const Rows& rows,
                 const float* scale, const float* bias, float* y,
                 const CodesKernels& kernels, const Parallel& parallel) {
  const Operand operand(shape, rows, kernels);
  const Multiply multiply = shape.bits == 2   ? kernels.multiply2
                        : shape.bits == 4 ? kernels.multiply4
                                          : kernels.multiply8;
  const uint32_t* sums = reinterpret_cast<const uint32_t*>(blob);
  const uint8_t* panels =
      blob + shape.panels() * kPanel * int64_t(sizeof(int32_t));
  const auto body = [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel)
      for (int64_t r = 0; r < rows.count; r += kernels.most_rows) {
        uint32_t products[kMostRows * kPanel];
        const int64_t num_rows = std::min(kernels.most_rows, rows.count - r);
        multiply_all(multiply, {panels + panel * shape.panel_bytes(),
                                operand.row(r), shape.padded_channels(),
                                num_rows, shape.padded_channels(), products},
                     shape.bits);
        const int64_t first = panel * kPanel;
        for (int64_t i = 0; i < num_rows; ++i)
          kernels.finish(
              {products + i * kPanel, sums + first,
               weight_offset(shape.bits) * operand.sum(r + i),
               code_offset(shape.bits) - uint32_t(rows.grid.zero),
               rows.grid.scale, scale + first, bias ? bias + first : nullptr,
               std::min(kPanel, shape.outputs - first),
               y + (r + i) * shape.outputs + first});
      }
  };
  const auto bytes = double(shape.panels() * shape.panel_bytes());
  const double products = bytes * 8 / shape.bits * double(rows.count);
  parallel.share(std::max(bytes / kReadBytes,
                          products / rates_of(kernels.name).row_products),
                 shape.panels(), body);
}

}  // namespace mmcompress
