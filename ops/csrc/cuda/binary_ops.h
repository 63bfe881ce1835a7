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

#include <cstddef>
#include <cstdint>

namespace mmcompress {
namespace cuda {

// A convolution; a linear layer is a 1x1 convolution of a 1x1 map per token.
struct ConvShape {
  int batch, channels, height, width;
  int out_channels, kernel_h, kernel_w;
  int stride_h = 1, stride_w = 1;
  int pad_h = 0, pad_w = 0;
  int dilation_h = 1, dilation_w = 1;
  int groups = 1;
  bool pad_minus_one = false;  // else out-of-image taps count nothing

  int out_height() const {
    return (height + 2 * pad_h - dilation_h * (kernel_h - 1) - 1) / stride_h + 1;
  }
  int out_width() const {
    return (width + 2 * pad_w - dilation_w * (kernel_w - 1) - 1) / stride_w + 1;
  }
  int64_t out_pixels() const {
    return int64_t(batch) * out_height() * out_width();
  }
};

// kTensorCore takes any channel count, but one group and kernels up to 255.
enum class Kernel { kGeneric, kTensorCore };

bool supports(const ConvShape& shape, Kernel kernel);

// Depends on the weight's shape and `groups` only. The sizes differ between
// kernels, so that a blob tells for which one it was made.
size_t blob_bytes(const ConvShape& shape, Kernel kernel);

const char* prepack(const ConvShape& shape, Kernel kernel,
                    const uint8_t* weight_bits, uint8_t* blob, void* stream);

struct Plan {
  Kernel kernel = Kernel::kGeneric;
  int block_channels = 0;  // output channels per thread block: 64 or 128
};

// Small blocks where large ones would leave multiprocessors idle.
Plan plan_conv(const ConvShape& shape, Kernel kernel);

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
