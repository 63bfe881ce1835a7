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

const int32_t* first_sums(const SumArgs& args, int64_t p) {
  return args.start ? args.start : args.sums + p * args.sums_stride;
}

// V vectors of output channels, P pixels.
template <int V, int P>
void sum_tile(const SumArgs& args) {
  __m512i sums[P][V];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      sums[p][v] = _mm512_loadu_si512(first_sums(args, p) + v * kLanes);
  const uint8_t* weights = args.weights;
  for (int64_t i = 0; i < args.num_chunks; ++i) {
    const Chunk& chunk = args.chunks[i];
    const uint8_t* x[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) x[p] = args.pixels[p] + chunk.offset + args.skip;
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
      __m512i sum = _mm512_loadu_si512(first_sums(args, p) + lane);
      for (int64_t i = 0; i < args.num_chunks; ++i) {
        const uint8_t* x =
            args.pixels[p] + args.chunks[i].offset + args.skip + lane;
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

// ---- what follows the sums -----------------------------------------------

// How y becomes codes.
template <Result kResult>
struct Requantization {
  Limits limits;
  __m512 zero_point;

  explicit Requantization(const IntegerEpilogue& args)
      : limits(division(args.next_scale, args.grid)),
        zero_point(_mm512_set1_ps(float(args.grid.zero_point))) {
    if (kResult != Result::kCodes) return;
    // the zero point is added before the value is rounded
    limits.low = _mm512_set1_ps(float(args.grid.low));
    limits.high = _mm512_set1_ps(float(args.grid.high));
  }

  __m512i operator()(__m512 y) const {
    if (kResult == Result::kCodes)
      return round_codes(
          _mm512_add_ps(_mm512_mul_ps(y, limits.scale), zero_point), limits);
    // rounding is monotone and the limits are integers: they may come first
    return _mm512_add_epi32(
        round_codes(_mm512_div_ps(y, limits.scale), limits),
        limits.zero_point);
  }
};

// V vectors of channels; if not whole, one with so many lanes: stores with a
// mask are slow on some processors.
template <Result kResult, bool kHasResidual, int V, bool kIsWhole>
void finish_vectors(const IntegerEpilogue& args, int64_t c, __mmask16 lanes) {
  const __m512 input_scale = _mm512_set1_ps(args.input_scale);
  const __m512 lowest = _mm512_set1_ps(args.lowest);
  const __m512 highest = _mm512_set1_ps(args.highest);
  const Requantization<kResult> requantize(args);
  // packing works on the quarters of vectors
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10,
                                          14, 3, 7, 11, 15);
  __m512 scale[V], bias[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    scale[v] = _mm512_loadu_ps(args.scale + c + v * kLanes);
    bias[v] = _mm512_loadu_ps(args.bias + c + v * kLanes);
  }
  const int32_t* sums = args.sums + c;
  const float* residual = kHasResidual ? args.residual + c : nullptr;
  float* out = kResult == Result::kCodes ? nullptr : args.y + c;
  uint8_t* codes = kResult == Result::kFloats ? nullptr : args.codes + c;
  for (int64_t p = args.num_pixels; p > 0; --p) {
    __m512 y[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const __m512i sum = _mm512_loadu_si512(sums + v * kLanes);
      y[v] = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), input_scale);
      y[v] = _mm512_mul_ps(y[v], scale[v]);
      y[v] = _mm512_add_ps(y[v], bias[v]);
      if (kHasResidual)
        y[v] = _mm512_add_ps(
            y[v], kIsWhole ? _mm512_loadu_ps(residual + v * kLanes)
                           : _mm512_maskz_loadu_ps(lanes, residual));
      // the second operand, if it is NaN
      y[v] = _mm512_min_ps(highest, _mm512_max_ps(lowest, y[v]));
      if (kResult == Result::kCodes) continue;
      if (kIsWhole)
        _mm512_storeu_ps(out + v * kLanes, y[v]);
      else
        _mm512_mask_storeu_ps(out, lanes, y[v]);
    }
    if (kResult != Result::kFloats) {
      if (V == 4) {
        const __m512i words0 =
            _mm512_packus_epi32(requantize(y[0]), requantize(y[1 % V]));
        const __m512i words1 =
            _mm512_packus_epi32(requantize(y[2 % V]), requantize(y[3 % V]));
        const __m512i all = _mm512_packus_epi16(words0, words1);
        _mm512_storeu_si512(codes, _mm512_permutexvar_epi32(order, all));
      } else {
        const __m128i all = _mm512_cvtepi32_epi8(requantize(y[0]));
        if (kIsWhole)
          _mm_storeu_si128((__m128i*)codes, all);
        else
          _mm_mask_storeu_epi8(codes, lanes, all);
      }
    }
    sums += args.sums_stride;
    if (kHasResidual) residual += args.residual_stride;
    if (kResult != Result::kCodes) out += args.y_stride;
    if (kResult != Result::kFloats) codes += args.codes_stride;
  }
}

template <Result kResult, bool kHasResidual>
void finish_channels(const IntegerEpilogue& args) {
  int64_t c = 0;
  for (; c + 4 * kLanes <= args.channels; c += 4 * kLanes)
    finish_vectors<kResult, kHasResidual, 4, true>(args, c, 0);
  for (; c + kLanes <= args.channels; c += kLanes)
    finish_vectors<kResult, kHasResidual, 1, true>(args, c, 0);
  if (c < args.channels)
    finish_vectors<kResult, kHasResidual, 1, false>(
        args, c, first_lanes(args.channels - c));
}

template <Result kResult>
void finish_result(const IntegerEpilogue& args) {
  if (args.residual)
    finish_channels<kResult, true>(args);
  else
    finish_channels<kResult, false>(args);
}

void finish(const IntegerEpilogue& args) {
  switch (args.result) {
    case Result::kFloats:
      return finish_result<Result::kFloats>(args);
    case Result::kFloatsAndCodes:
      return finish_result<Result::kFloatsAndCodes>(args);
    case Result::kCodes:
      return finish_result<Result::kCodes>(args);
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
      finish,
  };
  return table;
}

}  // namespace mmcompress
