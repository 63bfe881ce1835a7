// RoIAlign of every kernel that can run here, against the definition: one
// bilinear sample after the other, in float64.
//
//     test_roi_align [SEED [CASES]]
#include "../cpu/roi_align.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "testing.h"

namespace {

using namespace mmcompress;

// Features with neighbouring channels, and regions.
struct Problem {
  RoIAlignShape shape;
  Array<float> features;
  FloatImage x;
  Array<float> rois;

  explicit Problem(const RoIAlignShape& shape_)
      : shape(shape_),
        features(shape.batch * shape.height * shape.width * shape.channels),
        x{features.get(), shape.height * shape.width * shape.channels, 1,
          shape.width * shape.channels, shape.channels},
        rois(5 * shape.num_regions) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < features.size; ++i)
      features[i] = normal(generator);
    for (int64_t i = 0; i < shape.num_regions; ++i) draw_region(&rois[5 * i]);
  }

  int64_t outputs_per_region() const {
    return shape.channels * shape.bins_h * shape.bins_w;
  }

 private:
  // In feature pixels: coordinates in and around the image, some of them far
  // away or no numbers; regions without area and turned around.
  void draw_region(float* roi) const {
    roi[0] = float(generator() % shape.batch);
    for (int i = 1; i < 5; ++i)
      roi[i] = coordinate(i % 2 ? shape.width : shape.height) /
               shape.spatial_scale;
    if (generator() % 8 == 0) roi[3] = roi[1];
    if (generator() % 8 == 0) roi[4] = roi[2];
    if (coin() && roi[1] > roi[3]) std::swap(roi[1], roi[3]);
    if (coin() && roi[2] > roi[4]) std::swap(roi[2], roi[4]);
  }

  static float coordinate(int64_t size) {
    const float sign = coin() ? 1.0f : -1.0f;
    switch (generator() % 24) {
      case 0:
        return std::nanf("");
      case 1:
        return sign * INFINITY;
      case 2:
        return sign * std::numeric_limits<float>::max();
      case 3:
        return sign * 1e6f;
      case 4:
        return sign * 3000.0f;
      case 5:  // borders and pixels' centres
        return float(generator() % (size + 3)) - 1.0f;
      default:
        return float(generator() % 1000) / 1000 * float(size + 4) - 2.0f;
    }
  }
};

// Where the samples of a bin lie along an axis, but for those outside.
struct Samples {
  std::vector<float> inside;
  double count;  // with those outside

  Samples(const RoIAlignShape& shape, float begin, float end, int64_t bin,
          int64_t bins, int64_t size) {
    const float offset = shape.aligned ? 0.5f : 0.0f;
    const float start = begin * shape.spatial_scale - offset;
    float length = end * shape.spatial_scale - offset - start;
    if (!shape.aligned && length < 1.0f) length = 1.0f;
    const float bin_size = length / float(bins);
    float most = shape.sampling_ratio > 0 ? float(shape.sampling_ratio)
                                          : std::ceil(bin_size);
    if (shape.sampling_ratio <= 0 && most > kMaxSamples) most = kMaxSamples;
    count = most;
    for (int64_t i = 0; float(i) < most; ++i) {
      const float position = start + float(bin) * bin_size +
                             (float(i) + 0.5f) * bin_size / most;
      if (position >= -1.0f && position <= float(size))
        inside.push_back(position);
    }
  }
};

double bilinear(const Problem& problem, const float* image, float y, float x) {
  const auto value_at = [&](int64_t row, int64_t column) {
    return double(image[row * problem.x.stride_h +
                        column * problem.x.stride_w]);
  };
  const int64_t bottom = problem.shape.height - 1;
  const int64_t right = problem.shape.width - 1;
  const double clamped_y = std::min(std::max(double(y), 0.0), double(bottom));
  const double clamped_x = std::min(std::max(double(x), 0.0), double(right));
  const int64_t row = int64_t(clamped_y), column = int64_t(clamped_x);
  const double down = clamped_y - double(row);
  const double across = clamped_x - double(column);
  const int64_t next_row = std::min(row + 1, bottom);
  const int64_t next_column = std::min(column + 1, right);
  return (1 - down) * ((1 - across) * value_at(row, column) +
                       across * value_at(row, next_column)) +
         down * ((1 - across) * value_at(next_row, column) +
                 across * value_at(next_row, next_column));
}

double mean_of_bin(const Problem& problem, const float* image,
                   const Samples& rows, const Samples& columns) {
  double sum = 0.0;
  for (float y : rows.inside)
    for (float x : columns.inside) sum += bilinear(problem, image, y, x);
  return sum == 0.0 ? 0.0 : sum / (rows.count * columns.count);
}

Array<double> definition(const Problem& problem) {
  const RoIAlignShape& shape = problem.shape;
  Array<double> result(shape.num_regions * problem.outputs_per_region());
  int64_t next = 0;
  for (int64_t i = 0; i < shape.num_regions; ++i) {
    const float* roi = &problem.rois[5 * i];
    for (int64_t c = 0; c < shape.channels; ++c)
      for (int64_t h = 0; h < shape.bins_h; ++h)
        for (int64_t w = 0; w < shape.bins_w; ++w) {
          const Samples rows(shape, roi[2], roi[4], h, shape.bins_h,
                             shape.height);
          const Samples columns(shape, roi[1], roi[3], w, shape.bins_w,
                                shape.width);
          const float* image =
              problem.x.data + int64_t(roi[0]) * problem.x.stride_n + c;
          result[next++] = mean_of_bin(problem, image, rows, columns);
        }
  }
  return result;
}

Array<float> pooled(const Problem& problem, const Kernels& kernels,
                    int64_t num_threads) {
  Array<float> out(problem.shape.num_regions * problem.outputs_per_region());
  roi_align(problem.shape, problem.x, problem.rois.get(), out.get(), kernels,
            threads(num_threads));
  return out;
}

void check_close(const Array<float>& actual, const Array<double>& expected) {
  for (int64_t i = 0; i < actual.size; ++i)
    if (!(std::abs(actual[i] - expected[i]) <= 2e-5))
      fail("output " + std::to_string(i) + " is " +
           std::to_string(actual[i]) + " instead of " +
           std::to_string(expected[i]));
}

RoIAlignShape random_shape() {
  RoIAlignShape shape = {};
  shape.batch = choose({1, 2, 3});
  shape.channels = choose({1, 3, 7, 8, 9, 16, 17, 33, 65, 130});
  shape.height = choose({1, 2, 5, 13});
  shape.width = choose({1, 2, 6, 17});
  shape.num_regions = choose({0, 1, 2, 9});
  shape.bins_h = choose({1, 2, 7});
  shape.bins_w = choose({1, 3, 7});
  shape.spatial_scale = coin() ? 1.0f : 0.25f;
  shape.sampling_ratio = choose({0, 0, -1, 1, 2, 5});
  shape.aligned = coin();
  return shape;
}

// All kernels and numbers of threads give the same bits.
void check_random(int cases) {
  for (int i = 0; i < cases; ++i) {
    const Problem problem(random_shape());
    const Array<float> first = pooled(problem, portable_kernels(), 1);
    check_close(first, definition(problem));
    for (const std::string& name : runnable_kernels())
      if (!(pooled(problem, kernels_by_name(name), 1 + i % 3) == first))
        fail(name + " differs from portable");
  }
}

}  // namespace

int main(int argc, char** argv) {
  generator.seed(argc > 1 ? unsigned(std::atoi(argv[1])) : 0);
  check_random(argc > 2 ? std::atoi(argv[2]) : 300);
  for (const std::string& name : runnable_kernels())
    std::printf("%s: RoIAlign passed\n", name.c_str());
}
