// NEON: 16 output channels by 8 input channels at a time.
//
// The operand is the packed bits, byte by byte. A byte of a pixel is
// broadcast, XORed with a byte of 16 output channels, and `cnt` counts the
// mismatches of each. No byte counts nothing, so the driver corrects the
// border of the image.
#include <arm_neon.h>

#include <cstring>

#include "affine_loops.h"
#include "fake_quantize_loops.h"
#include "kernels.h"
#include "roi_align_loops.h"

namespace mmcompress {
namespace {

constexpr int kTile = 4;
// a byte holds 31 counts of 8
constexpr int64_t kMaxChunkSteps = 31;
// 16 bits hold the counts of so many bytes
constexpr int64_t kMaxSpanSteps = 8000;

bool has_neutral(int64_t) { return false; }

// ---- packing -------------------------------------------------------------

uint32x4_t compare4(float32x4_t x, const Comparison& compare, int64_t c) {
  if (compare.sign)
    x = vreinterpretq_f32_u32(
        veorq_u32(vreinterpretq_u32_f32(x), vld1q_u32(compare.sign + c)));
  return vcgtq_f32(x, vld1q_f32(compare.threshold + c));
}

// Two times four lanes of all ones or zeros as 8 bits.
uint8_t bits_of(uint32x4_t low, uint32x4_t high) {
  const uint32_t weights[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  return uint8_t(vaddvq_u32(vorrq_u32(vandq_u32(low, vld1q_u32(weights)),
                                      vandq_u32(high, vld1q_u32(weights + 4)))));
}

// Up to 64 contiguous channels as one word.
uint64_t pack_word(const float* x, int64_t, int64_t channels,
                   const Comparison& compare) {
  uint64_t word = 0;
  float rest[8] = {};
  for (int64_t c = 0; c < channels; c += 8) {
    const int64_t left = channels - c;
    const float* values = x + c;
    if (left < 8) {
      std::memcpy(rest, values, left * sizeof(float));
      values = rest;
    }
    const uint8_t byte =
        bits_of(compare4(vld1q_f32(values), compare, c),
                compare4(vld1q_f32(values + 4), compare, c + 4));
    const unsigned valid = left < 8 ? (1u << left) - 1 : 0xffu;
    word |= uint64_t(byte & valid) << c;
  }
  return word;
}

void pack_channels_last(const Pixels& x, int64_t channels, int64_t num_pixels,
                        const Comparison& compare, uint8_t* bits) {
  for (int64_t p = 0; p < num_pixels; ++p)
    for (int64_t c = 0; c < channels; c += 64, bits += 8)
      store_word(bits, pack_word(x.data + p * x.pixel_stride + c, 1,
                                 channels - c < 64 ? channels - c : 64,
                                 compare.from(c)));
}

// Bits of up to 32 channels of 16 neighbouring pixels: one per 32-bit lane.
void pack_columns(const float* x, int64_t stride, int64_t channels,
                  const Comparison& compare, uint32_t* bits) {
  uint32x4_t words[4] = {};
  for (int64_t c = 0; c < channels; ++c) {
    const float32x4_t threshold = vdupq_n_f32(compare.threshold[c]);
    const uint32x4_t sign = vdupq_n_u32(compare.sign ? compare.sign[c] : 0);
    const uint32x4_t bit = vdupq_n_u32(1u << c);
    for (int v = 0; v < 4; ++v) {
      const float32x4_t values = vreinterpretq_f32_u32(veorq_u32(
          vreinterpretq_u32_f32(vld1q_f32(x + c * stride + 4 * v)), sign));
      words[v] =
          vorrq_u32(words[v], vandq_u32(vcgtq_f32(values, threshold), bit));
    }
  }
  for (int v = 0; v < 4; ++v) vst1q_u32(bits + 4 * v, words[v]);
}

void pack_channels_first(const Pixels& x, int64_t channels, int64_t num_pixels,
                         const Comparison& compare, uint8_t* bits) {
  const int64_t row_bytes = packed_bytes(channels);
  const int64_t whole = num_pixels / 16 * 16;
  for (int64_t p = 0; p < whole; p += 16)
    for (int64_t c = 0; c < row_bytes * 8; c += 32) {
      const int64_t left = channels - c;
      uint32_t words[16];
      pack_columns(x.data + p + c * x.channel_stride, x.channel_stride,
                   left < 32 ? left : 32, compare.from(c), words);
      for (int64_t i = 0; i < 16; ++i)
        std::memcpy(bits + (p + i) * row_bytes + c / 8, words + i, 4);
    }
  portable_kernels().pack(
      {x.data + whole, x.channel_stride, x.pixel_stride}, channels,
      num_pixels - whole, compare, bits + whole * row_bytes);
}

void pack(const Pixels& x, int64_t channels, int64_t num_pixels,
          const Comparison& compare, uint8_t* bits) {
  if (x.channel_stride == 1)
    pack_channels_last(x, channels, num_pixels, compare, bits);
  else if (x.pixel_stride == 1)
    pack_channels_first(x, channels, num_pixels, compare, bits);
  else
    portable_kernels().pack(x, channels, num_pixels, compare, bits);
}

// ---- operand and weights -------------------------------------------------

// Drops the bytes of a pixel that are only filler.
void expand(const uint8_t* bits, int64_t channels, int64_t num_pixels,
            uint8_t* operand) {
  const int64_t row_bytes = packed_bytes(channels);
  const int64_t used_bytes = ceil_div(channels, 8);
  for (int64_t p = 0; p < num_pixels; ++p)
    std::memcpy(operand + p * used_bytes, bits + p * row_bytes, used_bytes);
}

void prepack(const uint8_t* bits, int64_t num_outputs, int64_t taps,
             int64_t channels, int64_t lanes, uint8_t* weights) {
  const int64_t steps = ceil_div(channels, 8);
  const int64_t tap_bytes = packed_bytes(channels);
  std::memset(weights, 0, taps * steps * lanes);
  for (int64_t o = 0; o < num_outputs; ++o)
    for (int64_t tap = 0; tap < taps; ++tap, bits += tap_bytes)
      for (int64_t step = 0; step < steps; ++step)
        weights[(tap * steps + step) * lanes + o] = bits[step];
}

// ---- counting ------------------------------------------------------------

// Unrolled before the compiler decides what lives in registers.
#define MMCOMPRESS_UNROLL _Pragma("GCC unroll 8")

// Adds a chunk to the 16-bit sums of P pixels and V times 16 outputs.
template <int P, int V>
void count_chunk(const uint8_t* weights, const uint8_t* const* pixels,
                 const Chunk& chunk, uint16x8_t (*sums)[2 * V]) {
  const uint8_t* rows[P];
  MMCOMPRESS_UNROLL
  for (int p = 0; p < P; ++p) rows[p] = pixels[p] + chunk.offset;
  uint8x16_t counts[P][V];
  MMCOMPRESS_UNROLL
  for (int p = 0; p < P; ++p)
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v) counts[p][v] = vdupq_n_u8(0);

  const int64_t steps = chunk.steps;
  for (int64_t i = 0; i < steps; ++i, weights += 16 * V) {
    uint8x16_t w[V];
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v) w[v] = vld1q_u8(weights + 16 * v);
    MMCOMPRESS_UNROLL
    for (int p = 0; p < P; ++p) {
      const uint8x16_t a = vld1q_dup_u8(rows[p] + i);
      MMCOMPRESS_UNROLL
      for (int v = 0; v < V; ++v)
        counts[p][v] = vaddq_u8(counts[p][v], vcntq_u8(veorq_u8(a, w[v])));
    }
  }

  MMCOMPRESS_UNROLL
  for (int p = 0; p < P; ++p)
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v) {
      sums[p][2 * v] =
          vaddw_u8(sums[p][2 * v], vget_low_u8(counts[p][v]));
      sums[p][2 * v + 1] =
          vaddw_u8(sums[p][2 * v + 1], vget_high_u8(counts[p][v]));
    }
}

#undef MMCOMPRESS_UNROLL

// k -= 2 * sums for 8 outputs.
void subtract(uint16x8_t sums, int32_t* k) {
  const int32x4_t low = vreinterpretq_s32_u32(vshll_n_u16(vget_low_u16(sums), 1));
  const int32x4_t high =
      vreinterpretq_s32_u32(vshll_n_u16(vget_high_u16(sums), 1));
  vst1q_s32(k, vsubq_s32(vld1q_s32(k), low));
  vst1q_s32(k + 4, vsubq_s32(vld1q_s32(k + 4), high));
}

template <int P, int V>
void count_pixels(const CountArgs& args) {
  const int32x4_t n = vdupq_n_s32(args.n);
  for (int p = 0; p < P; ++p)
    for (int o = 0; o < 16 * V; o += 4)
      vst1q_s32(args.k + p * args.k_stride + o, n);
  const uint8_t* weights = args.weights;
  for (int64_t i = 0; i < args.num_chunks;) {
    uint16x8_t sums[P][2 * V] = {};
    for (int64_t steps = 0; i < args.num_chunks; ++i) {
      const Chunk& chunk = args.chunks[i];
      steps += chunk.steps;
      if (steps > kMaxSpanSteps) break;
      count_chunk<P, V>(weights, args.pixels, chunk, sums);
      weights += chunk.steps * 16 * V;
    }
    for (int p = 0; p < P; ++p)
      for (int v = 0; v < 2 * V; ++v)
        subtract(sums[p][v], args.k + p * args.k_stride + 8 * v);
  }
}

template <int V>
void count_outputs(const CountArgs& args) {
  using Count = void (*)(const CountArgs&);
  static const Count by_pixels[kTile] = {
      count_pixels<1, V>, count_pixels<2, V>, count_pixels<3, V>,
      count_pixels<4, V>};
  by_pixels[args.num_pixels - 1](args);
}

void count(const CountArgs& args) {
  switch (args.lanes / 16) {
    case 1:
      return count_outputs<1>(args);
    case 2:
      return count_outputs<2>(args);
    case 3:
      return count_outputs<3>(args);
    default:
      return count_outputs<4>(args);
  }
}

// ---- epilogues -----------------------------------------------------------

void finish_bits(const BitsEpilogue& args) {
  const uint64_t valid = ~uint64_t(0) >> (64 - args.channels);
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    const int32_t* k = args.k + p * args.k_stride;
    const auto passes = [&](int64_t c) {
      return vcgeq_s32(vld1q_s32(k + c), vld1q_s32(args.limit + c));
    };
    uint64_t word = 0;
    for (int64_t c = 0; c < args.channels; c += 8)
      word |= uint64_t(bits_of(passes(c), passes(c + 4))) << c;
    store_word(args.bits + p * args.bits_stride, (word ^ args.flip) & valid);
  }
}

// Ties go to even.
struct Rounding {
  static constexpr int kBytes = 16;
  static float32x4_t round(float32x4_t x) { return vrndnq_f32(x); }
};

}  // namespace

const Kernels& neon_kernels() {
  static const Kernels table = {
      "neon",
      /*id=*/4,
      kTile,
      /*step_channels=*/8,
      /*step_bytes=*/1,
      kMaxChunkSteps,
      /*minus_one=*/0,
      /*neutral=*/0,
      has_neutral,
      /*lane_granule=*/16,
      /*lane_bytes=*/1,
      pack,
      expand,
      prepack,
      count,
      /*count_bits=*/nullptr,
      finish_float<pack_word>,
      finish_bits,
      average_region<16>,
      FakeQuantizeLoops<Rounding>::run,
  };
  return table;
}

}  // namespace mmcompress
