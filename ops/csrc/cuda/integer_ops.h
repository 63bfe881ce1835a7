// The integer operators on a CUDA device: raw pointers, sizes and a stream.
//
// Maps are unsigned codes, channels last, `code_bytes` bytes per pixel, with
// anything after the last channel. Weights are signed codes of 2, 4 or 8 bits,
// as docs/ops.md says. Maps and blobs are aligned to 16 bytes; scales of a whole
// tensor are one float on the device. Functions report as those of
// binary_ops.h do.
#pragma once

#include "conv_shape.h"

namespace mmcompress {
namespace cuda {

// Codes from `low` to `high`; `zero_point` is the code of 0.
struct Grid {
  int zero_point, low, high;
};

// Bytes per pixel of a map that convolutions read.
inline int64_t code_bytes(int64_t channels) { return (channels + 7) / 8 * 8; }

// codes = clamp(round(x / scale) + zero_point) of `count` neighbours; x is
// aligned to 16 bytes.
const char* quantize_vector(const float* x, int64_t count, const float* scale,
                            const Grid& grid, uint8_t* codes, void* stream);

// A map of the shape (N, C, H, W) with any strides (in elements).
struct StridedMap {
  int64_t strides[4];
  int batch, channels, height, width;
};

// The same codes, channels last, `row_bytes` per pixel, filled up with 0.
const char* quantize_map(const float* x, const StridedMap& map,
                         const float* scale, const Grid& grid, int row_bytes,
                         uint8_t* codes, void* stream);

const char* arrange_codes(const uint8_t* x, const StridedMap& map,
                          int row_bytes, uint8_t* codes, void* stream);

// Sizes differ between kernels.
size_t integer_blob_bytes(const ConvShape& shape, Kernel kernel, int bits);

// `codes` is the flattened (K, C / groups, kh, kw), the first one in the lowest
// bits of the first byte.
const char* integer_prepack(const ConvShape& shape, Kernel kernel, int bits,
                            const uint8_t* codes, uint8_t* blob, void* stream);

// The largest sum of absolute weights of an output, an int64 on the device.
const char* largest_weights(const ConvShape& shape, int bits,
                            const uint8_t* codes, int64_t* largest,
                            void* stream);

enum class Activation { kNone, kRelu, kRelu6 };

// y = (float(acc) * input_scale) * scale (+ bias) (+ residual), then the
// activation, each operation rounded on its own. What is absent is nullptr.
struct IntegerArguments {
  int zero_point = 0;  // of the input
  const float* input_scale = nullptr;
  const float* scale = nullptr;
  const float* bias = nullptr;
  const float* residual = nullptr;
  int64_t residual_strides[4] = {0, 0, 0, 0};  // of (N, K, OH, OW), elements
  Activation activation = Activation::kNone;
  float* y = nullptr;        // (N, OH, OW, K)
  uint8_t* codes = nullptr;  // of the same shape
  const float* next_scale = nullptr;
  Grid next_grid = {0, 0, 0};
  bool by_reciprocal = false;  // y * (1 / next_scale) instead of a division
};

const char* integer_conv(const ConvShape& shape, Plan plan, int bits,
                         const uint8_t* map, const uint8_t* blob,
                         const IntegerArguments& arguments, void* stream);

}  // namespace cuda
}  // namespace mmcompress
