// The 1-bit operators on a CUDA device: raw pointers, sizes and a stream.
//
// No torch header here or in the .cu files: nvcc compiles them in seconds, and
// they run outside of Python (test_binary.cu) and without a GPU (emulator/).
//
// Layouts are those of docs/ops.md. Bits are bytes, channels last, least
// significant bit first, a pixel padded to 8 bytes with zeros; +1 is bit 1.
// All pointers to bits and blobs are aligned to 16 bytes.
//
// Every function enqueues its work on `stream` (a cudaStream_t) of the current
// device and returns nullptr, or the reason why it could not.
#pragma once

#include "conv_shape.h"

namespace mmcompress {
namespace cuda {

// Depends on the weight's shape and `groups` only. The sizes differ between
// kernels, so that a blob tells for which one it was made.
size_t blob_bytes(const ConvShape& shape, Kernel kernel);

const char* prepack(const ConvShape& shape, Kernel kernel,
                    const uint8_t* weight_bits, uint8_t* blob, void* stream);

// k, the dot product of signs: (N, OH, OW, K).
const char* conv_counts(const ConvShape& shape, Plan plan, const uint8_t* bits,
                        const uint8_t* blob, int32_t* counts, void* stream);

// bit = (k >= limit) XOR flip, packed: (N, OH, OW, 8 * ceil(K / 64)).
const char* conv_bits(const ConvShape& shape, Plan plan, const uint8_t* bits,
                      const uint8_t* blob, const int32_t* limit,
                      const bool* flip, uint8_t* out_bits, void* stream);

// y = scale * k + shift (+ residual) (+ pre) (PReLU by slope) (+ post), each
// operation rounded on its own. What is absent is nullptr.
struct AffineArguments {
  const float* scale = nullptr;
  const float* shift = nullptr;
  const float* residual = nullptr;
  int64_t residual_strides[4] = {0, 0, 0, 0};  // of (N, K, OH, OW), elements
  const float* pre = nullptr;
  const float* slope = nullptr;
  const float* post = nullptr;
  const float* threshold = nullptr;  // needed for out_bits
  const bool* flip = nullptr;
  float* y = nullptr;           // (N, OH, OW, K)
  uint8_t* out_bits = nullptr;  // bit = y > threshold, or y < threshold
};

const char* conv_affine(const ConvShape& shape, Plan plan, const uint8_t* bits,
                        const uint8_t* blob, const AffineArguments& arguments,
                        void* stream);

// bit = x > threshold (0 where absent), or x < threshold where flip; x has the
// shape (N, C, H, W) and any strides (in elements).
const char* pack(const float* x, const int64_t strides[4], int batch,
                 int channels, int height, int width, const float* threshold,
                 const bool* flip, uint8_t* bits, void* stream);

// -1 or +1, channels last.
const char* unpack(const uint8_t* bits, int64_t pixels, int channels, float* x,
                   void* stream);

}  // namespace cuda
}  // namespace mmcompress
