// Where everything lies: which bytes meet in which step of a convolution.
//
// A convolution is a product of matrices whose rows are output pixels (M),
// whose columns are output channels (N) and whose inner dimension runs over the
// bytes of all taps, tap after tap ("reduction"). The matrix of activations is
// never stored: its entries are addresses in the packed map, or zeros.
#pragma once

#include <cstdint>

#include "conv_shape.h"
#include "primitives.cuh"

namespace mmcompress {
namespace cuda {

// --- Tile sizes ----------------------------------------------------------

constexpr int kStepBytes = 32;  // of a row: one tensor-core instruction
constexpr int kStepsPerStage = 2;
constexpr int kStageBytes = kStepBytes * kStepsPerStage;  // one pipeline stage
constexpr int kPipelineStages = 3;

constexpr int kBlockPixels = 128;
constexpr int kWarpPixels = 32;
constexpr int kGroupChannels = 64;  // of a warp; one 64-bit word of output bits
constexpr int kWarpSize = 32;

constexpr int kTilePixels = 16;  // of the instruction; with 8 channels
constexpr int kPixelTiles = kWarpPixels / kTilePixels;
constexpr int kChannelTiles = kGroupChannels / 8;

// Bytes of the map that a pixel and a channel's window have; weights of 4 or 2
// bits share the place that a byte of the map has.
struct Format {
  int pixel_bytes;  // a multiple of 8
  int packing = 1;  // weights per byte; 1 for bits too, which meet bits
};

__host__ __device__ constexpr int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

// Blocks of kernels that have a thread per result.
constexpr int kThreads = 256;

inline int64_t blocks_for(int64_t threads) {
  return (threads + kThreads - 1) / kThreads;
}

// --- Division by a constant of the launch ----------------------------------

// q = n / divisor for 0 <= n < 2**31, by one multiplication (Granlund and
// Montgomery 1994).
struct FastDivisor {
  uint32_t divisor, multiplier;
  int shift;

  explicit FastDivisor(int value) : divisor(value), shift(0) {
    while ((uint64_t(1) << shift) < divisor) ++shift;
    const uint64_t excess = (uint64_t(1) << shift) - divisor;
    multiplier = static_cast<uint32_t>((excess << 32) / divisor + 1);
  }

  __device__ int divide(int n, int& remainder) const {
    const uint32_t quotient = (__umulhi(n, multiplier) + n) >> shift;
    remainder = n - static_cast<int>(quotient * divisor);
    return static_cast<int>(quotient);
  }
};

// --- The weights and their blob ----------------------------------------------

// The blob of the tensor-core kernel begins with the weights, [channel group]
// [stage][load][tile of 8 channels][lane][word]: a lane loads what it needs for
// one instruction at once, or for two, and a warp reads in order. Then int32
// [(kernel_h + 1) * (kernel_w + 1)][64 * channel groups]: entry (y, x) is the
// sum of the weights (of bits, their number) in the taps [0, y) x [0, x).
struct WeightLayout {
  int out_channels, kernel_h, kernel_w;
  int pixel_bytes;      // of the input
  int reduction_bytes;  // of a pixel's window
  int steps, stages;    // of the reduction, rounded up
  int channel_groups;   // of 64 output channels, rounded up
  int group_stage_bytes;

  WeightLayout(const ConvShape& s, const Format& format)
      : out_channels(s.out_channels),
        kernel_h(s.kernel_h),
        kernel_w(s.kernel_w),
        pixel_bytes(format.pixel_bytes),
        reduction_bytes(kernel_h * kernel_w * pixel_bytes),
        steps(ceil_div(reduction_bytes, kStepBytes)),
        stages(ceil_div(steps, kStepsPerStage)),
        channel_groups(ceil_div(out_channels, kGroupChannels)),
        group_stage_bytes(kGroupChannels * kStageBytes / format.packing) {}

  __host__ __device__ int64_t tile_bytes() const {
    return int64_t(channel_groups) * stages * group_stage_bytes;
  }
  __host__ __device__ int table_row() const {
    return channel_groups * kGroupChannels;
  }
  __host__ __device__ int64_t table_size() const {
    return int64_t(kernel_h + 1) * (kernel_w + 1) * table_row();
  }
};

// --- The convolution ---------------------------------------------------------

struct OutputPixel {
  int index, image, y, x;
};

// The part of the kernel window that lies in the image: [y0, y1) x [x0, x1).
struct Window {
  int y0, y1, x0, x1;

  __device__ int taps() const { return (y1 - y0) * (x1 - x0); }
};

__device__ inline void valid_taps(int origin, int size, int dilation, int taps,
                                  int& first, int& last) {
  first = origin >= 0 ? 0 : min(ceil_div(-origin, dilation), taps);
  last = origin >= size ? 0 : min((size - 1 - origin) / dilation + 1, taps);
  last = max(first, last);
}

struct Geometry : WeightLayout {
  int channels, height, width;  // of the input
  int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int groups;
  bool pad_minus_one;
  int pixels;  // of the output, all images
  FastDivisor by_out_height, by_out_width, by_kernel_w, by_pixel_bytes;

  // The output must not be empty.
  Geometry(const ConvShape& s, const Format& format)
      : WeightLayout(s, format),
        channels(s.channels),
        height(s.height),
        width(s.width),
        stride_h(s.stride_h),
        stride_w(s.stride_w),
        pad_h(s.pad_h),
        pad_w(s.pad_w),
        dilation_h(s.dilation_h),
        dilation_w(s.dilation_w),
        groups(s.groups),
        pad_minus_one(s.pad_minus_one),
        pixels(static_cast<int>(s.out_pixels())),
        by_out_height(s.out_height()),
        by_out_width(s.out_width()),
        by_kernel_w(s.kernel_w),
        by_pixel_bytes(pixel_bytes) {}

  __device__ OutputPixel pixel_at(int index) const {
    OutputPixel pixel;
    pixel.index = index;
    const int row = by_out_width.divide(index, pixel.x);
    pixel.image = by_out_height.divide(row, pixel.y);
    return pixel;
  }

  // Position in the input under the first tap; may lie outside of it.
  __device__ int origin_y(const OutputPixel& pixel) const {
    return pixel.y * stride_h - pad_h;
  }
  __device__ int origin_x(const OutputPixel& pixel) const {
    return pixel.x * stride_w - pad_w;
  }

  // The taps that count. A border of -1 is a border of zero bits, which the
  // products read anyway: then every tap counts.
  __device__ Window window_at(const OutputPixel& pixel) const {
    Window window = {0, kernel_h, 0, kernel_w};
    if (pad_minus_one) return window;
    valid_taps(origin_y(pixel), height, dilation_h, kernel_h, window.y0,
               window.y1);
    valid_taps(origin_x(pixel), width, dilation_w, kernel_w, window.x0,
               window.x1);
    return window;
  }

  __device__ bool contains(int y, int x) const {
    return static_cast<unsigned>(y) < static_cast<unsigned>(height) &&
           static_cast<unsigned>(x) < static_cast<unsigned>(width);
  }

  __device__ const uint8_t* input_at(const uint8_t* map, int image, int y,
                                     int x) const {
    return map +
           ((int64_t(image) * height + y) * width + x) * int64_t(pixel_bytes);
  }
};

// A lane has two operands of 4 bytes in each step of a tile of 8 channels. A
// word of the blob holds one of them, or the higher and lower parts of several.
template <int kPacking>
struct WeightWords {
  static constexpr int kWords = kPacking == 1 ? 2 : 1;  // of one load
  static constexpr int kOperandsPerStage = 2 * kStepsPerStage;
  static constexpr int kLoads = kOperandsPerStage / (kWords * kPacking);

  // Channel, and first byte of the window, of part `part` of the word `index`.
  struct Place {
    int64_t channel, byte;
  };
  __device__ static Place place(const WeightLayout& g, int64_t index,
                                int part) {
    const int word = static_cast<int>(index % kWords);
    index /= kWords;
    const int lane = static_cast<int>(index % kWarpSize);
    index /= kWarpSize;
    const int tile = static_cast<int>(index % kChannelTiles);
    index /= kChannelTiles;
    const int load = static_cast<int>(index % kLoads);
    index /= kLoads;
    const int operand = (load * kWords + word) * kPacking + part;
    return {index / g.stages * kGroupChannels + tile * 8 + lane / 4,
            index % g.stages * kStageBytes + operand * (kStepBytes / 2) +
                lane % 4 * 4};
  }

  // The operands of a step, from the weights of a stage. Packed ones are the
  // highest bits of their bytes.
  __device__ static uint2 load(const uint8_t* weights, int step, int tile,
                               int lane) {
    const int first = kLoads == 1 ? 0 : step;
    const uint8_t* from =
        weights +
        ((first * kChannelTiles + tile) * kWarpSize + lane) * kWords * 4;
    if constexpr (kPacking == 1) {
      return *reinterpret_cast<const uint2*>(from);
    } else {
      constexpr int kBits = 8 / kPacking;
      constexpr uint32_t kHighest = 0x01010101u * (0x100 - (0x100 >> kBits));
      uint32_t word = *reinterpret_cast<const uint32_t*>(from);
      if (kLoads == 1) word <<= 2 * kBits * step;
      return make_uint2(word & kHighest, (word << kBits) & kHighest);
    }
  }
};

// --- The activations of one stage in shared memory -----------------------------

// Rows of 64 bytes. The 16-byte chunks of a row are permuted so that the eight
// rows which one ldmatrix phase reads lie in different banks.
__device__ inline int activation_offset(int row, int byte) {
  const int chunk = (byte / 16) ^ ((row / 2) % 4);
  return row * kStageBytes + chunk * 16 + byte % 16;
}

// The row and the first byte whose address a lane gives to load_matrices, for
// a tile of 16 pixels and a step of 32 bytes.
__device__ inline int matrix_row(int lane) { return lane % 16; }
__device__ inline int matrix_byte(int lane) { return lane / 16 * 16; }

// --- The accumulators ------------------------------------------------------------

// Row of sums[2 * half] and sums[2 * half + 1] in a tile of 16 pixels, and the
// column of the first of the two in a tile of 8 channels.
__device__ inline int sum_row(int lane, int half) {
  return half * 8 + lane / 4;
}
__device__ inline int sum_column(int lane) { return lane % 4 * 2; }

}  // namespace cuda
}  // namespace mmcompress
