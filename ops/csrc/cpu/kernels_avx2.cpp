// AVX2: mismatches are looked up, four input channels at a time.
//
// The operand holds a byte per four input channels of a pixel (a nibble `a`),
// the weights a byte per nibble `w` of each output channel. For one pixel,
// popcount(a ^ w) is a table of 16 bytes indexed by w: `vpshufb` reads it for
// 32 output channels at once, `vpaddb` adds it up. A nibble out of the image
// has a table of its own that says 2 of 4, which is 0 in the dot product.
#include <immintrin.h>

#include <cstring>

#include "fake_quantize_loops.h"
#include "kernels.h"
#include "roi_align_loops.h"

namespace mmcompress {
namespace {

constexpr int kTile = 6;
constexpr int kFewRows = 4;
// a byte holds 63 counts of 4
constexpr int64_t kMaxChunkSteps = 60;
// 16 bits hold the counts of so many nibbles
constexpr int64_t kMaxSpanSteps = 16000;
// Operand bytes are twice the nibble: times 8, which addressing does for
// free, they are the offset of its table.
constexpr uint8_t kNeutral = 2 * 16;

constexpr int bits_of(int x) {
  return (x & 1) + (x >> 1 & 1) + (x >> 2 & 1) + (x >> 3 & 1);
}

struct MismatchTable {
  alignas(64) uint8_t counts[17][16];

  constexpr MismatchTable() : counts() {
    for (int a = 0; a < 16; ++a)
      for (int w = 0; w < 16; ++w) counts[a][w] = uint8_t(bits_of(a ^ w));
    for (int w = 0; w < 16; ++w) counts[16][w] = 2;
  }
};
constexpr MismatchTable kMismatches;

bool has_neutral(int64_t channels) { return channels % 4 == 0; }

// ---- packing -------------------------------------------------------------

// Eight results of `y > threshold` as bits.
unsigned compare8(__m256 x, const Comparison& compare, int64_t c) {
  if (compare.sign)
    x = _mm256_xor_ps(x, _mm256_loadu_ps(reinterpret_cast<const float*>(
                             compare.sign + c)));
  const __m256 above =
      _mm256_cmp_ps(x, _mm256_loadu_ps(compare.threshold + c), _CMP_GT_OQ);
  return unsigned(_mm256_movemask_ps(above));
}

// A mask of the first `count` of eight lanes.
__m256i first_lanes(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), lane);
}

void pack_channels_last(const Pixels& x, int64_t channels, int64_t num_pixels,
                        const Comparison& compare, uint8_t* bits) {
  const int64_t row_bytes = packed_bytes(channels);
  const int64_t whole = channels / 8;
  const int64_t rest = channels % 8;
  const __m256i rest_lanes = first_lanes(rest);
  for (int64_t p = 0; p < num_pixels; ++p, bits += row_bytes) {
    const float* pixel = x.data + p * x.pixel_stride;
    for (int64_t i = 0; i < whole; ++i)
      bits[i] = uint8_t(
          compare8(_mm256_loadu_ps(pixel + 8 * i), compare, 8 * i));
    std::memset(bits + whole, 0, row_bytes - whole);
    if (rest) {
      const __m256 values = _mm256_maskload_ps(pixel + 8 * whole, rest_lanes);
      bits[whole] = uint8_t(compare8(values, compare, 8 * whole) &
                            ((1u << rest) - 1));
    }
  }
}

// Bits of up to 32 channels of 8 * V neighbouring pixels, one per 32-bit
// lane; of the last 8 pixels only `lanes`.
template <int V>
void pack_columns(const float* x, int64_t stride, int64_t channels,
                  const Comparison& compare, __m256i lanes, uint32_t* words) {
  __m256i bits[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) bits[v] = _mm256_setzero_si256();
  for (int64_t c = 0; c < channels; ++c) {
    const __m256 threshold = _mm256_set1_ps(compare.threshold[c]);
    const __m256 sign = _mm256_castsi256_ps(
        _mm256_set1_epi32(compare.sign ? int(compare.sign[c]) : 0));
    const __m256i bit = _mm256_set1_epi32(int(1u << c));
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const float* from = x + c * stride + 8 * v;
      // processors don't foresee short stretches of many channels
      if (v % 2 == 0)
        _mm_prefetch(reinterpret_cast<const char*>(from + 8 * V),
                     _MM_HINT_T0);
      const __m256 values = v == V - 1 ? _mm256_maskload_ps(from, lanes)
                                       : _mm256_loadu_ps(from);
      const __m256i above = _mm256_castps_si256(
          _mm256_cmp_ps(_mm256_xor_ps(values, sign), threshold, _CMP_GT_OQ));
      bits[v] = _mm256_or_si256(bits[v], _mm256_and_si256(above, bit));
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + 8 * v), bits[v]);
}

template <int V>
void pack_pixels(const Pixels& x, int64_t channels, int64_t num_pixels,
                 const Comparison& compare, uint8_t* bits) {
  const int64_t row_bytes = packed_bytes(channels);
  const __m256i lanes = first_lanes(num_pixels - 8 * (V - 1));
  for (int64_t c = 0; c < row_bytes * 8; c += 32) {
    const int64_t left = channels - c;
    uint32_t words[8 * V];
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
  static const Pack by_vectors[8] = {
      pack_pixels<1>, pack_pixels<2>, pack_pixels<3>, pack_pixels<4>,
      pack_pixels<5>, pack_pixels<6>, pack_pixels<7>, pack_pixels<8>};
  // long stretches of a channel: the next channel is far away in memory
  constexpr int64_t kMost = 8 * 8;
  for (int64_t p = 0; p < num_pixels; p += kMost) {
    const int64_t count = num_pixels - p < kMost ? num_pixels - p : kMost;
    by_vectors[ceil_div(count, 8) - 1]({x.data + p, x.channel_stride, 1},
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

// 8 bytes of bits -> 16 operand bytes.
__m128i expand_word(const uint8_t* bits) {
  const __m128i bytes = _mm_cvtepu8_epi16(
      _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bits)));
  const __m128i nibbles =
      _mm_and_si128(_mm_or_si128(bytes, _mm_slli_epi16(bytes, 4)),
                    _mm_set1_epi8(0x0f));
  return _mm_add_epi8(nibbles, nibbles);
}

void expand(const uint8_t* bits, int64_t channels, int64_t num_pixels,
            uint8_t* operand) {
  const int64_t words = packed_bytes(channels) / 8;
  const int64_t steps = ceil_div(channels, 4);
  for (int64_t p = 0; p < num_pixels; ++p) {
    for (int64_t i = 0; i < words; ++i, bits += 8) {
      const __m128i bytes = expand_word(bits);
      const int64_t left = steps - 16 * i;
      if (left >= 16) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(operand + 16 * i), bytes);
      } else {
        alignas(16) uint8_t last[16];
        _mm_store_si128(reinterpret_cast<__m128i*>(last), bytes);
        std::memcpy(operand + 16 * i, last, left);
      }
    }
    operand += steps;
  }
}

// Byte of an output channel in 32 bytes of weights: channels 0..15 are the
// even bytes and 16..31 the odd ones, so that widening to 16 bits restores
// their order.
int64_t lane_of(int64_t output) {
  return output / 32 * 32 + output % 16 * 2 + output / 16 % 2;
}

void prepack(const uint8_t* bits, int64_t num_outputs, int64_t taps,
             int64_t channels, int64_t lanes, uint8_t* weights) {
  const int64_t steps = ceil_div(channels, 4);
  const int64_t tap_bytes = packed_bytes(channels);
  std::memset(weights, 0, taps * steps * lanes);
  for (int64_t o = 0; o < num_outputs; ++o)
    for (int64_t tap = 0; tap < taps; ++tap, bits += tap_bytes)
      for (int64_t step = 0; step < steps; ++step)
        weights[(tap * steps + step) * lanes + lane_of(o)] =
            bits[step / 2] >> (step % 2 * 4) & 0x0f;
}

void prepack_dense(const uint8_t* bits, int64_t num_outputs, int64_t channels,
                   int64_t lanes, uint8_t* weights) {
  const int64_t row_bytes = ceil_div(channels, 8);
  std::memset(weights, 0, row_bytes * lanes);
  for (int64_t o = 0; o < num_outputs; ++o, bits += packed_bytes(channels))
    for (int64_t i = 0; i < row_bytes; ++i)
      weights[i * lanes + lane_of(o)] = bits[i];
}

// ---- counting ------------------------------------------------------------

// Keeps a value in a register and the instructions around it in this order.
#define MMCOMPRESS_PIN(value) asm volatile("" : "+x"(value))

__m256i load(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

// Unrolled before the compiler decides what lives in registers.
#define MMCOMPRESS_UNROLL _Pragma("GCC unroll 8")

// Adds counts of bytes to the 16-bit sums, or sets them if they are the first.
template <int P, int V>
__attribute__((always_inline)) inline void widen(__m256i (&counts)[P][V],
                                                 bool is_first,
                                                 __m256i (*sums)[2 * V]) {
  const __m256i low_bytes = _mm256_set1_epi16(0x00ff);
  MMCOMPRESS_UNROLL
  for (int p = 0; p < P; ++p)
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v) {
      __m256i low = _mm256_and_si256(counts[p][v], low_bytes);
      __m256i high = _mm256_srli_epi16(counts[p][v], 8);
      if (!is_first) {
        low = _mm256_add_epi16(low, sums[p][2 * v]);
        high = _mm256_add_epi16(high, sums[p][2 * v + 1]);
      }
      sums[p][2 * v] = low;
      sums[p][2 * v + 1] = high;
    }
}

// Adds a chunk to the 16-bit sums of P pixels and V times 32 outputs, or sets
// them if it is the first.
template <int P, int V>
__attribute__((noinline)) void count_chunk(const uint8_t* weights,
                                           const uint8_t* const* pixels,
                                           const Chunk& chunk, bool is_first,
                                           __m256i (*sums)[2 * V]) {
  const uint8_t* rows[P];
  MMCOMPRESS_UNROLL
  for (int p = 0; p < P; ++p) rows[p] = pixels[p] + chunk.offset;
  const uint8_t* table = kMismatches.counts[0];
  asm volatile("" : "+r"(table));
  __m256i counts[P][V];
  MMCOMPRESS_UNROLL
  for (int p = 0; p < P; ++p)
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v) counts[p][v] = _mm256_setzero_si256();

  const int64_t steps = chunk.steps;
  for (int64_t i = 0; i < steps; ++i, weights += 32 * V) {
    __m256i w[V];
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v) {
      w[v] = load(weights + 32 * v);
      MMCOMPRESS_PIN(w[v]);
    }
    MMCOMPRESS_UNROLL
    for (int p = 0; p < P; ++p) {
      const __m256i counts_of_w = _mm256_broadcastsi128_si256(_mm_load_si128(
          reinterpret_cast<const __m128i*>(table + rows[p][i] * int64_t(8))));
      __m256i found[V];
      // all look-ups, then all additions: alternating them is a third slower
      MMCOMPRESS_UNROLL
      for (int v = 0; v < V; ++v)
        found[v] = _mm256_shuffle_epi8(counts_of_w, w[v]);
      MMCOMPRESS_UNROLL
      for (int v = 0; v < V; ++v) {
        counts[p][v] = _mm256_add_epi8(counts[p][v], found[v]);
        MMCOMPRESS_PIN(counts[p][v]);
      }
    }
  }

  widen(counts, is_first, sums);
}

// The table of mismatches of an operand byte, in both halves.
__m256i table_of(const uint8_t* table, uint8_t operand) {
  return _mm256_broadcastsi128_si256(_mm_load_si128(
      reinterpret_cast<const __m128i*>(table + operand * int64_t(8))));
}

// The same as `count_chunk` for `size` bytes of dense weights, each of which
// meets two bytes of the operand.
template <int P, int V>
__attribute__((noinline)) void count_dense_chunk(const uint8_t* weights,
                                                 const uint8_t* const* rows,
                                                 int64_t size, bool is_first,
                                                 __m256i (*sums)[2 * V]) {
  const uint8_t* table = kMismatches.counts[0];
  asm volatile("" : "+r"(table));
  const __m256i nibble = _mm256_set1_epi8(0x0f);
  __m256i counts[P][V];
  MMCOMPRESS_UNROLL
  for (int p = 0; p < P; ++p)
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v) counts[p][v] = _mm256_setzero_si256();

  for (int64_t i = 0; i < size; ++i, weights += 32 * V) {
    __m256i low[V], high[V];
    MMCOMPRESS_UNROLL
    for (int v = 0; v < V; ++v) {
      const __m256i w = load(weights + 32 * v);
      low[v] = _mm256_and_si256(w, nibble);
      high[v] = _mm256_and_si256(_mm256_srli_epi16(w, 4), nibble);
    }
    MMCOMPRESS_UNROLL
    for (int p = 0; p < P; ++p) {
      const __m256i of_low = table_of(table, rows[p][2 * i]);
      const __m256i of_high = table_of(table, rows[p][2 * i + 1]);
      MMCOMPRESS_UNROLL
      for (int v = 0; v < V; ++v) {
        const __m256i found =
            _mm256_add_epi8(_mm256_shuffle_epi8(of_low, low[v]),
                            _mm256_shuffle_epi8(of_high, high[v]));
        counts[p][v] = _mm256_add_epi8(counts[p][v], found);
      }
    }
  }
  widen(counts, is_first, sums);
}

#undef MMCOMPRESS_PIN
#undef MMCOMPRESS_UNROLL

// k = base - 2 * sums for 16 outputs; base is n, or k itself if null.
void subtract(__m256i sums, const __m256i* n, int32_t* k) {
  const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(sums));
  const __m256i high =
      _mm256_cvtepu16_epi32(_mm256_extracti128_si256(sums, 1));
  const __m256i base_low = n ? *n : load(k);
  const __m256i base_high = n ? *n : load(k + 8);
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(k),
      _mm256_sub_epi32(base_low, _mm256_add_epi32(low, low)));
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(k + 8),
      _mm256_sub_epi32(base_high, _mm256_add_epi32(high, high)));
}

template <int P, int V>
void count_pixels(const CountArgs& args) {
  const __m256i n = _mm256_set1_epi32(args.n);
  const uint8_t* weights = args.weights;
  __m256i sums[P][2 * V];
  for (int64_t i = 0; i < args.num_chunks;) {
    const int64_t first = i;
    for (int64_t steps = 0; i < args.num_chunks; ++i) {
      const Chunk& chunk = args.chunks[i];
      steps += chunk.steps;
      if (steps > kMaxSpanSteps) break;
      count_chunk<P, V>(weights, args.pixels, chunk, i == first, sums);
      weights += chunk.steps * 32 * V;
    }
    for (int p = 0; p < P; ++p)
      for (int v = 0; v < 2 * V; ++v)
        subtract(sums[p][v], first == 0 ? &n : nullptr,
                 args.k + p * args.k_stride + 16 * v);
  }
}

template <int P, int V>
void count_dense_pixels(const CountArgs& args) {
  const __m256i n = _mm256_set1_epi32(args.n);
  const int64_t size = ceil_div(args.n, 8);
  const uint8_t* weights = args.weights;
  const uint8_t* rows[P];
  for (int p = 0; p < P; ++p) rows[p] = args.pixels[p];
  // operands of a last nibble that is filler: a byte may lack its other half
  uint8_t last[P][2];
  __m256i sums[P][2 * V];
  constexpr int64_t kChunk = kMaxChunkSteps / 2;
  constexpr int64_t kSpan = kMaxSpanSteps / 2 / kChunk * kChunk;
  for (int64_t i = 0; i < size;) {
    const int64_t first = i;
    const int64_t end = size - i < kSpan ? size : i + kSpan;
    while (i < end) {
      int64_t count = end - i < kChunk ? end - i : kChunk;
      const bool lacks_half = i + count == size && args.n % 8 != 0 &&
                              args.n % 8 <= 4;
      if (lacks_half && count > 1) --count;
      const bool is_last_half = lacks_half && i + count == size;
      for (int p = 0; p < P && is_last_half; ++p) {
        last[p][0] = rows[p][0];
        last[p][1] = 0;  // as the weights' filler: no mismatch
        rows[p] = last[p];
      }
      count_dense_chunk<P, V>(weights, rows, count, i == first, sums);
      weights += count * 32 * V;
      for (int p = 0; p < P; ++p) rows[p] += 2 * count;
      i += count;
    }
    for (int p = 0; p < P; ++p)
      for (int v = 0; v < 2 * V; ++v)
        subtract(sums[p][v], first == 0 ? &n : nullptr,
                 args.k + p * args.k_stride + 16 * v);
  }
}

void count_dense(const CountArgs& args) {
  using Count = void (*)(const CountArgs&);
  static const Count narrow[kFewRows] = {
      count_dense_pixels<1, 1>, count_dense_pixels<2, 1>,
      count_dense_pixels<3, 1>, count_dense_pixels<4, 1>};
  static const Count wide[kFewRows] = {
      count_dense_pixels<1, 2>, count_dense_pixels<2, 2>,
      count_dense_pixels<3, 2>, count_dense_pixels<4, 2>};
  (args.lanes == 32 ? narrow : wide)[args.num_pixels - 1](args);
}

void count(const CountArgs& args) {
  using Count = void (*)(const CountArgs&);
  static const Count narrow[kTile] = {
      count_pixels<1, 1>, count_pixels<2, 1>, count_pixels<3, 1>,
      count_pixels<4, 1>, count_pixels<5, 1>, count_pixels<6, 1>};
  static const Count wide[kTile] = {
      count_pixels<1, 2>, count_pixels<2, 2>, count_pixels<3, 2>,
      count_pixels<4, 2>, count_pixels<5, 2>, count_pixels<6, 2>};
  (args.lanes == 32 ? narrow : wide)[args.num_pixels - 1](args);
}

// ---- epilogues -----------------------------------------------------------

// Eight channels of one pixel: the affine map and what follows it.
struct Affine {
  __m256 scale, shift, pre, slope, post;

  Affine(const FloatEpilogue& args, int64_t c, __m256i lanes) {
    const auto parameter = [&](const float* vector) {
      return vector ? _mm256_maskload_ps(vector + c, lanes)
                    : _mm256_setzero_ps();
    };
    scale = parameter(args.scale);
    shift = parameter(args.shift);
    pre = parameter(args.pre);
    slope = parameter(args.slope);
    post = parameter(args.post);
  }

  // With `kMore`, what stands behind the residual.
  template <bool kResidual, bool kMore>
  __m256 apply(const FloatEpilogue& args, __m256i k, __m256 residual) const {
    __m256 y = _mm256_add_ps(_mm256_mul_ps(scale, _mm256_cvtepi32_ps(k)),
                             shift);
    if (kResidual) y = _mm256_add_ps(y, residual);
    if (!kMore) return y;
    if (args.pre) y = _mm256_add_ps(y, pre);
    if (args.slope) {
      const __m256 positive =
          _mm256_cmp_ps(y, _mm256_setzero_ps(), _CMP_GT_OQ);
      y = _mm256_blendv_ps(_mm256_mul_ps(slope, y), y, positive);
    }
    if (args.post) y = _mm256_add_ps(y, post);
    return y;
  }
};

// Eight channels from `c`, of which `lanes` exist. What is left out is known
// when it is compiled: branches would take as long as the arithmetic.
template <bool kWhole, bool kResidual, bool kMore, bool kBits>
inline void finish_channels(const FloatEpilogue& args, int64_t c,
                            __m256i lanes, uint64_t valid, uint64_t* words) {
  const Affine affine(args, c, lanes);
  const int32_t* k = args.k + c;
  const float* from = args.residual + (kResidual ? c : 0);
  float* to = args.y ? args.y + c : nullptr;
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    __m256 residual = _mm256_setzero_ps();
    if (kResidual)
      residual = kWhole ? _mm256_loadu_ps(from)
                        : _mm256_maskload_ps(from, lanes);
    const __m256 y = affine.apply<kResidual, kMore>(args, load(k), residual);
    if (kBits)
      words[p] |= (uint64_t(compare8(y, args.next, c)) & valid) << c;
    if (to) {
      // masked stores take ten times as long on some CPUs
      if (kWhole)
        _mm256_storeu_ps(to, y);
      else
        _mm256_maskstore_ps(to, lanes, y);
      to += args.y_stride;
    }
    k += args.k_stride;
    if (kResidual) from += args.residual_stride;
  }
}

template <bool kResidual, bool kMore, bool kBits>
void finish_pixels(const FloatEpilogue& args) {
  uint64_t words[kTile] = {};
  for (int64_t c = 0; c < args.channels; c += 8) {
    const int64_t left = args.channels - c;
    const uint64_t valid = left >= 8 ? 0xff : (1u << left) - 1;
    const auto finish = left >= 8
                            ? finish_channels<true, kResidual, kMore, kBits>
                            : finish_channels<false, kResidual, kMore, kBits>;
    finish(args, c, first_lanes(left), valid, words);
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

// Bits of 32 channels: k >= limit.
uint32_t passes32(const int32_t* k, const int32_t* limit) {
  const auto fails = [&](int i) {
    return _mm256_cmpgt_epi32(load(limit + 8 * i), load(k + 8 * i));
  };
  const __m256i bytes =
      _mm256_packs_epi16(_mm256_packs_epi32(fails(0), fails(1)),
                         _mm256_packs_epi32(fails(2), fails(3)));
  const __m256i ordered = _mm256_permutevar8x32_epi32(
      bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  return ~uint32_t(_mm256_movemask_epi8(ordered));
}

void finish_bits(const BitsEpilogue& args) {
  const uint64_t valid = ~uint64_t(0) >> (64 - args.channels);
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    const int32_t* k = args.k + p * args.k_stride;
    uint64_t word = passes32(k, args.limit);
    if (args.channels > 32)
      word |= uint64_t(passes32(k + 32, args.limit + 32)) << 32;
    word = (word ^ args.flip) & valid;
    std::memcpy(args.bits + p * args.bits_stride, &word, sizeof word);
  }
}

// Ties go to even.
struct Rounding {
  static constexpr int kBytes = 32;
  static __m256 round(__m256 x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
};

}  // namespace

const Kernels& avx2_kernels() {
  static const Kernels table = {
      "avx2",
      /*id=*/2,
      kTile,
      /*step_channels=*/4,
      /*step_bytes=*/1,
      kMaxChunkSteps,
      /*minus_one=*/0,
      kNeutral,
      has_neutral,
      /*lane_granule=*/32,
      /*lane_bytes=*/1,
      pack,
      expand,
      prepack,
      count,
      /*count_bits=*/nullptr,
      finish_float,
      finish_bits,
      average_region<32>,
      FakeQuantizeLoops<Rounding>::run,
      kFewRows,
      prepack_dense,
      count_dense,
  };
  return table;
}

}  // namespace mmcompress
