// Codes with AVX2.
//
// Weights of 4 and 2 bits are made unsigned and multiplied with signed codes:
// pairs of products are at most 2 * 15 * 128 and 2 * 3 * 128, so that sums of
// 8 and 32 of them fit into 16 bits. 8 bits times 8 bits don't fit, they are
// widened.
#include <immintrin.h>

#include <cstring>

#include "codes_kernels.h"
#include "integer_row_loops.h"
#include "layer_norm_loops.h"

namespace mmcompress {
namespace {

__m256i load(const uint8_t* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}

__m256i broadcast4(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}

void store(uint32_t* p, __m256i sums) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), sums);
}

// Sums of 16 bits for 8 outputs each: 0, 8, 16 and 24 onwards.
struct ShortSums {
  __m256i sums[4];

  void add(int i, __m256i weights, __m256i codes) {
    sums[i] = _mm256_add_epi16(sums[i], _mm256_maddubs_epi16(weights, codes));
  }
};

template <int kRows>
struct PanelSums {
  ShortSums shorts[kRows];
  __m256i sums[kRows][4];

  PanelSums() {
    for (auto& row : sums)
      for (__m256i& sum : row) sum = _mm256_setzero_si256();
    clear();
  }
  void clear() {
    for (ShortSums& row : shorts)
      for (__m256i& sum : row.sums) sum = _mm256_setzero_si256();
  }
  void flush() {
    const __m256i ones = _mm256_set1_epi16(1);
    for (int r = 0; r < kRows; ++r)
      for (int i = 0; i < 4; ++i)
        sums[r][i] = _mm256_add_epi32(
            sums[r][i], _mm256_madd_epi16(shorts[r].sums[i], ones));
    clear();
  }
  void store_to(uint32_t* target) const {
    for (int r = 0; r < kRows; ++r)
      for (int i = 0; i < 4; ++i)
        store(target + r * kPanel + 8 * i, sums[r][i]);
  }
};

template <int kRows>
void multiply_rows4(const PanelProducts& args) {
  const __m256i mask = _mm256_set1_epi8(15);
  const uint8_t* weights = args.weights;
  PanelSums<kRows> sums;
  for (int64_t first = 0; first < args.channels; first += 32) {
    const int64_t end =
        first + 32 < args.channels ? first + 32 : args.channels;
    for (int64_t k = first; k < end; k += 4, weights += 64) {
      const __m256i packed[2] = {load(weights), load(weights + 32)};
      __m256i unpacked[4];
      for (int i = 0; i < 2; ++i) {
        unpacked[i] = _mm256_and_si256(packed[i], mask);
        unpacked[2 + i] =
            _mm256_and_si256(_mm256_srli_epi16(packed[i], 4), mask);
      }
      for (int r = 0; r < kRows; ++r) {
        const __m256i codes = broadcast4(args.rows + r * args.row_stride + k);
        for (int i = 0; i < 4; ++i) sums.shorts[r].add(i, unpacked[i], codes);
      }
    }
    sums.flush();
  }
  sums.store_to(args.sums);
}

template <int kRows>
void multiply_rows2(const PanelProducts& args) {
  const __m256i mask = _mm256_set1_epi8(3);
  const uint8_t* weights = args.weights;
  PanelSums<kRows> sums;
  for (int64_t first = 0; first < args.channels; first += 128) {
    const int64_t end =
        first + 128 < args.channels ? first + 128 : args.channels;
    for (int64_t k = first; k < end; weights += 64) {
      __m256i packed[2] = {load(weights), load(weights + 32)};
      for (int four = 0; four < 2; ++four, k += 4) {
        __m256i unpacked[4];
        for (int i = 0; i < 2; ++i) {
          unpacked[i] = _mm256_and_si256(packed[i], mask);
          unpacked[2 + i] =
              _mm256_and_si256(_mm256_srli_epi16(packed[i], 2), mask);
          packed[i] = _mm256_srli_epi16(packed[i], 4);
        }
        for (int r = 0; r < kRows; ++r) {
          const __m256i codes = broadcast4(args.rows + r * args.row_stride + k);
          for (int i = 0; i < 4; ++i)
            sums.shorts[r].add(i, unpacked[i], codes);
        }
      }
    }
    sums.flush();
  }
  sums.store_to(args.sums);
}

// Sums of neighbouring pairs for 4 outputs in each vector.
template <int kRows>
void multiply_rows8(const PanelProducts& args) {
  __m256i sums[kRows][8];
  for (auto& row : sums)
    for (__m256i& sum : row) sum = _mm256_setzero_si256();
  const uint8_t* weights = args.weights;
  for (int64_t k = 0; k < args.channels; k += 4, weights += 128) {
    __m256i codes[kRows];
    for (int r = 0; r < kRows; ++r)
      codes[r] = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(
          broadcast4(args.rows + r * args.row_stride + k)));
    for (int i = 0; i < 8; ++i) {
      const __m256i wide = _mm256_cvtepi8_epi16(_mm_load_si128(
          reinterpret_cast<const __m128i*>(weights + 16 * i)));
      for (int r = 0; r < kRows; ++r)
        sums[r][i] = _mm256_add_epi32(sums[r][i],
                                      _mm256_madd_epi16(wide, codes[r]));
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < 4; ++i)
      store(args.sums + r * kPanel + 8 * i,
            _mm256_permute4x64_epi64(
                _mm256_hadd_epi32(sums[r][2 * i], sums[r][2 * i + 1]),
                _MM_SHUFFLE(3, 1, 2, 0)));
}

void multiply2(const PanelProducts& args) {
  args.num_rows == 1 ? multiply_rows2<1>(args) : multiply_rows2<2>(args);
}
void multiply4(const PanelProducts& args) {
  args.num_rows == 1 ? multiply_rows4<1>(args) : multiply_rows4<2>(args);
}
void multiply8(const PanelProducts& args) {
  args.num_rows == 1 ? multiply_rows8<1>(args) : multiply_rows8<2>(args);
}

}  // namespace

const CodesKernels& avx2_codes() {
  static const CodesKernels table = {
      "avx2",
      quantize,
      quantize_pixels,
      layer_norm,
      multiply2,
      multiply4,
      multiply8,
      /*most_rows=*/2,
      finish,
  };
  return table;
}

}  // namespace mmcompress
