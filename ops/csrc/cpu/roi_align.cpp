#include "roi_align.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "rates.h"

namespace mmcompress {
namespace {

// One axis of a region. Every operation is rounded to float32 as in the
// official code, so that the same samples count as outside of the image.
struct Axis {
  float start;
  float bin_size;
  float num_samples;  // per bin
  int64_t image_size;

  Axis(const RoIAlignShape& shape, float begin, float end, int64_t bins,
       int64_t size)
      : image_size(size) {
    const float offset = shape.aligned ? 0.5f : 0.0f;
    start = begin * shape.spatial_scale - offset;
    float length = end * shape.spatial_scale - offset - start;
    if (!shape.aligned) length = std::max(length, 1.0f);
    bin_size = length / float(bins);
    num_samples = shape.sampling_ratio > 0
                      ? float(shape.sampling_ratio)
                      : std::min(std::ceil(bin_size), kMaxSamples);
  }

  float sample(int64_t bin, int64_t i) const {
    return start + float(bin) * bin_size +
           (float(i) + 0.5f) * bin_size / num_samples;
  }
};

// Finds how much each pixel of an axis counts in the mean of a bin.
class BinWeights {
 public:
  // Calls visit(pixel, weight) in ascending order, without zeros.
  template <typename Visit>
  void visit(const Axis& axis, int64_t bin, const Visit& visit) {
    sums_.resize(std::max<size_t>(sums_.size(), axis.image_size), 0.0f);
    const int64_t last = axis.image_size - 1;
    int64_t low = last, high = -1;
    for (int64_t i = 0; float(i) < axis.num_samples; ++i) {
      const float position = axis.sample(bin, i);
      // also where it is not a number
      if (!(position >= -1.0f && position <= float(axis.image_size))) continue;
      const float inside = std::max(position, 0.0f);
      const int64_t pixel = std::min(int64_t(inside), last);
      const float fraction = pixel < last ? inside - float(pixel) : 0.0f;
      const int64_t next = std::min(pixel + 1, last);
      sums_[pixel] += 1.0f - fraction;
      sums_[next] += fraction;
      low = std::min(low, pixel);
      high = std::max(high, next);
    }
    for (int64_t pixel = low; pixel <= high; ++pixel) {
      const float weight = sums_[pixel] / axis.num_samples;
      if (weight != 0.0f) visit(pixel, weight);
      sums_[pixel] = 0.0f;
    }
  }

 private:
  std::vector<float> sums_;  // 0 between calls
};

// Pools one region after another.
class Pooling {
 public:
  Pooling(const RoIAlignShape& shape, const FloatImage& x,
          const Kernels& kernels)
      : shape_(shape),
        x_(x),
        kernels_(kernels),
        scratch_((shape.bins_h + 1) * shape.bins_w * kMostLanes) {}

  void run(const float* roi, float* out) {
    find_columns(Axis(shape_, roi[1], roi[3], shape_.bins_w, shape_.width));
    find_rows(Axis(shape_, roi[2], roi[4], shape_.bins_h, shape_.height));
    RegionAverage args = {};
    args.image = x_.data + int64_t(roi[0]) * x_.stride_n;
    args.channels = shape_.channels;
    args.bins_h = shape_.bins_h;
    args.bins_w = shape_.bins_w;
    args.columns = columns_.data();
    args.column_ends = column_ends_.data();
    args.rows = rows_.data();
    args.num_rows = int64_t(rows_.size());
    args.scratch = scratch_.data();
    args.out = out;
    kernels_.average_region(args);
  }

 private:
  void find_columns(const Axis& axis) {
    columns_.clear();
    column_ends_.clear();
    for (int64_t bin = 0; bin < shape_.bins_w; ++bin) {
      weights_.visit(axis, bin, [&](int64_t pixel, float weight) {
        columns_.push_back({pixel * x_.stride_w, weight});
      });
      column_ends_.push_back(int64_t(columns_.size()));
    }
  }

  void find_rows(const Axis& axis) {
    rows_.clear();
    for (int64_t bin = 0; bin < shape_.bins_h; ++bin)
      weights_.visit(axis, bin, [&](int64_t pixel, float weight) {
        rows_.push_back({pixel * x_.stride_h, weight, bin});
      });
    std::stable_sort(rows_.begin(), rows_.end(),
                     [](const RowTap& a, const RowTap& b) {
                       return a.offset < b.offset;
                     });
  }

  const RoIAlignShape& shape_;
  const FloatImage& x_;
  const Kernels& kernels_;
  BinWeights weights_;
  std::vector<Tap> columns_;
  std::vector<int64_t> column_ends_;
  std::vector<RowTap> rows_;
  std::vector<float> scratch_;
};

}  // namespace

void roi_align(const RoIAlignShape& shape, const FloatImage& x,
               const float* rois, float* out, const Kernels& kernels,
               const Parallel& parallel) {
  const int64_t out_size = shape.channels * shape.bins_h * shape.bins_w;
  const double values = double(shape.num_regions) * double(out_size);
  const auto body = [&](int64_t begin, int64_t end) {
    Pooling pooling(shape, x, kernels);
    for (int64_t i = begin; i < end; ++i)
      pooling.run(rois + 5 * i, out + i * out_size);
  };
  parallel.share(values / rates_of(kernels.name).pooled_values,
                 shape.num_regions, body);
}

}  // namespace mmcompress
