// What one instruction set provides for products of integers of 8 bits and
// fewer: a table of plain function pointers, see kernels.h.
//
// Activations are codes, uint8, and weights are int8. A step of the reduction
// covers 4 input channels; output channels are the lanes of the vectors.
#pragma once

#include <cstdint>
#include <string>

#include "kernels.h"

namespace mmcompress {

// Input channels of a step.
constexpr int64_t kQuad = 4;

// How the weights of some output channels lie, step by step.
enum class WeightFormat : int64_t {
  kQuads = 0,      // int8 [step][lane][4]
  kPairs = 1,      // int16 [step][2][lane][2]; the operand is uint16
  kDepthwise = 2,  // int8 [tap][lane]; a lane is a channel of the operand
};

// Codes of real numbers: clamp(round(x / scale) + zero_point, low, high).
struct CodeGrid {
  int32_t zero_point;
  int32_t low;
  int32_t high;
};

// Sums of products of up to `segment` output channels and some pixels.
struct SumArgs {
  const uint8_t* weights;  // of the first step of these chunks
  int64_t lanes;           // a multiple of `granule`
  const uint8_t* const* pixels;  // operand at the first tap of each pixel
  int64_t num_pixels;            // 1..tile
  int64_t skip;                  // bytes from there to the wanted channels
  const Chunk* chunks;
  int64_t num_chunks;
  // Steps after which sums of 16 bits may overflow, at least 1.
  int64_t flush;
  const int32_t* start;  // of `lanes`, or null: `sums` go on
  int32_t* sums;
  int64_t sums_stride;  // from pixel to pixel; `lanes` are written
};

// What is wanted of sums.
enum class Result {
  kFloats,         // y
  kFloatsAndCodes, // y, and clamp(round(y / next_scale) + zero_point)
  kCodes           // clamp(round(y * next_scale + zero_point))
};

// y = (float(sum) * input_scale) * scale; y += bias; y += residual;
// y = min(max(y, lowest), highest); every operation is rounded to float32, NaN
// stays. All pointers are at the first of up to `segment` channels.
struct IntegerEpilogue {
  const float* scale;  // these two are padded to a multiple of 16
  const float* bias;   // -0.0 adds nothing
  float input_scale;
  float lowest, highest;
  int64_t channels;
  int64_t num_pixels;
  const int32_t* sums;
  int64_t sums_stride;
  const float* residual;  // null: none
  int64_t residual_stride;
  Result result;
  float* y;
  int64_t y_stride;
  uint8_t* codes;
  int64_t codes_stride;
  float next_scale;
  CodeGrid grid;
};

struct IntegerKernels {
  const char* name;
  uint32_t id;  // stored in blobs

  int64_t tile;     // most pixels per call of a sum
  int64_t segment;  // most output channels per call, at most 64
  int64_t granule;  // lanes are padded to a multiple of this

  // Whether `sum_quads` adds pairs of products in 16 bits: where those of a
  // single step may overflow, the weights are kPairs.
  bool saturates;
  // What `sum_quads` wants XORed into the codes: 0x80 makes them signed.
  uint8_t flip;

  void (*sum_quads)(const SumArgs& args);
  void (*sum_pairs)(const SumArgs& args);  // null unless `saturates`
  void (*sum_depthwise)(const SumArgs& args);
  void (*finish)(const IntegerEpilogue& args);
};

const IntegerKernels& portable_integer_kernels();
const IntegerKernels& avx2_integer_kernels();
const IntegerKernels& avx512_integer_kernels();
const IntegerKernels& neon_integer_kernels();

// The fastest table up to the instruction set of best_kernels().
const IntegerKernels& best_integer_kernels();
// The fastest table up to that of an instruction set, which must be one of
// runnable_kernels(); or a table by blob id. They throw std::runtime_error.
const IntegerKernels& integer_kernels_by_name(const std::string& name);
const IntegerKernels& integer_kernels_by_id(uint32_t id);

}  // namespace mmcompress
