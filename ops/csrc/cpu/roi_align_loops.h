// The mean over each bin of a region, for vectors of any width. Only for files
// compiled for one instruction set: see kernels.h.
#pragma once

#include <cstring>

#include "kernels.h"

namespace mmcompress {
namespace {

// Neighbouring channels in registers.
template <int kVectorBytes, int kVectors>
struct Lanes {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  static constexpr int64_t kVectorSize = kVectorBytes / sizeof(float);
  static constexpr int64_t kSize = kVectors * kVectorSize;

  Vector vectors[kVectors] = {};

  void load(const float* p) {
    for (int i = 0; i < kVectors; ++i) vectors[i] = read(p, i);
  }
  void store(float* p) const {
    for (int i = 0; i < kVectors; ++i)
      std::memcpy(p + i * kVectorSize, &vectors[i], sizeof(Vector));
  }
  void add(float weight, const float* p) {
    for (int i = 0; i < kVectors; ++i) vectors[i] += weight * read(p, i);
  }

 private:
  static Vector read(const float* p, int i) {
    Vector vector;
    std::memcpy(&vector, p + i * kVectorSize, sizeof vector);
    return vector;
  }
};

// All bins for the channels that `Channels` holds, from `first` on.
template <typename Channels>
void average_lanes(const RegionAverage& args, int64_t first) {
  constexpr int64_t kSize = Channels::kSize;
  static_assert(kSize <= kMostLanes, "the scratch is too small");
  const int64_t bins = args.bins_h * args.bins_w;
  float* sums = args.scratch;              // [bin][lane]
  float* row_means = sums + bins * kSize;  // [bin of the row][lane]
  std::memset(sums, 0, bins * kSize * sizeof(float));
  const RowTap* const rows_end = args.rows + args.num_rows;
  for (const RowTap* row = args.rows; row < rows_end;) {
    const int64_t offset = row->offset;
    const float* pixels = args.image + first + offset;
    const Tap* column = args.columns;
    for (int64_t bin = 0; bin < args.bins_w; ++bin) {
      Channels mean;
      for (; column < args.columns + args.column_ends[bin]; ++column)
        mean.add(column->weight, pixels + column->offset);
      mean.store(row_means + bin * kSize);
    }
    // two bins may share a row
    for (; row < rows_end && row->offset == offset; ++row) {
      float* row_sums = sums + row->bin * args.bins_w * kSize;
      for (int64_t i = 0; i < args.bins_w * kSize; i += kSize) {
        Channels sum;
        sum.load(row_sums + i);
        sum.add(row->weight, row_means + i);
        sum.store(row_sums + i);
      }
    }
  }
  float* out = args.out + first * bins;
  for (int64_t c = 0; c < kSize; ++c)
    for (int64_t i = 0; i < bins; ++i) out[c * bins + i] = sums[i * kSize + c];
}

// Whether there are enough channels for this many lanes; then it is done.
template <typename Channels>
bool average_by(const RegionAverage& args) {
  const int64_t last = args.channels - Channels::kSize;
  if (last < 0) return false;
  // the last step may overlap the one before
  for (int64_t first = 0; first < args.channels; first += Channels::kSize)
    average_lanes<Channels>(args, first < last ? first : last);
  return true;
}

template <int kVectorBytes>
void average_region(const RegionAverage& args) {
  // many sums at a time, because additions and memory have latency
  average_by<Lanes<kVectorBytes, 8>>(args) ||
      average_by<Lanes<kVectorBytes, 1>>(args) ||
      average_by<Lanes<sizeof(float), 1>>(args);
}

}  // namespace
}  // namespace mmcompress
