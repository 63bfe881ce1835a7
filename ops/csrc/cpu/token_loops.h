// Loops over vectors of the compiler, for every instruction set. Included by
// each token_kernels_<isa>.cpp, which defines MMCOMPRESS_LANES and
// MMCOMPRESS_ROWS; its flags let sums and products be fused.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "../match_merge_shape.h"
#include "token_kernels.h"

namespace mmcompress {
namespace {

// Of a vector; sums of kRows times two vectors are kept in registers.
constexpr int kLanes = MMCOMPRESS_LANES;
constexpr int kRows = MMCOMPRESS_ROWS;
constexpr int kColumns = 2 * kLanes;

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

Floats load(const float* p) {
  Floats values;
  std::memcpy(&values, p, sizeof values);
  return values;
}

void store(float* p, Floats values) { std::memcpy(p, &values, sizeof values); }

void unit_key(const TokenKeys& keys, float* scratch, int64_t stride,
              float* out) {
  const int64_t whole = keys.dims / kLanes * kLanes;
  Floats squares = {};
  for (int64_t d = 0; d < whole; d += kLanes) {
    Floats sum = {};
    for (int64_t h = 0; h < keys.heads; ++h) {
      const float* p = keys.data + h * keys.head_stride + d;
      sum += load(p);
      // tokens lie too far from each other for the processor to foresee it
      __builtin_prefetch(p + keys.next);
    }
    store(scratch + d, sum);
    squares += sum * sum;
  }
  float length = 0.0f;
  for (int64_t d = whole; d < keys.dims; ++d) {
    float sum = keys.data[d];
    for (int64_t h = 1; h < keys.heads; ++h)
      sum += keys.data[h * keys.head_stride + d];
    scratch[d] = sum;
    length += sum * sum;
  }
  for (int i = 0; i < kLanes; ++i) length += squares[i];
  const float factor = length == 0.0f ? 1.0f : 1.0f / std::sqrt(length);
  for (int64_t d = 0; d < keys.dims; ++d)
    out[d * stride] = scratch[d] * factor;
}

// The first of the lanes' largest.
void reduce(const Floats& best, const Ints& column, float* largest,
            int32_t* first) {
  *largest = best[0];
  *first = column[0];
  for (int i = 1; i < kLanes; ++i)
    if (best[i] > *largest || (best[i] == *largest && column[i] < *first)) {
      *largest = best[i];
      *first = column[i];
    }
}

void find_best(const Similarities& args) {
  Floats best[kRows];
  Ints column[kRows];
  Ints here;
  for (int i = 0; i < kLanes; ++i) here[i] = i;
  for (int r = 0; r < kRows; ++r) {
    best[r] = Floats{} - INFINITY;
    column[r] = here;
  }
  const Floats most_similar = Floats{} + kMostSimilar;
  const float* columns = args.columns;
  for (int64_t first = 0; first < args.num_columns; first += kColumns) {
    Floats sums[kRows][2] = {};
    const float* rows = args.rows;
    for (int64_t d = 0; d < args.dims;
         ++d, rows += kRows, columns += kColumns) {
      const Floats left = load(columns), right = load(columns + kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        sums[r][0] += rows[r] * left;
        sums[r][1] += rows[r] * right;
      }
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half, here += kLanes)
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        // what is no number stays so
        const Floats sum =
            sums[r][half] > most_similar ? most_similar : sums[r][half];
        const Ints is_better = sum > best[r];
        best[r] = is_better ? sum : best[r];
        column[r] = is_better ? here : column[r];
      }
  }
  for (int r = 0; r < kRows; ++r)
    reduce(best[r], column[r], args.best + r, args.column + r);
}

void average(const TokenAverage& args) {
  const int64_t whole = args.channels / kLanes * kLanes;
  for (int64_t c = 0; c < whole; c += kLanes) {
    Floats sum = args.weights[0] * load(args.rows[0] + c);
    for (int64_t i = 1; i < args.num_rows; ++i)
      sum += args.weights[i] * load(args.rows[i] + c);
    store(args.out + c, sum / args.total);
  }
  for (int64_t c = whole; c < args.channels; ++c) {
    float sum = args.weights[0] * args.rows[0][c];
    for (int64_t i = 1; i < args.num_rows; ++i)
      sum += args.weights[i] * args.rows[i][c];
    args.out[c] = sum / args.total;
  }
}

TokenKernels make_tokens(const char* name) {
  return {name, kRows, kColumns, unit_key, find_best, average};
}

}  // namespace
}  // namespace mmcompress
