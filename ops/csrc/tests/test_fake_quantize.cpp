// Fake quantization of every kernel that can run here, against the definition:
// one value after the other, sums in float64.
//
//     test_fake_quantize [SEED [CASES]]
#include "../cpu/fake_quantize.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>

#include "testing.h"

namespace {

using namespace mmcompress;

// Values between, at and beyond the ends of the range, and their gradients.
struct Problem {
  QuantizedShape shape;
  Array<float> scale, beta, zero_point, x, dy;
  QuantizedRange range;

  explicit Problem(const QuantizedShape& shape_)
      : shape(shape_),
        scale(shape.groups),
        beta(shape.groups),
        zero_point(shape.groups),
        x(shape.outer * shape.groups * shape.inner),
        dy(x.size) {
    std::normal_distribution<float> normal;
    const int64_t bits = choose({1, 2, 4, 8, 16});
    const bool is_signed = bits > 1 && coin();
    range = {scale.get(),
             coin() ? beta.get() : nullptr,
             coin() ? zero_point.get() : nullptr,
             is_signed ? -(int64_t(1) << (bits - 1)) : 0,
             (int64_t(1) << (bits - is_signed)) - 1,
             coin()};
    for (int64_t i = 0; i < shape.groups; ++i) {
      scale[i] = coin() ? 0.25f : std::exp(normal(generator));
      beta[i] = normal(generator);
      zero_point[i] = 3 * normal(generator);
    }
    for (int64_t i = 0; i < x.size; ++i) {
      x[i] = value(scale[group_of(i)], normal(generator));
      dy[i] = normal(generator);
    }
  }

  int64_t group_of(int64_t i) const {
    return i / shape.inner % shape.groups;
  }

 private:
  float value(float scale, float noise) const {
    const float end = coin() ? float(range.low) : float(range.high);
    switch (generator() % 24) {
      case 0:
        return INFINITY;
      case 1:
        return -INFINITY;
      case 2:
        return std::nextafter(end, noise * INFINITY) * scale;
      case 3:
        return end * scale;
      case 4:  // ties
        return (std::round(3 * noise) + 0.5f) * scale;
      case 5:
        return -0.0f;
      case 6:
        return std::copysign(FLT_MIN / 4, noise);
      case 7:
        return noise * std::numeric_limits<float>::max() / 8;
      default:
        return noise * float(range.high + 1) * scale;
    }
  }
};

struct Result {
  Array<float> y, dx;
  Array<double> scale_sums, outside_sums;
  // How large the terms of the sums are together.
  Array<double> scale_terms, outside_terms;

  explicit Result(const Problem& problem)
      : y(problem.x.size),
        dx(problem.x.size),
        scale_sums(problem.shape.groups),
        outside_sums(problem.shape.groups),
        scale_terms(problem.shape.groups),
        outside_terms(problem.shape.groups) {}
};

Result definition(const Problem& problem) {
  Result result(problem);
  const QuantizedRange& range = problem.range;
  for (int64_t i = 0; i < problem.x.size; ++i) {
    const int64_t group = problem.group_of(i);
    const float low = float(range.low), high = float(range.high);
    const float scale = problem.scale[group], dy = problem.dy[i];
    float u = problem.x[i], y;
    if (range.beta) u -= problem.beta[group];
    u /= scale;
    const float code = std::nearbyint(u);
    const float z =
        range.zero_point ? std::nearbyint(problem.zero_point[group]) : 0.0f;
    y = range.zero_point ? code + z : code;
    y = std::min(std::max(y, low), high);
    y = (range.zero_point ? y - z : y) * scale;
    result.y[i] = range.beta ? y + problem.beta[group] : y;
    const float seen = (range.rounded ? code : u) + z;
    // tiny numbers count as 0
    const bool inside = (seen >= low || (low == 0 && seen > -FLT_MIN)) &&
                        (seen <= high || (high == 0 && seen < FLT_MIN));
    result.dx[i] = inside ? dy : 0.0f;
    const double step =
        double(std::min(std::max(code, low - z), high - z)) -
        (inside ? double(u) : 0.0);
    result.scale_sums[group] += step * dy;
    result.scale_terms[group] += std::abs(step * dy);
    if (!inside) {
      result.outside_sums[group] += dy;
      result.outside_terms[group] += std::abs(dy);
    }
  }
  return result;
}

Result computed(const Problem& problem, const Kernels& kernels,
                int64_t num_threads) {
  Result result(problem);
  const Parallel parallel = threads(num_threads);
  fake_quantize(problem.shape, problem.range, problem.x.get(), result.y.get(),
                kernels, parallel);
  fake_quantize_backward(problem.shape, problem.range, problem.x.get(),
                         problem.dy.get(), result.dx.get(),
                         result.scale_sums.get(), result.outside_sums.get(),
                         kernels, parallel);
  return result;
}

void check_close(const Array<double>& actual, const Array<double>& expected,
                 const Array<double>& terms, const std::string& what) {
  for (int64_t i = 0; i < actual.size; ++i)
    if (!(std::abs(actual[i] - expected[i]) <= 1e-6 * terms[i] + 1e-30))
      fail(what + " of group " + std::to_string(i) + " is " +
           std::to_string(actual[i]) + " instead of " +
           std::to_string(expected[i]));
}

void check_same(bool same, const std::string& name, const char* what) {
  if (!same) fail(name + ": other " + what);
}

QuantizedShape random_shape() {
  return {choose({1, 2, 3, 70, 200}), choose({1, 2, 3, 16, 31, 65}),
          choose({1, 2, 9, 31, 32, 33, 64, 257})};
}

void check(const Problem& problem, int64_t num_threads) {
  const Result wanted = definition(problem);
  const Result first = computed(problem, portable_kernels(), 1);
  check_same(first.y == wanted.y, "portable", "values");
  check_same(first.dx == wanted.dx, "portable", "gradients");
  check_close(first.scale_sums, wanted.scale_sums, wanted.scale_terms,
              "the gradient of the scale");
  if (problem.range.beta || problem.range.zero_point)
    check_close(first.outside_sums, wanted.outside_sums,
                wanted.outside_terms, "the gradient of the offset");
  for (const std::string& name : runnable_kernels()) {
    const Result other =
        computed(problem, kernels_by_name(name), num_threads);
    check_same(other.y == first.y, name, "values than portable");
    check_same(other.dx == first.dx, name, "gradients than portable");
    check_same(other.scale_sums == first.scale_sums &&
                   other.outside_sums == first.outside_sums,
               name, "sums than portable");
  }
}

// All kernels and numbers of threads give the same bits, sums included.
void check_random(int cases) {
  for (int i = 0; i < cases; ++i)
    check(Problem(random_shape()), 1 + i % 3);
  check(Problem({1, 1, 100000}), 3);
  check(Problem({3, 2, 20000}), 2);
  check(Problem({9, 5000, 1}), 3);
  check(Problem({1, 3000, 9}), 2);
}

}  // namespace

int main(int argc, char** argv) {
  generator.seed(argc > 1 ? unsigned(std::atoi(argv[1])) : 0);
  check_random(argc > 2 ? std::atoi(argv[2]) : 100);
  for (const std::string& name : runnable_kernels())
    std::printf("%s: fake quantization passed\n", name.c_str());
}
