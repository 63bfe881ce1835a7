// Fake quantization of neighbouring values, for vectors of any width. Only for
// files compiled for one instruction set: see kernels.h.
//
// Sums are kept for 16 lanes, however many a vector has, so that they are the
// same for every instruction set.
#pragma once

#include <cstring>

#include "kernels.h"

namespace mmcompress {
namespace {

// Rounds to the nearest integer, ties to even, keeps the sign of 0 and what is
// not a number: for instruction sets without an instruction for it.
template <int kVectorBytes>
struct PlainRounding {
  static constexpr int kBytes = kVectorBytes;
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Mask __attribute__((vector_size(kVectorBytes)));

  static Vector round(Vector x) {
    // 2^23, from which on all are integers
    const Vector limit = Vector{} + 8388608.0f;
    const Mask sign = (Mask)x & INT32_MIN;
    const Vector magnitude = (Vector)((Mask)x & INT32_MAX);
    const Vector rounded = (magnitude + limit) - limit;
    const Mask is_small = (Mask)(magnitude < limit);
    return (Vector)((is_small & (Mask)rounded) |
                    (~is_small & (Mask)magnitude) | sign);
  }
};

// `Rounding` has a vector's size, kBytes, and rounds its values.
template <typename Rounding>
struct FakeQuantizeLoops {
  typedef float Vector __attribute__((vector_size(Rounding::kBytes)));
  typedef int32_t Mask __attribute__((vector_size(Rounding::kBytes)));
  static constexpr int64_t kSize = Rounding::kBytes / sizeof(float);
  static constexpr int kVectors = kQuantizedLanes / kSize;

  static Vector read(const float* p) {
    Vector vector;
    std::memcpy(&vector, p, sizeof vector);
    return vector;
  }
  static void write(Vector vector, float* p) {
    std::memcpy(p, &vector, sizeof vector);
  }
  // A sum with 0 would lose the sign of -0.
  static Vector all(float x) {
    float values[kSize];
    for (float& value : values) value = x;
    return read(values);
  }
  static Vector round(Vector x) { return (Vector)Rounding::round(x); }
  static void add(Vector x, int64_t count, float* sums) {
    float values[kSize];
    write(x, values);
    for (int64_t j = 0; j < count; ++j) sums[j] += values[j];
  }
  // As in PyTorch, what is not a number stays so.
  static Vector clamp(Vector x, Vector low, Vector high) {
    x = x < low ? low : x;
    return x > high ? high : x;
  }
  static Vector where(Mask mask, Vector x) { return (Vector)(mask & (Mask)x); }

  // The parameters of one vector of values. Those of an offset are read only
  // where there is one.
  template <bool kOffset>
  struct Parameters {
    Vector scale, beta_in, beta_out, zero_in, zero_out;

    void read_from(const QuantizedRun& run, int64_t i) {
      scale = read(run.scale + i);
      if (!kOffset) return;
      beta_in = read(run.beta_in + i);
      beta_out = read(run.beta_out + i);
      zero_in = read(run.zero_in + i);
      zero_out = read(run.zero_out + i);
    }
    void fill_from(const QuantizedRun& run) {
      scale = all(*run.scale);
      if (!kOffset) return;
      beta_in = all(*run.beta_in);
      beta_out = all(*run.beta_out);
      zero_in = all(*run.zero_in);
      zero_out = all(*run.zero_out);
    }
  };

  template <bool kOffset>
  static Vector quantized(const QuantizedRun& run,
                          const Parameters<kOffset>& p, Vector x) {
    const Vector low = all(run.low), high = all(run.high);
    if (!kOffset) return clamp(round(x / p.scale), low, high) * p.scale;
    const Vector code = round((x - p.beta_in) / p.scale) + p.zero_in;
    return (clamp(code, low, high) - p.zero_out) * p.scale + p.beta_out;
  }

  // Adds to the sums.
  template <bool kOffset, bool kRounded>
  static Vector gradient(const QuantizedRun& run, const Parameters<kOffset>& p,
                         Vector x, Vector dy, Vector& scale_sum,
                         Vector& outside_sum) {
    Vector low = all(run.low), high = all(run.high);
    const Vector u = kOffset ? (x - p.beta_in) / p.scale : x / p.scale;
    const Vector code = round(u);
    Vector seen = kRounded ? code : u;
    if (kOffset) {
      seen = seen + p.zero_in;
      low = low - p.zero_out;
      high = high - p.zero_out;
    }
    // false where it is not a number
    const Mask inside =
        (Mask)(seen > all(run.below)) & (Mask)(seen < all(run.above));
    const Vector dx = where(inside, dy);
    scale_sum += (clamp(code, low, high) - where(inside, u)) * dy;
    if (kOffset) outside_sum += dy - dx;
    return dx;
  }

  template <bool kPerValue, bool kOffset>
  static void forward(const QuantizedRun& run) {
    Parameters<kOffset> p;
    if (!kPerValue) p.fill_from(run);
    const int64_t whole = run.count / kSize * kSize;
    for (int64_t i = 0; i < whole; i += kSize) {
      if (kPerValue) p.read_from(run, i);
      write(quantized<kOffset>(run, p, read(run.x + i)), run.y + i);
    }
    if (whole == run.count) return;
    const size_t rest = (run.count - whole) * sizeof(float);
    Vector x = {};
    std::memcpy(&x, run.x + whole, rest);
    if (kPerValue) p.read_from(run, whole);
    const Vector y = quantized<kOffset>(run, p, x);
    std::memcpy(run.y + whole, &y, rest);
  }

  template <bool kPerValue, bool kOffset, bool kRounded>
  static void backward(const QuantizedRun& run) {
    Parameters<kOffset> p;
    if (!kPerValue) p.fill_from(run);
    Vector scale_sums[kVectors] = {}, outside_sums[kVectors] = {};
    const int64_t whole = run.count / kQuantizedLanes * kQuantizedLanes;
    for (int64_t i = 0; i < whole; i += kQuantizedLanes) {
      for (int v = 0; v < kVectors; ++v) {
        const int64_t j = i + v * kSize;
        if (kPerValue) {
          p.read_from(run, j);
          scale_sums[v] = read(run.scale_sums + j);
          if (kOffset) outside_sums[v] = read(run.outside_sums + j);
        }
        write(gradient<kOffset, kRounded>(run, p, read(run.x + j),
                                          read(run.dy + j), scale_sums[v],
                                          outside_sums[v]),
              run.y + j);
        if (kPerValue) {
          write(scale_sums[v], run.scale_sums + j);
          if (kOffset) write(outside_sums[v], run.outside_sums + j);
        }
      }
    }
    float* sums = run.scale_sums;
    float* outside = run.outside_sums;
    if (kPerValue) {
      sums += whole;
      outside += whole;
    } else {
      for (int v = 0; v < kVectors; ++v) {
        write(read(sums + v * kSize) + scale_sums[v], sums + v * kSize);
        write(read(outside + v * kSize) + outside_sums[v],
              outside + v * kSize);
      }
    }
    for (int64_t i = whole; i < run.count; i += kSize) {
      const int64_t left = run.count - i < kSize ? run.count - i : kSize;
      Vector x = {}, dy = {}, scale_sum = {}, outside_sum = {};
      std::memcpy(&x, run.x + i, left * sizeof(float));
      std::memcpy(&dy, run.dy + i, left * sizeof(float));
      if (kPerValue) p.read_from(run, i);
      const Vector dx = gradient<kOffset, kRounded>(run, p, x, dy, scale_sum,
                                                    outside_sum);
      std::memcpy(run.y + i, &dx, left * sizeof(float));
      add(scale_sum, left, sums + i - whole);
      add(outside_sum, left, outside + i - whole);
    }
  }

  static void run(const QuantizedRun& run) {
    const bool per_value = run.per_value, offset = run.has_offset;
    if (!run.dy) {
      const auto function =
          per_value ? (offset ? forward<true, true> : forward<true, false>)
                    : (offset ? forward<false, true> : forward<false, false>);
      return function(run);
    }
    if (run.rounded) return choose<true>(run);
    choose<false>(run);
  }

 private:
  template <bool kRounded>
  static void choose(const QuantizedRun& run) {
    const bool per_value = run.per_value, offset = run.has_offset;
    const auto function =
        per_value ? (offset ? backward<true, true, kRounded>
                            : backward<true, false, kRounded>)
                  : (offset ? backward<false, true, kRounded>
                            : backward<false, false, kRounded>);
    function(run);
  }
};

}  // namespace
}  // namespace mmcompress
