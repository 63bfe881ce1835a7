// Codes with AVX-512 and its VNNI: `vpdpbusd` adds four products of unsigned
// and signed bytes to 32 bits, modulo 2^32.
#include <immintrin.h>

#include <cstring>

#include "codes_kernels.h"
#include "integer_row_loops.h"
#include "layer_norm_loops.h"

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

// Weights of 8 bits wait for the memory behind the second cache: this far
// ahead. Narrower ones wait for the loads of codes more than that.
constexpr int64_t kAhead = 2048;

void prefetch(const uint8_t* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p) + kAhead, _MM_HINT_T0);
}

// Several sums for each row. With few rows there are `kChains` of each,
// because an addition waits for the one before.
template <int kRows, int kSums>
struct Sums {
  static constexpr int kChains = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;
  __m512i sums[kRows][kChains][kSums];

  Sums() {
    for (auto& row : sums)
      for (auto& chain : row)
        for (__m512i& sum : chain) sum = _mm512_setzero_si512();
  }
  void add(int row, int step, int i, __m512i unsigned_bytes,
           __m512i signed_bytes) {
    __m512i& sum = sums[row][step % kChains][i];
    sum = _mm512_dpbusd_epi32(sum, unsigned_bytes, signed_bytes);
  }
  __m512i get(int row, int i) const {
    __m512i sum = sums[row][0][i];
    for (int chain = 1; chain < kChains; ++chain)
      sum = _mm512_add_epi32(sum, sums[row][chain][i]);
    return sum;
  }
};

void store(const PanelProducts& args, int row, __m512i first,
           __m512i second) {
  _mm512_storeu_si512(args.sums + row * kPanel, first);
  _mm512_storeu_si512(args.sums + row * kPanel + 16, second);
}

// Fields of a byte are masked, not shifted: their sums are multiples of 4, 16
// and 64. The lowest ones need no mask, what is above them is subtracted.

template <int kRows>
void multiply_rows2(const PanelProducts& args) {
  const auto mask = [](int bits) { return _mm512_set1_epi8(char(bits)); };
  const uint8_t* weights = args.weights;
  Sums<kRows, 4> sums;
  for (int64_t k = 0; k < args.channels; k += 16)
    for (int step = 0; step < 2; ++step, weights += 64) {
      const __m512i packed = load(weights);
      const __m512i fields[] = {_mm512_and_si512(packed, mask(0x0f)),
                                _mm512_and_si512(packed, mask(0x0c)),
                                _mm512_and_si512(packed, mask(0xf0)),
                                _mm512_and_si512(packed, mask(0xc0))};
      for (int r = 0; r < kRows; ++r) {
        const uint8_t* row = args.rows + r * args.row_stride + k + 8 * step;
        const __m512i low = broadcast4(row), high = broadcast4(row + 4);
        sums.add(r, step, 0, fields[0], low);
        sums.add(r, step, 1, fields[1], low);
        sums.add(r, step, 2, fields[2], high);
        sums.add(r, step, 3, fields[3], high);
      }
    }
  for (int r = 0; r < kRows; ++r) {
    const __m512i second = sums.get(r, 1), fourth = sums.get(r, 3);
    const __m512i first = _mm512_sub_epi32(sums.get(r, 0), second);
    const __m512i third = _mm512_sub_epi32(sums.get(r, 2), fourth);
    store(args, r, _mm512_add_epi32(first, _mm512_srai_epi32(third, 4)),
          _mm512_add_epi32(_mm512_srai_epi32(second, 2),
                           _mm512_srai_epi32(fourth, 6)));
  }
}

template <int kRows>
void multiply_rows4(const PanelProducts& args) {
  const __m512i mask = _mm512_set1_epi8(char(0xf0));
  const uint8_t* weights = args.weights;
  Sums<kRows, 2> sums;
  for (int64_t k = 0; k < args.channels; k += 16)
    for (int step = 0; step < 4; ++step, weights += 64) {
      const __m512i packed = load(weights);
      const __m512i high = _mm512_and_si512(packed, mask);
      for (int r = 0; r < kRows; ++r) {
        const __m512i codes =
            broadcast4(args.rows + r * args.row_stride + k + 4 * step);
        sums.add(r, step, 0, packed, codes);
        sums.add(r, step, 1, high, codes);
      }
    }
  for (int r = 0; r < kRows; ++r) {
    const __m512i high = sums.get(r, 1);
    store(args, r, _mm512_sub_epi32(sums.get(r, 0), high),
          _mm512_srai_epi32(high, 4));
  }
}

template <int kRows>
void multiply_rows8(const PanelProducts& args) {
  const uint8_t* weights = args.weights;
  Sums<kRows, 2> sums;
  for (int64_t k = 0; k < args.channels; k += 16)
    for (int step = 0; step < 4; ++step, weights += 128) {
      prefetch(weights);
      prefetch(weights + 64);
      const __m512i first = load(weights), second = load(weights + 64);
      for (int r = 0; r < kRows; ++r) {
        const __m512i codes =
            broadcast4(args.rows + r * args.row_stride + k + 4 * step);
        sums.add(r, step, 0, codes, first);
        sums.add(r, step, 1, codes, second);
      }
    }
  for (int r = 0; r < kRows; ++r)
    store(args, r, sums.get(r, 0), sums.get(r, 1));
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
      layer_norm,
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
