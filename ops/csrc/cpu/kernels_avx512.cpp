// AVX-512 with VPOPCNTDQ: 16 output channels by 32 input channels at a time.
//
// The operand is the packed bits in 32-bit words. A word of a pixel is
// broadcast, XORed with the words of 16 output channels, counted and added:
// the sums are int32 in natural order, and nothing overflows. There is no
// word that counts nothing, so the driver corrects the border of the image.
#include <immintrin.h>

#include <cstring>

#include "fake_quantize_loops.h"
#include "kernels.h"
#include "roi_align_loops.h"

namespace mmcompress {
namespace {

constexpr int kTile = 6;

bool has_neutral(int64_t) { return false; }

__mmask16 first_lanes(int64_t count) {
  return count >= 16 ? __mmask16(0xffff) : __mmask16((1u << count) - 1);
}

// ---- packing -------------------------------------------------------------

__m512 load(const float* p) { return _mm512_loadu_ps(p); }

// 16 results of `x > threshold` as bits.
uint64_t compare16(__m512 x, const Comparison& compare, int64_t c) {
  if (compare.sign)
    x = _mm512_castsi512_ps(
        _mm512_xor_si512(_mm512_castps_si512(x),
                         _mm512_loadu_si512(compare.sign + c)));
  return _mm512_cmp_ps_mask(x, load(compare.threshold + c), _CMP_GT_OQ);
}

// 64 channels of a pixel.
uint64_t pack_word(const float* x, const Comparison& compare) {
  return compare16(load(x), compare, 0) |
         compare16(load(x + 16), compare, 16) << 16 |
         compare16(load(x + 32), compare, 32) << 32 |
         compare16(load(x + 48), compare, 48) << 48;
}

// Up to 63 channels of a pixel.
uint64_t pack_rest(const float* x, int64_t channels,
                   const Comparison& compare) {
  uint64_t word = 0;
  for (int64_t c = 0; c < channels; c += 16) {
    const __m512 values =
        _mm512_maskz_loadu_ps(first_lanes(channels - c), x + c);
    word |= compare16(values, compare, c) << c;
  }
  return word & ((uint64_t(1) << channels) - 1);
}

void pack_channels_last(const Pixels& x, int64_t channels, int64_t num_pixels,
                        const Comparison& compare, uint8_t* bits) {
  const int64_t whole = channels / 64 * 64;
  for (int64_t p = 0; p < num_pixels; ++p) {
    const float* pixel = x.data + p * x.pixel_stride;
    for (int64_t c = 0; c < channels; c += 64, bits += 8) {
      const uint64_t word =
          c < whole ? pack_word(pixel + c, compare.from(c))
                    : pack_rest(pixel + c, channels - c, compare.from(c));
      std::memcpy(bits, &word, sizeof word);
    }
  }
}

// Bits of up to 32 channels of 16 * V neighbouring pixels, one per 32-bit
// lane; of the last 16 pixels only `lanes`.
template <int V>
void pack_columns(const float* x, int64_t stride, int64_t channels,
                  const Comparison& compare, __mmask16 lanes,
                  uint32_t* words) {
  __m512i bits[V];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) bits[v] = _mm512_setzero_si512();
  for (int64_t c = 0; c < channels; ++c) {
    const __m512 threshold = _mm512_set1_ps(compare.threshold[c]);
    const __m512i sign =
        _mm512_set1_epi32(compare.sign ? int(compare.sign[c]) : 0);
    const __m512i bit = _mm512_set1_epi32(int(1u << c));
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const float* from = x + c * stride + 16 * v;
      // processors don't foresee short stretches of many channels
      _mm_prefetch(from + 16 * V, _MM_HINT_T0);
      const __mmask16 valid = v == V - 1 ? lanes : __mmask16(0xffff);
      const __m512i values =
          _mm512_xor_si512(_mm512_maskz_loadu_epi32(valid, from), sign);
      const __mmask16 above = _mm512_cmp_ps_mask(_mm512_castsi512_ps(values),
                                                 threshold, _CMP_GT_OQ);
      bits[v] = _mm512_mask_or_epi32(bits[v], above, bits[v], bit);
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) _mm512_storeu_si512(words + 16 * v, bits[v]);
}

template <int V>
void pack_pixels(const Pixels& x, int64_t channels, int64_t num_pixels,
                 const Comparison& compare, uint8_t* bits) {
  const int64_t row_bytes = packed_bytes(channels);
  const __mmask16 lanes = first_lanes(num_pixels - 16 * (V - 1));
  for (int64_t c = 0; c < row_bytes * 8; c += 32) {
    const int64_t left = channels - c;
    uint32_t words[16 * V];
    pack_columns<V>(x.data + c * x.channel_stride, x.channel_stride,
                    left < 32 ? left : 32, compare.from(c), lanes, words);
    for (int64_t i = 0; i < num_pixels; ++i)
      std::memcpy(bits + i * row_bytes + c / 8, words + i, 4);
  }
}

void pack_channels_first(const Pixels& x, int64_t channels, int64_t num_pixels,
                         const Comparison& compare, uint8_t* bits) {
  using Pack = void (*)(const Pixels&, int64_t, int64_t, const Comparison&,
                        uint8_t*);
  static const Pack by_vectors[16] = {
      pack_pixels<1>,  pack_pixels<2>,  pack_pixels<3>,  pack_pixels<4>,
      pack_pixels<5>,  pack_pixels<6>,  pack_pixels<7>,  pack_pixels<8>,
      pack_pixels<9>,  pack_pixels<10>, pack_pixels<11>, pack_pixels<12>,
      pack_pixels<13>, pack_pixels<14>, pack_pixels<15>, pack_pixels<16>};
  // long stretches of a channel: the next channel is far away in memory
  constexpr int64_t kMost = 16 * 16;
  for (int64_t p = 0; p < num_pixels; p += kMost) {
    const int64_t count = num_pixels - p < kMost ? num_pixels - p : kMost;
    by_vectors[ceil_div(count, 16) - 1]({x.data + p, x.channel_stride, 1},
                                       channels, count, compare,
                                       bits + p * packed_bytes(channels));
  }
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

// Drops the upper half of a pixel's last 64 bits where it is only filler.
void expand(const uint8_t* bits, int64_t channels, int64_t num_pixels,
            uint8_t* operand) {
  const int64_t row_bytes = packed_bytes(channels);
  const int64_t used_bytes = 4 * ceil_div(channels, 32);
  if (used_bytes == row_bytes) {
    std::memcpy(operand, bits, num_pixels * row_bytes);
    return;
  }
  for (int64_t p = 0; p < num_pixels; ++p)
    std::memcpy(operand + p * used_bytes, bits + p * row_bytes, used_bytes);
}

void prepack(const uint8_t* bits, int64_t num_outputs, int64_t taps,
             int64_t channels, int64_t lanes, uint8_t* weights) {
  const int64_t steps = ceil_div(channels, 32);
  const int64_t tap_bytes = packed_bytes(channels);
  std::memset(weights, 0, taps * steps * lanes * 4);
  for (int64_t o = 0; o < num_outputs; ++o)
    for (int64_t tap = 0; tap < taps; ++tap, bits += tap_bytes)
      for (int64_t step = 0; step < steps; ++step)
        std::memcpy(weights + ((tap * steps + step) * lanes + o) * 4,
                    bits + 4 * step, 4);
}

// ---- counting ------------------------------------------------------------

// Keeps a value in a register and the instructions around it in this order.
#define MMCOMPRESS_PIN(value) asm volatile("" : "+v"(value))
// Unrolled before the compiler decides what lives in registers.
#define MMCOMPRESS_UNROLL _Pragma("GCC unroll 8")

// Adds the mismatches of P pixels and V times 16 outputs.
template <int P, int V>
__attribute__((always_inline)) inline void count_mismatches(
    const CountArgs& args, __m512i (&sums)[P][V]) {
  const uint8_t* weights = args.weights;
  for (int64_t i = 0; i < args.num_chunks; ++i) {
    const Chunk chunk = args.chunks[i];
    const uint8_t* rows[P];
    MMCOMPRESS_UNROLL
    for (int p = 0; p < P; ++p) rows[p] = args.pixels[p] + chunk.offset;
    for (int64_t step = 0; step < chunk.steps; ++step, weights += 64 * V) {
      __m512i w[V];
      MMCOMPRESS_UNROLL
      for (int v = 0; v < V; ++v) {
        w[v] = _mm512_loadu_si512(weights + 64 * v);
        MMCOMPRESS_PIN(w[v]);
      }
      MMCOMPRESS_UNROLL
      for (int p = 0; p < P; ++p) {
        int32_t word;
        std::memcpy(&word, rows[p] + 4 * step, 4);
        const __m512i a = _mm512_set1_epi32(word);
        MMCOMPRESS_UNROLL
        for (int v = 0; v < V; ++v) {
          sums[p][v] = _mm512_add_epi32(
              sums[p][v], _mm512_popcnt_epi32(_mm512_xor_si512(a, w[v])));
          MMCOMPRESS_PIN(sums[p][v]);
        }
      }
    }
  }

}

template <int P, int V>
void count_pixels(const CountArgs& args) {
  __m512i sums[P][V];
  MMCOMPRESS_UNROLL
  for (int p = 0; p < P; ++p)
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v) sums[p][v] = _mm512_setzero_si512();
  count_mismatches(args, sums);
  const __m512i n = _mm512_set1_epi32(args.n);
  MMCOMPRESS_UNROLL
  for (int p = 0; p < P; ++p)
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v)
      _mm512_storeu_si512(
          args.k + p * args.k_stride + 16 * v,
          _mm512_sub_epi32(n, _mm512_add_epi32(sums[p][v], sums[p][v])));
}

template <int V>
void count_outputs(const CountArgs& args) {
  using Count = void (*)(const CountArgs&);
  static const Count by_pixels[kTile] = {
      count_pixels<1, V>, count_pixels<2, V>, count_pixels<3, V>,
      count_pixels<4, V>, count_pixels<5, V>, count_pixels<6, V>};
  by_pixels[args.num_pixels - 1](args);
}

template <int P, int V>
void count_bits_of_pixels(const CountArgs& args, const BitsEpilogue& bits) {
  __m512i sums[P][V];
  MMCOMPRESS_UNROLL
  for (int p = 0; p < P; ++p)
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v)
      sums[p][v] = args.starts
                       ? _mm512_loadu_si512(args.starts[p] + 16 * v)
                       : _mm512_setzero_si512();
  count_mismatches(args, sums);
  const uint64_t valid = ~uint64_t(0) >> (64 - bits.channels);
  const uint64_t flip = bits.flip & valid;
  MMCOMPRESS_UNROLL
  for (int p = 0; p < P; ++p) {
    uint64_t word = 0;
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v)
      word |= uint64_t(_mm512_cmple_epi32_mask(
                  sums[p][v], _mm512_loadu_si512(bits.most + 16 * v)))
              << (16 * v);
    word = (word & valid) ^ flip;
    std::memcpy(bits.bits + p * bits.bits_stride, &word, sizeof word);
  }
}

template <int V>
void count_bits_of_outputs(const CountArgs& args, const BitsEpilogue& bits) {
  using Count = void (*)(const CountArgs&, const BitsEpilogue&);
  static const Count by_pixels[kTile] = {
      count_bits_of_pixels<1, V>, count_bits_of_pixels<2, V>,
      count_bits_of_pixels<3, V>, count_bits_of_pixels<4, V>,
      count_bits_of_pixels<5, V>, count_bits_of_pixels<6, V>};
  by_pixels[args.num_pixels - 1](args, bits);
}

#undef MMCOMPRESS_PIN
#undef MMCOMPRESS_UNROLL

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

void count_bits(const CountArgs& args, const BitsEpilogue& bits) {
  switch (args.lanes / 16) {
    case 1:
      return count_bits_of_outputs<1>(args, bits);
    case 2:
      return count_bits_of_outputs<2>(args, bits);
    case 3:
      return count_bits_of_outputs<3>(args, bits);
    default:
      return count_bits_of_outputs<4>(args, bits);
  }
}

// ---- epilogues -----------------------------------------------------------

// 16 channels of one pixel: the affine map and what follows it.
struct Affine {
  __m512 scale, shift, pre, slope, post;

  Affine(const FloatEpilogue& args, int64_t c, __mmask16 lanes) {
    const auto parameter = [&](const float* vector) {
      return vector ? _mm512_maskz_loadu_ps(lanes, vector + c)
                    : _mm512_setzero_ps();
    };
    scale = parameter(args.scale);
    shift = parameter(args.shift);
    pre = parameter(args.pre);
    slope = parameter(args.slope);
    post = parameter(args.post);
  }

  // With `kMore`, what stands behind the residual.
  template <bool kResidual, bool kMore>
  __m512 apply(const FloatEpilogue& args, __m512i k, __m512 residual) const {
    __m512 y = _mm512_add_ps(_mm512_mul_ps(scale, _mm512_cvtepi32_ps(k)),
                             shift);
    if (kResidual) y = _mm512_add_ps(y, residual);
    if (!kMore) return y;
    if (args.pre) y = _mm512_add_ps(y, pre);
    if (args.slope) {
      const __mmask16 positive =
          _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_GT_OQ);
      y = _mm512_mask_blend_ps(positive, _mm512_mul_ps(slope, y), y);
    }
    if (args.post) y = _mm512_add_ps(y, post);
    return y;
  }
};

// 16 channels from `c`, of which `lanes` exist. What is left out is known
// when it is compiled: branches would take as long as the arithmetic.
template <bool kWhole, bool kResidual, bool kMore, bool kBits>
void finish_channels(const FloatEpilogue& args, int64_t c, __mmask16 lanes,
                      uint64_t* words) {
  const Affine affine(args, c, lanes);
  const int32_t* k = args.k + c;
  const float* from = args.residual + (kResidual ? c : 0);
  float* to = args.y ? args.y + c : nullptr;
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    __m512 residual = _mm512_setzero_ps();
    if (kResidual)
      residual = kWhole ? load(from) : _mm512_maskz_loadu_ps(lanes, from);
    const __m512 y = affine.apply<kResidual, kMore>(
        args, _mm512_loadu_si512(k), residual);
    if (kBits) words[p] |= (compare16(y, args.next, c) & lanes) << c;
    if (to) {
      // masked stores are slow on some CPUs
      if (kWhole)
        _mm512_storeu_ps(to, y);
      else
        _mm512_mask_storeu_ps(to, lanes, y);
      to += args.y_stride;
    }
    k += args.k_stride;
    if (kResidual) from += args.residual_stride;
  }
}

template <bool kResidual, bool kMore, bool kBits>
void finish_pixels(const FloatEpilogue& args) {
  uint64_t words[kTile] = {};
  for (int64_t c = 0; c < args.channels; c += 16) {
    const __mmask16 lanes = first_lanes(args.channels - c);
    const auto finish = lanes == 0xffff
                            ? finish_channels<true, kResidual, kMore, kBits>
                            : finish_channels<false, kResidual, kMore, kBits>;
    finish(args, c, lanes, words);
  }
  if (!kBits) return;
  for (int64_t p = 0; p < args.num_pixels; ++p)
    std::memcpy(args.bits + p * args.bits_stride, &words[p], 8);
}

void finish_float(const FloatEpilogue& args) {
  using Finish = void (*)(const FloatEpilogue&);
  static const Finish by_parts[8] = {
      finish_pixels<false, false, false>, finish_pixels<false, false, true>,
      finish_pixels<false, true, false>,  finish_pixels<false, true, true>,
      finish_pixels<true, false, false>,  finish_pixels<true, false, true>,
      finish_pixels<true, true, false>,   finish_pixels<true, true, true>};
  const bool has_more = args.pre || args.slope || args.post;
  by_parts[4 * (args.residual != nullptr) + 2 * has_more +
           (args.bits != nullptr)](args);
}

void finish_bits(const BitsEpilogue& args) {
  const uint64_t valid = ~uint64_t(0) >> (64 - args.channels);
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    const int32_t* k = args.k + p * args.k_stride;
    uint64_t word = 0;
    for (int64_t c = 0; c < args.channels; c += 16) {
      const __mmask16 passes =
          _mm512_cmpge_epi32_mask(_mm512_loadu_si512(k + c),
                                  _mm512_loadu_si512(args.limit + c));
      word |= uint64_t(passes) << c;
    }
    word = (word ^ args.flip) & valid;
    std::memcpy(args.bits + p * args.bits_stride, &word, sizeof word);
  }
}

// Ties go to even.
struct Rounding {
  static constexpr int kBytes = 64;
  static __m512 round(__m512 x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT |
                                       _MM_FROUND_NO_EXC);
  }
};

}  // namespace

const Kernels& avx512_kernels() {
  static const Kernels table = {
      "avx512",
      /*id=*/3,
      kTile,
      /*step_channels=*/32,
      /*step_bytes=*/4,
      /*max_chunk_steps=*/int64_t(1) << 40,
      /*minus_one=*/0,
      /*neutral=*/0,
      has_neutral,
      /*lane_granule=*/16,
      /*lane_bytes=*/4,
      pack,
      expand,
      prepack,
      count,
      count_bits,
      finish_float,
      finish_bits,
      average_region<64>,
      FakeQuantizeLoops<Rounding>::run,
  };
  return table;
}

}  // namespace mmcompress
