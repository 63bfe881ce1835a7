// What one instruction set provides: a table of plain function pointers.
//
// The driver (binary_conv.cpp) is compiled once, without special flags, and
// reaches every instruction set through such a table. The files behind the
// tables share no inline function, so the linker cannot give an old CPU code
// that was compiled for a newer one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed bits are read as little-endian words"
#endif

namespace mmcompress {

// Output channels that one call of `count` handles: 8 bytes of packed bits.
constexpr int64_t kSegment = 64;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Bytes of packed bits of one pixel.
constexpr int64_t packed_bytes(int64_t channels) {
  return 8 * ceil_div(channels, 64);
}

// How values become bits: bit = (x ^ sign) > threshold, all as float32. `sign`
// is 0 or the sign bit and turns `x < t` into `-x > -t`; null if all are 0.
// Both arrays are padded to a multiple of 64 channels.
struct Comparison {
  const float* threshold;
  const uint32_t* sign;

  Comparison from(int64_t channel) const {
    return {threshold + channel, sign ? sign + channel : nullptr};
  }
};

// Pixels at a constant distance in memory. Strides count floats.
struct Pixels {
  const float* data;
  int64_t channel_stride;
  int64_t pixel_stride;
};

// A run of the reduction that is contiguous in the operand of a pixel.
struct Chunk {
  int64_t offset;  // bytes from the first tap of an output pixel
  int64_t steps;
};

// Counts mismatches of up to 64 output channels and `num_pixels` pixels.
struct CountArgs {
  const uint8_t* weights;        // of this segment, step by step
  int64_t lanes;                 // output channels in `weights`, padded
  const uint8_t* const* pixels;  // operand at the first tap of each pixel
  int64_t num_pixels;            // 1..tile
  const Chunk* chunks;
  int64_t num_chunks;
  int32_t n;  // products per dot product: k = n - 2 * mismatches
  int32_t* k;
  int64_t k_stride;  // from pixel to pixel; 64 values are written per pixel
  // 64 mismatches of each pixel to begin with, null: 0. Only for count_bits
  const int32_t* const* starts;
};

// Float epilogue of up to 64 channels of some pixels, see binary_conv.h. All
// pointers are at the first of these channels; null where a step is absent.
struct FloatEpilogue {
  const float* scale;
  const float* shift;
  const float* pre;
  const float* slope;
  const float* post;
  Comparison next;
  int64_t channels;
  int64_t num_pixels;
  const int32_t* k;
  int64_t k_stride;
  const float* residual;
  int64_t residual_stride;
  float* y;
  int64_t y_stride;
  uint8_t* bits;  // 8 bytes per pixel are written, the tail is 0
  int64_t bits_stride;
};

// Integer epilogue: bit = (k >= limit) ^ flip.
struct BitsEpilogue {
  const int32_t* limit;  // padded to a multiple of 64
  const int32_t* most;   // the same: mismatches <= most
  uint64_t flip;
  int64_t channels;
  int64_t num_pixels;
  const int32_t* k;
  int64_t k_stride;
  uint8_t* bits;
  int64_t bits_stride;
};

// Most channels at once in `average_region`.
constexpr int64_t kMostLanes = 128;

// A pixel in a weighted sum. Offsets count floats.
struct Tap {
  int64_t offset;
  float weight;
};

// A row in the weighted sum of one row of bins.
struct RowTap {
  int64_t offset;
  float weight;
  int64_t bin;
};

// Weighted sums over the pixels of a region, see roi_align.h: first over
// columns, then over rows, both in ascending order from 0, every operation
// rounded. Channels lie together.
struct RegionAverage {
  const float* image;
  int64_t channels;
  int64_t bins_h, bins_w;
  const Tap* columns;          // bin after bin
  const int64_t* column_ends;  // of each bin
  const RowTap* rows;          // by offset; bins may share one
  int64_t num_rows;
  float* scratch;  // (bins_h + 1) * bins_w * kMostLanes
  float* out;      // (channels, bins_h, bins_w)
};

// Values whose gradients are summed side by side, see fake_quantize_loops.h.
constexpr int64_t kQuantizedLanes = 16;

// Fake quantization of neighbouring values, see fake_quantize.h. Parameters
// are one for all values or, `per_value`, one for each, padded to a multiple
// of kQuantizedLanes; those of an offset are null without one.
struct QuantizedRun {
  const float* x;
  const float* dy;  // null: forward
  float* y;         // dx, if there is dy
  int64_t count;
  bool per_value;
  bool has_offset;
  bool rounded;  // the mask asks for the code
  const float* scale;
  const float* beta_in;   // subtracted; 0 without a beta
  const float* beta_out;  // added; -0 without one, which changes nothing
  const float* zero_in;   // added; -0 without a zero point
  const float* zero_out;  // subtracted; 0 without one
  float low, high;
  float below, above;  // the numbers next to them, outside
  // Added to: one per value, or one per lane.
  float* scale_sums;
  float* outside_sums;
};

struct Kernels {
  const char* name;
  uint32_t id;  // stored in blobs
  int64_t tile;  // most pixels per call of `count`

  // The operand: what the input pixels look like to `count`. One step of the
  // reduction covers `step_channels` input channels.
  int64_t step_channels;
  int64_t step_bytes;
  int64_t max_chunk_steps;
  // Bytes of one pixel's operand that stand for out-of-image taps: as -1, and
  // as nothing at all (0 to the dot product). Where the second is impossible
  // (`has_neutral` false) the driver corrects the border.
  uint8_t minus_one;
  uint8_t neutral;
  bool (*has_neutral)(int64_t channels);

  // Lanes of a step's weights are padded to a multiple of this.
  int64_t lane_granule;
  int64_t lane_bytes;

  // float -> packed bits, pixels * packed_bytes(channels).
  void (*pack)(const Pixels& x, int64_t channels, int64_t num_pixels,
               const Comparison& compare, uint8_t* bits);
  // packed bits -> operand.
  void (*expand)(const uint8_t* bits, int64_t channels, int64_t num_pixels,
                 uint8_t* operand);
  // packed weight bits [channel][tap][packed_bytes] -> [tap][step][lane].
  void (*prepack)(const uint8_t* bits, int64_t num_outputs, int64_t taps,
                  int64_t channels, int64_t lanes, uint8_t* weights);
  void (*count)(const CountArgs& args);
  // Both in one, without k; null: they are two.
  void (*count_bits)(const CountArgs& args, const BitsEpilogue& bits);
  void (*finish_float)(const FloatEpilogue& args);
  void (*finish_bits)(const BitsEpilogue& args);
  void (*average_region)(const RegionAverage& args);
  void (*fake_quantize)(const QuantizedRun& run);

  // Up to `few_rows` pixels of a linear layer: reading the weights takes
  // longer than counting, so there they lie once more, a byte per 8 input
  // channels, [byte][lane]. Null: those of `prepack` are as small.
  int64_t few_rows = 0;
  void (*prepack_dense)(const uint8_t* bits, int64_t num_outputs,
                        int64_t channels, int64_t lanes,
                        uint8_t* weights) = nullptr;
  void (*count_dense)(const CountArgs& args) = nullptr;
};

const Kernels& portable_kernels();
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
const Kernels& neon_kernels();

// The fastest table that this CPU can run and MMCOMPRESS_ISA allows. Throws
// std::runtime_error if the variable names something unknown or too high.
const Kernels& best_kernels();
// A table by name or blob id; throws if it isn't built or can't run here.
const Kernels& kernels_by_name(const std::string& name);
const Kernels& kernels_by_id(uint32_t id);
// Names of the tables in this build, slowest first, and of those among them
// that this CPU can run.
std::vector<std::string> built_kernels();
std::vector<std::string> runnable_kernels();

}  // namespace mmcompress
