// NEON with the dot products of Armv8.2: 16 output channels by 6 pixels.
//
// `sdot` multiplies signed bytes: the codes are read as code - 128, which the
// driver takes back together with the zero point.
#include <arm_neon.h>

#include <cstring>

#include "integer_loops.h"

namespace mmcompress {
namespace {

constexpr int kTile = 6;
constexpr int kVectors = 4;  // of 4 output channels

int8x16_t broadcast(const uint8_t* x) {
  int32_t quad;
  std::memcpy(&quad, x, sizeof quad);
  return vreinterpretq_s8_s32(vdupq_n_s32(quad));
}

const int32_t* first_sums(const SumArgs& args, int64_t p) {
  return args.start ? args.start : args.sums + p * args.sums_stride;
}

template <int P>
void sum_tile(const SumArgs& args) {
  int32x4_t sums[P][kVectors];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      sums[p][v] = vld1q_s32(first_sums(args, p) + 4 * v);
  const auto* weights = reinterpret_cast<const int8_t*>(args.weights);
  for (int64_t i = 0; i < args.num_chunks; ++i) {
    const uint8_t* x[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) x[p] = args.pixels[p] + args.chunks[i].offset + args.skip;
    const int64_t bytes = args.chunks[i].steps * kQuad;
    for (int64_t c = 0; c < bytes; c += kQuad, weights += 64) {
      int8x16_t w[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) w[v] = vld1q_s8(weights + 16 * v);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const int8x16_t quad = broadcast(x[p] + c);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v)
          sums[p][v] = vdotq_s32(sums[p][v], w[v], quad);
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      vst1q_s32(args.sums + p * args.sums_stride + 4 * v, sums[p][v]);
}

void sum_quads(const SumArgs& args) {
  static constexpr void (*kernels[kTile])(const SumArgs&) = {
      sum_tile<1>, sum_tile<2>, sum_tile<3>,
      sum_tile<4>, sum_tile<5>, sum_tile<6>};
  kernels[args.num_pixels - 1](args);
}

}  // namespace

const IntegerKernels& neon_integer_kernels() {
  static const IntegerKernels table = {
      "neon",
      /*id=*/4,
      kTile,
      /*segment=*/16,
      /*granule=*/16,
      /*saturates=*/false,
      /*flip=*/0x80,
      sum_quads,
      nullptr,
      sum_depthwise_loop,
      finish_loop,
  };
  return table;
}

}  // namespace mmcompress
