// AVX2: 16 output channels by 6 pixels.
//
// `vpmaddubsw` multiplies unsigned codes and signed weights and adds pairs of
// products in 16 bits, where they saturate. It is exact as long as the largest
// pair of weights allows, see SumArgs::flush: for weights of 4 bits and fewer
// several steps are added in 16 bits before they go to sums of 32. Where not
// even one pair fits, codes and weights are widened and `vpmaddwd` takes over.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "integer_loops.h"

namespace mmcompress {
namespace {

constexpr int kLanes = 8;
constexpr int kTile = 6;
// From so many steps on it pays to keep sums in 16 bits.
constexpr int64_t kFewestSteps = 4;

__m256i load(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

void store(void* p, __m256i x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), x);
}

__m256i broadcast(const uint8_t* x) {
  int32_t word;
  std::memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

// ---- sums ----------------------------------------------------------------

const int32_t* first_sums(const SumArgs& args, int64_t p) {
  return args.start ? args.start : args.sums + p * args.sums_stride;
}

// Sums of 32 bits of two vectors of output channels and P pixels.
template <int P>
struct Sums {
  __m256i of[P][2];

  explicit Sums(const SumArgs& args) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v)
        of[p][v] = load(first_sums(args, p) + v * kLanes);
  }

  void write(const SumArgs& args) const {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v)
        store(args.sums + p * args.sums_stride + v * kLanes, of[p][v]);
  }
};

// A step fits into 16 bits.
template <int P>
void sum_each(const SumArgs& args) {
  Sums<P> sums(args);
  const __m256i ones = _mm256_set1_epi16(1);
  const uint8_t* weights = args.weights;
  for (int64_t i = 0; i < args.num_chunks; ++i) {
    const uint8_t* x[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) x[p] = args.pixels[p] + args.chunks[i].offset + args.skip;
    const int64_t bytes = args.chunks[i].steps * kQuad;
    for (int64_t c = 0; c < bytes; c += kQuad, weights += 64) {
      const __m256i w0 = load(weights), w1 = load(weights + 32);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m256i quad = broadcast(x[p] + c);
        const __m256i pairs0 = _mm256_maddubs_epi16(quad, w0);
        const __m256i pairs1 = _mm256_maddubs_epi16(quad, w1);
        sums.of[p][0] = _mm256_add_epi32(sums.of[p][0],
                                         _mm256_madd_epi16(pairs0, ones));
        sums.of[p][1] = _mm256_add_epi32(sums.of[p][1],
                                         _mm256_madd_epi16(pairs1, ones));
      }
    }
  }
  sums.write(args);
}

// Sums of 16 bits, two per output channel, and where they end.
template <int P>
struct ShortSums {
  __m256i of[P][2];

  void clear() {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) of[p][v] = _mm256_setzero_si256();
  }

  void flush(const SumArgs& args) {
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        int32_t* sums = args.sums + p * args.sums_stride + v * kLanes;
        store(sums, _mm256_add_epi32(load(sums),
                                     _mm256_madd_epi16(of[p][v], ones)));
      }
    clear();
  }
};

// Several steps fit into 16 bits.
template <int P>
void sum_several(const SumArgs& args) {
  if (args.start)
    for (int p = 0; p < P; ++p)
      std::memcpy(args.sums + p * args.sums_stride, args.start, 64);
  ShortSums<P> sums;
  sums.clear();
  const uint8_t* weights = args.weights;
  int64_t free = args.flush;
  for (int64_t i = 0; i < args.num_chunks; ++i) {
    const uint8_t* x[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) x[p] = args.pixels[p] + args.chunks[i].offset + args.skip;
    int64_t c = 0;
    for (int64_t left = args.chunks[i].steps; left > 0;) {
      const int64_t now = std::min(left, free);
      for (const int64_t end = c + now * kQuad; c < end;
           c += kQuad, weights += 64) {
        const __m256i w0 = load(weights), w1 = load(weights + 32);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
          const __m256i quad = broadcast(x[p] + c);
          const __m256i pairs0 = _mm256_maddubs_epi16(quad, w0);
          const __m256i pairs1 = _mm256_maddubs_epi16(quad, w1);
          sums.of[p][0] = _mm256_add_epi16(sums.of[p][0], pairs0);
          sums.of[p][1] = _mm256_add_epi16(sums.of[p][1], pairs1);
        }
      }
      left -= now;
      free -= now;
      if (free == 0) {
        sums.flush(args);
        free = args.flush;
      }
    }
  }
  sums.flush(args);
}

// Codes and weights of 16 bits.
template <int P>
void sum_wide(const SumArgs& args) {
  Sums<P> sums(args);
  const uint8_t* weights = args.weights;
  for (int64_t i = 0; i < args.num_chunks; ++i) {
    const uint8_t* x[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) x[p] = args.pixels[p] + args.chunks[i].offset + args.skip;
    const int64_t bytes = args.chunks[i].steps * kQuad * 2;
    for (int64_t c = 0; c < bytes; c += 4, weights += 64) {
      const __m256i w0 = load(weights), w1 = load(weights + 32);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m256i pair = broadcast(x[p] + c);
        const __m256i sum0 = _mm256_madd_epi16(pair, w0);
        const __m256i sum1 = _mm256_madd_epi16(pair, w1);
        sums.of[p][0] = _mm256_add_epi32(sums.of[p][0], sum0);
        sums.of[p][1] = _mm256_add_epi32(sums.of[p][1], sum1);
      }
    }
  }
  sums.write(args);
}

void sum_quads(const SumArgs& args) {
  static constexpr void (*each[kTile])(const SumArgs&) = {
      sum_each<1>, sum_each<2>, sum_each<3>,
      sum_each<4>, sum_each<5>, sum_each<6>};
  static constexpr void (*several[kTile])(const SumArgs&) = {
      sum_several<1>, sum_several<2>, sum_several<3>,
      sum_several<4>, sum_several<5>, sum_several<6>};
  const auto* kernels = args.flush < kFewestSteps ? each : several;
  kernels[args.num_pixels - 1](args);
}

void sum_pairs(const SumArgs& args) {
  static constexpr void (*kernels[kTile])(const SumArgs&) = {
      sum_wide<1>, sum_wide<2>, sum_wide<3>,
      sum_wide<4>, sum_wide<5>, sum_wide<6>};
  kernels[args.num_pixels - 1](args);
}

// Products of a code and a weight fit into 16 bits.
void sum_depthwise(const SumArgs& args) {
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    int32_t* sums = args.sums + p * args.sums_stride;
    for (int64_t lane = 0; lane < args.lanes; lane += 16) {
      const int32_t* first = first_sums(args, p) + lane;
      __m256i sum0 = load(first), sum1 = load(first + 8);
      for (int64_t i = 0; i < args.num_chunks; ++i) {
        const uint8_t* x =
            args.pixels[p] + args.chunks[i].offset + args.skip + lane;
        const uint8_t* w = args.weights + i * args.lanes + lane;
        const __m256i products = _mm256_mullo_epi16(
            _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)x)),
            _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)w)));
        sum0 = _mm256_add_epi32(
            sum0, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(products)));
        sum1 = _mm256_add_epi32(
            sum1,
            _mm256_cvtepi16_epi32(_mm256_extracti128_si256(products, 1)));
      }
      store(sums + lane, sum0);
      store(sums + lane + 8, sum1);
    }
  }
}

// ---- codes ---------------------------------------------------------------

// The limits as values before they are rounded.
struct Limits {
  __m256 scale;
  __m256 low;
  __m256 high;
  __m256i zero_point;
};

Limits division(float scale, const CodeGrid& grid) {
  return {_mm256_set1_ps(scale),
          _mm256_set1_ps(float(grid.low - grid.zero_point)),
          _mm256_set1_ps(float(grid.high - grid.zero_point)),
          _mm256_set1_epi32(grid.zero_point)};
}

// The maximum gives its second operand if the first is NaN.
__m256i round_codes(__m256 x, const Limits& limits) {
  x = _mm256_min_ps(_mm256_max_ps(x, limits.low), limits.high);
  return _mm256_cvtps_epi32(x);
}

__m256i divided(__m256 x, const Limits& limits) {
  // rounding is monotone and the limits are integers: they may come first
  const __m256i codes = round_codes(_mm256_div_ps(x, limits.scale), limits);
  return _mm256_add_epi32(codes, limits.zero_point);
}

// 32 bits -> 8 lanes of 8.
void store_codes(uint8_t* out, __m256i codes) {
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(codes),
                                         _mm256_extracti128_si256(codes, 1));
  _mm_storel_epi64((__m128i*)out, _mm_packus_epi16(words, words));
}

// ---- what follows the sums -----------------------------------------------

// Whole vectors of channels.
template <Result kResult, bool kHasResidual>
void finish_vectors(const IntegerEpilogue& args) {
  const __m256 input_scale = _mm256_set1_ps(args.input_scale);
  const __m256 lowest = _mm256_set1_ps(args.lowest);
  const __m256 highest = _mm256_set1_ps(args.highest);
  const __m256 zero_point = _mm256_set1_ps(float(args.grid.zero_point));
  Limits limits = division(args.next_scale, args.grid);
  if (kResult == Result::kCodes) {
    // the zero point is added before the value is rounded
    limits.low = _mm256_set1_ps(float(args.grid.low));
    limits.high = _mm256_set1_ps(float(args.grid.high));
  }
  for (int64_t c = 0; c < args.channels; c += kLanes) {
    const __m256 scale = _mm256_loadu_ps(args.scale + c);
    const __m256 bias = _mm256_loadu_ps(args.bias + c);
    for (int64_t p = 0; p < args.num_pixels; ++p) {
      const __m256i sum = load(args.sums + p * args.sums_stride + c);
      __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), input_scale);
      y = _mm256_add_ps(_mm256_mul_ps(y, scale), bias);
      if (kHasResidual)
        y = _mm256_add_ps(y, _mm256_loadu_ps(args.residual +
                                             p * args.residual_stride + c));
      // the second operand, if it is NaN
      y = _mm256_min_ps(highest, _mm256_max_ps(lowest, y));
      if (kResult != Result::kCodes)
        _mm256_storeu_ps(args.y + p * args.y_stride + c, y);
      uint8_t* codes = args.codes + p * args.codes_stride + c;
      if (kResult == Result::kFloatsAndCodes)
        store_codes(codes, divided(y, limits));
      if (kResult == Result::kCodes)
        store_codes(codes, round_codes(_mm256_add_ps(_mm256_mul_ps(
                                                         y, limits.scale),
                                                     zero_point),
                                       limits));
    }
  }
}

template <Result kResult>
void finish_result(const IntegerEpilogue& args) {
  if (args.residual)
    finish_vectors<kResult, true>(args);
  else
    finish_vectors<kResult, false>(args);
}

void finish_whole(const IntegerEpilogue& args) {
  switch (args.result) {
    case Result::kFloats:
      return finish_result<Result::kFloats>(args);
    case Result::kFloatsAndCodes:
      return finish_result<Result::kFloatsAndCodes>(args);
    case Result::kCodes:
      return finish_result<Result::kCodes>(args);
  }
}

void finish(const IntegerEpilogue& args) {
  const int64_t whole = args.channels / kLanes * kLanes;
  IntegerEpilogue part = args;
  part.channels = whole;
  finish_whole(part);
  part.channels = args.channels - whole;
  if (part.channels == 0) return;
  part.scale += whole;
  part.bias += whole;
  part.sums += whole;
  if (part.residual) part.residual += whole;
  if (part.y) part.y += whole;
  if (part.codes) part.codes += whole;
  finish_loop(part);
}

}  // namespace

const IntegerKernels& avx2_integer_kernels() {
  static const IntegerKernels table = {
      "avx2",
      /*id=*/2,
      kTile,
      /*segment=*/16,
      /*granule=*/16,
      /*saturates=*/true,
      /*flip=*/0,
      sum_quads,
      sum_pairs,
      sum_depthwise,
      finish,
  };
  return table;
}

}  // namespace mmcompress
