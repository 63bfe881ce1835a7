// Codes with AVX-512 and its VNNI: `vpdpbusd` adds four products of unsigned
// and signed bytes to 32 bits, modulo 2^32.
#include <immintrin.h>

#include <cstring>

#include "codes_kernels.h"
#include "integer_row_loops.h"
#include "quantize_loops.h"

namespace mmcompress {
namespace {

__m512i load(const uint8_t* p) {
  return _mm512_load_si512(reinterpret_cast<const void*>(p));
}

__m512i broadcast4(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}

// Sums for both halves of the panel. With few rows several of each, because
// an addition waits for the one before.
template <int kRows>
struct PanelSums {
  static constexpr int kChains = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;
  __m512i sums[kRows][kChains][2];

  PanelSums() {
    for (auto& row : sums)
      for (auto& chain : row)
        for (__m512i& sum : chain) sum = _mm512_setzero_si512();
  }
  void add(int row, int step, int half, __m512i unsigned_bytes,
           __m512i signed_bytes) {
    __m512i& sum = sums[row][step % kChains][half];
    sum = _mm512_dpbusd_epi32(sum, unsigned_bytes, signed_bytes);
  }
  void store_to(uint32_t* target) const {
    for (int r = 0; r < kRows; ++r)
      for (int half = 0; half < 2; ++half) {
        __m512i sum = sums[r][0][half];
        for (int i = 1; i < kChains; ++i)
          sum = _mm512_add_epi32(sum, sums[r][i][half]);
        _mm512_storeu_si512(target + r * kPanel + 16 * half, sum);
      }
  }
};

// Far enough ahead for the memory behind the second cache.
constexpr int64_t kAhead = 2048;

void prefetch(const uint8_t* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p) + kAhead, _MM_HINT_T0);
}

// Four channels of each row times 4 unsigned weights of 32 outputs.
template <int kRows>
void add_four(const PanelProducts& args, int64_t k, int step, __m512i first,
              __m512i second, PanelSums<kRows>& sums) {
  for (int r = 0; r < kRows; ++r) {
    const __m512i codes = broadcast4(args.rows + r * args.channels + k);
    sums.add(r, step, 0, first, codes);
    sums.add(r, step, 1, second, codes);
  }
}

template <int kRows>
void multiply_rows2(const PanelProducts& args) {
  const __m512i mask = _mm512_set1_epi8(3);
  const uint8_t* weights = args.weights;
  PanelSums<kRows> sums;
  for (int64_t k = 0; k < args.channels; k += 16)
    for (int step = 0; step < 2; ++step, weights += 64) {
      prefetch(weights);
      const __m512i packed = load(weights);
      const auto field = [&](int i) {
        return _mm512_and_si512(_mm512_srli_epi16(packed, 2 * i), mask);
      };
      add_four(args, k + 8 * step, 2 * step, _mm512_and_si512(packed, mask),
               field(1), sums);
      add_four(args, k + 8 * step + 4, 2 * step + 1, field(2), field(3), sums);
    }
  sums.store_to(args.sums);
}

template <int kRows>
void multiply_rows4(const PanelProducts& args) {
  const __m512i mask = _mm512_set1_epi8(15);
  const uint8_t* weights = args.weights;
  PanelSums<kRows> sums;
  for (int64_t k = 0; k < args.channels; k += 16)
    for (int step = 0; step < 4; ++step, weights += 64) {
      prefetch(weights);
      const __m512i packed = load(weights);
      add_four(args, k + 4 * step, step, _mm512_and_si512(packed, mask),
               _mm512_and_si512(_mm512_srli_epi16(packed, 4), mask), sums);
    }
  sums.store_to(args.sums);
}

template <int kRows>
void multiply_rows8(const PanelProducts& args) {
  const uint8_t* weights = args.weights;
  PanelSums<kRows> sums;
  for (int64_t k = 0; k < args.channels; k += 16)
    for (int step = 0; step < 4; ++step, weights += 128) {
      prefetch(weights);
      prefetch(weights + 64);
      const __m512i first = load(weights), second = load(weights + 64);
      for (int r = 0; r < kRows; ++r) {
        const __m512i codes =
            broadcast4(args.rows + r * args.channels + k + 4 * step);
        sums.add(r, step, 0, codes, first);
        sums.add(r, step, 1, codes, second);
      }
    }
  sums.store_to(args.sums);
}

using Multiply = void (*)(const PanelProducts&);

template <Multiply one, Multiply two, Multiply three, Multiply four>
void by_rows(const PanelProducts& args) {
  static constexpr Multiply functions[] = {one, two, three, four};
  functions[args.num_rows - 1](args);
}

}  // namespace

const CodesKernels& avx512_codes() {
  static const CodesKernels table = {
      "avx512",
      quantize,
      quantize_pixels,
      by_rows<multiply_rows2<1>, multiply_rows2<2>, multiply_rows2<3>,
              multiply_rows2<4>>,
      by_rows<multiply_rows4<1>, multiply_rows4<2>, multiply_rows4<3>,
              multiply_rows4<4>>,
      by_rows<multiply_rows8<1>, multiply_rows8<2>, multiply_rows8<3>,
              multiply_rows8<4>>,
      /*most_rows=*/4,
      finish,
  };
  return table;
}

}  // namespace mmcompress
