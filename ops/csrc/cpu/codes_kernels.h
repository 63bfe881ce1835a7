// What one instruction set provides for integer codes, as kernels.h does for
// bits: a table of plain function pointers, whose files share no inline
// function.
#pragma once

#include <cstdint>
#include <string>

#include "kernels.h"

namespace mmcompress {

// code = clamp(round_half_even(x / scale) + zero, low, high), low where x is
// not a number. 0 <= low <= zero <= high <= 255.
struct Grid {
  float scale;
  int32_t zero, low, high;
};

// Outputs whose weights lie together, and input channels up to a multiple of
// which they are filled up with 0: see integer_row.h.
constexpr int64_t kPanel = 32;
constexpr int64_t kChannelGranule = 16;

// Most channels at once: sums of 255 * 128 stay below 2^31.
constexpr int64_t kMostChannels = 1 << 15;

// Products of some rows with the weights of one panel.
struct PanelProducts {
  const uint8_t* weights;
  const uint8_t* rows;
  int64_t row_stride;
  int64_t num_rows;  // 1..most_rows
  int64_t channels;  // a multiple of kChannelGranule, at most kMostChannels
  uint32_t* sums;       // (num_rows, kPanel), modulo 2^32
};

// y = float(acc) * input_scale * scale + bias, of one row and panel, where
// acc = sums - row_part + column_factor * weight_sums modulo 2^32.
struct PanelOutput {
  const uint32_t* sums;
  const uint32_t* weight_sums;
  uint32_t row_part, column_factor;
  float input_scale;
  const float* scale;
  const float* bias;  // null: none is added
  int64_t outputs;    // 1..kPanel
  float* y;
};

// See mmcompress/ops/layer_norm.py.
struct LayerNorm {
  const float* weight;
  const float* bias;
  int64_t channels;
  float eps;
};

struct CodesKernels {
  const char* name;

  void (*quantize)(const float* x, int64_t count, const Grid& grid,
                   uint8_t* codes);
  // Pixels lie next to each other in `x` and channels in `codes`.
  void (*quantize_pixels)(const float* x, int64_t channel_stride,
                          int64_t channels, int64_t num_pixels,
                          const Grid& grid, uint8_t* codes);
  // Rows of norm.channels.
  void (*layer_norm)(const LayerNorm& norm, const float* x, int64_t rows,
                     const Grid& grid, uint8_t* codes);

  // Weights of 2, 4 and 8 bits; most rows at once.
  void (*multiply2)(const PanelProducts& args);
  void (*multiply4)(const PanelProducts& args);
  void (*multiply8)(const PanelProducts& args);
  int64_t most_rows;
  void (*finish)(const PanelOutput& args);
};

const CodesKernels& portable_codes();
const CodesKernels& avx2_codes();
const CodesKernels& avx512_codes();
const CodesKernels& neon_codes();

// The table for kernels of this name, which this CPU can run, or a slower one
// where it lacks what codes need on top.
const CodesKernels& codes_by_name(const std::string& name);

}  // namespace mmcompress
