// AVX-512 with VNNI: 16 output channels by 4 input channels at a time.
//
// `vpdpbusd` adds four products of unsigned codes and signed weights to 32-bit
// sums, exactly. A tile of 64 output channels and 6 pixels keeps 24 sums in
// registers, which is what hides the latency of two such instructions per
// cycle; narrower segments take more pixels.
#include <immintrin.h>

#include <cstring>

#include "integer_kernels.h"

namespace mmcompress {
namespace {

constexpr int kLanes = 16;
constexpr int kTile = 6;

__mmask16 first_lanes(int64_t count) {
  return count >= kLanes ? __mmask16(0xffff)
                         : __mmask16((1u << count) - 1);
}

// ---- sums ----------------------------------------------------------------

__m512i broadcast(const uint8_t* x) {
  int32_t quad;
  std::memcpy(&quad, x, sizeof quad);
  return _mm512_set1_epi32(quad);
}

// V vectors of output channels, P pixels.
template <int V, int P>
void sum_tile(const SumArgs& args) {
  __m512i sums[P][V];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      sums[p][v] = args.accumulate
                       ? _mm512_loadu_si512(args.sums + p * args.sums_stride +
                                            v * kLanes)
                       : _mm512_setzero_si512();
  const uint8_t* weights = args.weights;
  for (int64_t i = 0; i < args.num_chunks; ++i) {
    const Chunk& chunk = args.chunks[i];
    const uint8_t* x[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) x[p] = args.pixels[p] + chunk.offset;
    const int64_t bytes = chunk.steps * kQuad;
    for (int64_t c = 0; c < bytes; c += kQuad, weights += 64 * V) {
      __m512i w[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) w[v] = _mm512_loadu_si512(weights + 64 * v);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m512i quad = broadcast(x[p] + c);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
          sums[p][v] = _mm512_dpbusd_epi32(sums[p][v], quad, w[v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      _mm512_storeu_si512(args.sums + p * args.sums_stride + v * kLanes,
                          sums[p][v]);
}

template <int V>
void sum_vectors(const SumArgs& args) {
  static constexpr void (*kernels[kTile])(const SumArgs&) = {
      sum_tile<V, 1>, sum_tile<V, 2>, sum_tile<V, 3>,
      sum_tile<V, 4>, sum_tile<V, 5>, sum_tile<V, 6>};
  kernels[args.num_pixels - 1](args);
}

void sum_quads(const SumArgs& args) {
  switch (args.lanes / kLanes) {
    case 1:
      return sum_vectors<1>(args);
    case 2:
      return sum_vectors<2>(args);
    case 3:
      return sum_vectors<3>(args);
    default:
      return sum_vectors<4>(args);
  }
}

// Products of a code and a weight fit into 16 bits.
void sum_depthwise(const SumArgs& args) {
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    int32_t* sums = args.sums + p * args.sums_stride;
    for (int64_t lane = 0; lane < args.lanes; lane += kLanes) {
      __m512i sum = args.accumulate ? _mm512_loadu_si512(sums + lane)
                                    : _mm512_setzero_si512();
      for (int64_t i = 0; i < args.num_chunks; ++i) {
        const uint8_t* x = args.pixels[p] + args.chunks[i].offset + lane;
        const uint8_t* w = args.weights + i * args.lanes + lane;
        const __m256i products = _mm256_mullo_epi16(
            _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)x)),
            _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)w)));
        sum = _mm512_add_epi32(sum, _mm512_cvtepi16_epi32(products));
      }
      _mm512_storeu_si512(sums + lane, sum);
    }
  }
}

// ---- codes ---------------------------------------------------------------

// The limits as values before they are rounded.
struct Limits {
  __m512 scale;
  __m512 low;
  __m512 high;
  __m512i zero_point;
};

Limits division(float scale, const CodeGrid& grid) {
  return {_mm512_set1_ps(scale),
          _mm512_set1_ps(float(grid.low - grid.zero_point)),
          _mm512_set1_ps(float(grid.high - grid.zero_point)),
          _mm512_set1_epi32(grid.zero_point)};
}

// The maximum gives its second operand if the first is NaN.
__m512i round_codes(__m512 x, const Limits& limits) {
  x = _mm512_min_ps(_mm512_max_ps(x, limits.low), limits.high);
  return _mm512_cvtps_epi32(x);
}

__m128i divided(__m512 x, const Limits& limits) {
  // rounding is monotone and the limits are integers: they may come first
  const __m512i codes = round_codes(_mm512_div_ps(x, limits.scale), limits);
  return _mm512_cvtepi32_epi8(_mm512_add_epi32(codes, limits.zero_point));
}

void quantize(const float* x, int64_t count, float scale, const CodeGrid& grid,
              uint8_t* codes) {
  const Limits limits = division(scale, grid);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    _mm_storeu_si128((__m128i*)(codes + i),
                     divided(_mm512_loadu_ps(x + i), limits));
  if (i == count) return;
  const __mmask16 lanes = first_lanes(count - i);
  _mm_mask_storeu_epi8(codes + i, lanes,
                       divided(_mm512_maskz_loadu_ps(lanes, x + i), limits));
}

// ---- what follows the sums -----------------------------------------------

void finish(const IntegerEpilogue& args) {
  const __m512 input_scale = _mm512_set1_ps(args.input_scale);
  const __m512 zero = _mm512_setzero_ps(), six = _mm512_set1_ps(6.0f);
  const __m512 zero_point = _mm512_set1_ps(float(args.grid.zero_point));
  Limits limits = division(args.next_scale, args.grid);
  if (args.reciprocal) {
    limits.low = _mm512_set1_ps(float(args.grid.low));
    limits.high = _mm512_set1_ps(float(args.grid.high));
  }
  for (int64_t c = 0; c < args.channels; c += kLanes) {
    const __mmask16 lanes = first_lanes(args.channels - c);
    const __m512i correction = _mm512_loadu_si512(args.correction + c);
    const __m512 scale = _mm512_loadu_ps(args.scale + c);
    const __m512 bias =
        args.bias ? _mm512_loadu_ps(args.bias + c) : _mm512_setzero_ps();
    for (int64_t p = 0; p < args.num_pixels; ++p) {
      const __m512i sum = _mm512_sub_epi32(
          _mm512_loadu_si512(args.sums + p * args.sums_stride + c),
          correction);
      __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), input_scale);
      y = _mm512_mul_ps(y, scale);
      if (args.bias) y = _mm512_add_ps(y, bias);
      if (args.residual)
        y = _mm512_add_ps(
            y, _mm512_maskz_loadu_ps(
                   lanes, args.residual + p * args.residual_stride + c));
      // the second operand, if it is NaN
      if (args.act != Activation::kNone) y = _mm512_max_ps(zero, y);
      if (args.act == Activation::kRelu6) y = _mm512_min_ps(six, y);
      if (args.y)
        _mm512_mask_storeu_ps(args.y + p * args.y_stride + c, lanes, y);
      if (!args.codes) continue;
      const __m128i codes =
          args.reciprocal
              ? _mm512_cvtepi32_epi8(round_codes(
                    _mm512_add_ps(_mm512_mul_ps(y, limits.scale), zero_point),
                    limits))
              : divided(y, limits);
      _mm_mask_storeu_epi8(args.codes + p * args.codes_stride + c, lanes,
                           codes);
    }
  }
}

}  // namespace

const IntegerKernels& avx512_integer_kernels() {
  static const IntegerKernels table = {
      "avx512",
      /*id=*/3,
      kTile,
      /*segment=*/64,
      /*granule=*/kLanes,
      /*saturates=*/false,
      /*flip=*/0,
      sum_quads,
      nullptr,
      sum_depthwise,
      quantize,
      finish,
  };
  return table;
}

}  // namespace mmcompress
