// Attention of one head and region, for vectors of any width. Only for files
// compiled for one instruction set: see kernels.h.
//
// Scores are computed with keys side by side in a vector, for which they lie
// transposed, and outputs with channels side by side, as values lie. The
// compiler makes fused multiplications and additions of `a += b * c`, where
// there are any.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "attention_kernels.h"

namespace mmcompress {
namespace {

template <int kBytes>
struct Simd {
  typedef float Floats __attribute__((vector_size(kBytes)));
  typedef int32_t Ints __attribute__((vector_size(kBytes)));
  static constexpr int64_t kSize = kBytes / sizeof(float);

  static Floats load(const float* p) {
    Floats x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  static void store(float* p, const Floats& x) { std::memcpy(p, &x, sizeof x); }

  // e to the power of numbers up to 0, to 1e-7 of it; below 2^-126 that. Not a
  // number where x is none.
  static Floats exp(const Floats& x) {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23
    Floats t = x * 1.44269504f;
    t = t < -126.0f ? Floats{} - 126.0f : t;
    const Floats shifted = t + kRound;  // the integer is in its last bits
    const Floats f = t - (shifted - kRound);
    // 2^f, -0.5 <= f <= 0.5
    Floats p = Floats{} + 1.535336188e-4f;
    p = p * f + 1.339887440e-3f;
    p = p * f + 9.618437357e-3f;
    p = p * f + 5.550332471e-2f;
    p = p * f + 2.402264791e-1f;
    p = p * f + 6.931472028e-1f;
    p = p * f + 1.0f;
    const Ints power = ((Ints)shifted + 127) << 23;
    // a product, so that what is not a number stays so
    return p * (Floats)power;
  }
};

template <int64_t kKeys>
void copy_keys(const RegionAttention& args, float* keys) {
  // copied bytes could be those of anything: nothing is read again
  const int64_t stride = args.key_stride(), dims = args.dims;
  const int64_t num_blocks = args.num_blocks;
  const int64_t count = kKeys ? kKeys : args.block_keys;
  const float* const* blocks = args.key_blocks;
  for (int64_t b = 0; b < num_blocks; ++b, keys += count) {
    const float* source = blocks[b];
    float* target = keys;
    for (int64_t c = 0; c < dims; ++c, source += count, target += stride)
      std::memcpy(target, source, count * sizeof(float));
  }
}

// All keys side by side, (dims, key_stride); zeros behind them.
void gather_keys(const RegionAttention& args, float* keys) {
  const int64_t stride = args.key_stride(), rest = stride - args.num_keys();
  switch (args.block_keys) {
    case 1:
      copy_keys<1>(args, keys);
      break;
    case 4:
      copy_keys<4>(args, keys);
      break;
    case 16:
      copy_keys<16>(args, keys);
      break;
    default:
      copy_keys<0>(args, keys);
  }
  for (int64_t c = 0; rest && c < args.dims; ++c)
    std::memset(keys + (c + 1) * stride - rest, 0, rest * sizeof(float));
}

template <typename V, int kNum, int kVectors>
void score_tile(const RegionAttention& args, const AttentionScratch& scratch,
                int64_t first) {
  const int64_t stride = args.key_stride();
  typename V::Floats sums[kNum][kVectors] = {};
  const float* keys = scratch.keys + first;
  for (int64_t c = 0; c < args.dims; ++c, keys += stride) {
    typename V::Floats k[kVectors];
    for (int v = 0; v < kVectors; ++v) k[v] = V::load(keys + v * V::kSize);
    for (int i = 0; i < kNum; ++i) {
      const float q = scratch.queries[i * args.dims + c];
      for (int v = 0; v < kVectors; ++v) sums[i][v] += q * k[v];
    }
  }
  for (int i = 0; i < kNum; ++i)
    for (int v = 0; v < kVectors; ++v)
      V::store(scratch.scores + i * stride + first + v * V::kSize, sums[i][v]);
}

// From scores to their exponentials; returns what they are to be divided by.
template <typename V>
float exponentials(float* scores, int64_t num_keys, int64_t stride) {
  for (int64_t j = num_keys; j < stride; ++j)
    scores[j] = -std::numeric_limits<float>::infinity();
  typename V::Floats most = V::load(scores);
  for (int64_t j = V::kSize; j < stride; j += V::kSize) {
    const typename V::Floats x = V::load(scores + j);
    most = x > most ? x : most;
  }
  float largest = most[0];
  for (int i = 1; i < V::kSize; ++i)
    largest = most[i] > largest ? most[i] : largest;
  typename V::Floats sums = {};
  for (int64_t j = 0; j < stride; j += V::kSize) {
    const typename V::Floats p = V::exp(V::load(scores + j) - largest);
    V::store(scores + j, p);
    sums += p;
  }
  float sum = 0.0f;
  for (int i = 0; i < V::kSize; ++i) sum += sums[i];
  return sum;
}

template <typename V, int kNum, int kVectors>
void value_tile(const RegionAttention& args, const AttentionScratch& scratch,
                const float* factors, float* const* out, int64_t first) {
  const int64_t stride = args.key_stride(), num_keys = args.num_keys();
  typename V::Floats sums[kNum][kVectors] = {};
  for (int64_t j = 0; j < num_keys; ++j) {
    const float* value = args.values + args.value_offsets[j] + first;
    typename V::Floats x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = V::load(value + v * V::kSize);
    for (int i = 0; i < kNum; ++i) {
      const float p = scratch.scores[i * stride + j];
      for (int v = 0; v < kVectors; ++v) sums[i][v] += p * x[v];
    }
  }
  for (int i = 0; i < kNum; ++i)
    for (int v = 0; v < kVectors; ++v)
      V::store(out[i] + first + v * V::kSize, sums[i][v] * factors[i]);
}

// Channels from `first` on, as many as such vectors hold; returns the next.
template <typename V, int kNum, int kVectors>
int64_t value_tiles(const RegionAttention& args,
                    const AttentionScratch& scratch, const float* factors,
                    float* const* out, int64_t first) {
  constexpr int64_t kStep = kVectors * V::kSize;
  for (; first + kStep <= args.value_dims; first += kStep)
    value_tile<V, kNum, kVectors>(args, scratch, factors, out, first);
  return first;
}

template <int kBytes, int kNum, int kVectors>
void attend_queries(const RegionAttention& args,
                    const AttentionScratch& scratch, int64_t query) {
  using V = Simd<kBytes>;
  const int64_t stride = args.key_stride();
  for (int i = 0; i < kNum; ++i)
    for (int64_t c = 0; c < args.dims; ++c)
      scratch.queries[i * args.dims + c] =
          args.queries[query + i][c] * args.scale;
  int64_t first = 0;
  for (; first + kVectors * V::kSize <= stride; first += kVectors * V::kSize)
    score_tile<V, kNum, kVectors>(args, scratch, first);
  for (; first < stride; first += V::kSize)
    score_tile<V, kNum, 1>(args, scratch, first);
  float factors[kNum];
  for (int i = 0; i < kNum; ++i)
    factors[i] = 1.0f / exponentials<V>(scratch.scores + i * stride,
                                        args.num_keys(), stride);
  float* const* out = args.out + query;
  int64_t next =
      value_tiles<V, kNum, 2>(args, scratch, factors, out, 0);
  next = value_tiles<V, kNum, 1>(args, scratch, factors, out, next);
  next = value_tiles<Simd<16>, kNum, 1>(args, scratch, factors, out, next);
  value_tiles<Simd<4>, kNum, 1>(args, scratch, factors, out, next);
}

// kVectors: how many vectors of keys there are registers for.
template <int kBytes, int kVectors>
void attend(const RegionAttention& args, const AttentionScratch& scratch) {
  static_assert(kQueries == 4, "the rest has its own cases");
  static_assert(kKeyGranule % Simd<kBytes>::kSize == 0, "rows are too short");
  gather_keys(args, scratch.keys);
  int64_t i = 0;
  for (; i + kQueries <= args.num_queries; i += kQueries)
    attend_queries<kBytes, kQueries, kVectors>(args, scratch, i);
  switch (args.num_queries - i) {
    case 3:
      return attend_queries<kBytes, 3, kVectors>(args, scratch, i);
    case 2:
      return attend_queries<kBytes, 2, kVectors>(args, scratch, i);
    case 1:
      return attend_queries<kBytes, 1, kVectors>(args, scratch, i);
  }
}

}  // namespace
}  // namespace mmcompress
