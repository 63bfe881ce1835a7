// The kernels in plain C++: for every CPU, and the opponent in the tests of
// all others. The operand is the packed bits, a step is a 64-bit word.
#include <cstring>

#include "affine_loops.h"
#include "fake_quantize_loops.h"
#include "kernels.h"
#include "roi_align_loops.h"

namespace mmcompress {
namespace {

uint64_t load_word(const uint8_t* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

float apply_sign(float x, uint32_t sign) {
  uint32_t raw;
  std::memcpy(&raw, &x, sizeof raw);
  raw ^= sign;
  std::memcpy(&x, &raw, sizeof raw);
  return x;
}

// Up to 64 channels at `x` as one word.
uint64_t pack_word(const float* x, int64_t stride, int64_t channels,
                   const Comparison& compare) {
  uint64_t word = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const float value =
        compare.sign ? apply_sign(x[c * stride], compare.sign[c])
                     : x[c * stride];
    word |= uint64_t(value > compare.threshold[c]) << c;
  }
  return word;
}

void pack(const Pixels& x, int64_t channels, int64_t num_pixels,
          const Comparison& compare, uint8_t* bits) {
  for (int64_t p = 0; p < num_pixels; ++p) {
    const float* pixel = x.data + p * x.pixel_stride;
    for (int64_t c = 0; c < channels; c += 64, bits += 8) {
      const int64_t count = channels - c < 64 ? channels - c : 64;
      store_word(bits, pack_word(pixel + c * x.channel_stride,
                                 x.channel_stride, count, compare.from(c)));
    }
  }
}

void expand(const uint8_t* bits, int64_t channels, int64_t num_pixels,
            uint8_t* operand) {
  std::memcpy(operand, bits, num_pixels * packed_bytes(channels));
}

void prepack(const uint8_t* bits, int64_t num_outputs, int64_t taps,
             int64_t channels, int64_t lanes, uint8_t* weights) {
  const int64_t words = packed_bytes(channels) / 8;
  const int64_t steps = taps * words;
  std::memset(weights, 0, steps * lanes * 8);
  for (int64_t o = 0; o < num_outputs; ++o)
    for (int64_t step = 0; step < steps; ++step)
      std::memcpy(weights + (step * lanes + o) * 8,
                  bits + (o * steps + step) * 8, 8);
}

bool has_neutral(int64_t) { return false; }

// Set bits of each byte, in that byte.
uint64_t byte_counts(uint64_t x) {
  x -= (x >> 1) & 0x5555555555555555u;
  x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
  return (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
}

uint64_t sum_of_bytes(uint64_t x) {
  x = (x & 0x00ff00ff00ff00ffu) + ((x >> 8) & 0x00ff00ff00ff00ffu);
  return (x * 0x0001000100010001u) >> 48;
}

// Adds one chunk of at most 31 steps, whose byte counts stay below 256.
void count_chunk(const uint8_t* weights, int64_t lanes, const uint8_t* pixel,
                 int64_t steps, int32_t* mismatches) {
  uint64_t sums[kSegment] = {};
  for (int64_t step = 0; step < steps; ++step) {
    const uint64_t a = load_word(pixel + step * 8);
    const uint8_t* row = weights + step * lanes * 8;
    for (int64_t o = 0; o < lanes; ++o)
      sums[o] += byte_counts(a ^ load_word(row + o * 8));
  }
  for (int64_t o = 0; o < lanes; ++o)
    mismatches[o] += int32_t(sum_of_bytes(sums[o]));
}

void count(const CountArgs& args) {
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    int32_t mismatches[kSegment] = {};
    const uint8_t* weights = args.weights;
    for (int64_t i = 0; i < args.num_chunks; ++i) {
      const Chunk& chunk = args.chunks[i];
      count_chunk(weights, args.lanes, args.pixels[p] + chunk.offset,
                  chunk.steps, mismatches);
      weights += chunk.steps * args.lanes * 8;
    }
    int32_t* k = args.k + p * args.k_stride;
    for (int64_t o = 0; o < kSegment; ++o)
      k[o] = args.n - 2 * mismatches[o];
  }
}

void finish_bits(const BitsEpilogue& args) {
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    const int32_t* k = args.k + p * args.k_stride;
    uint64_t word = 0;
    for (int64_t o = 0; o < args.channels; ++o)
      word |= uint64_t(k[o] >= args.limit[o]) << o;
    store_word(args.bits + p * args.bits_stride, word ^ args.flip);
  }
}

}  // namespace

const Kernels& portable_kernels() {
  static const Kernels table = {
      "portable",
      /*id=*/1,
      /*tile=*/4,
      /*step_channels=*/64,
      /*step_bytes=*/8,
      /*max_chunk_steps=*/31,
      /*minus_one=*/0,
      /*neutral=*/0,
      has_neutral,
      /*lane_granule=*/1,
      /*lane_bytes=*/8,
      pack,
      expand,
      prepack,
      count,
      /*count_bits=*/nullptr,
      finish_float<pack_word>,
      finish_bits,
      average_region<16>,
      FakeQuantizeLoops<PlainRounding<16>>::run,
  };
  return table;
}

}  // namespace mmcompress
