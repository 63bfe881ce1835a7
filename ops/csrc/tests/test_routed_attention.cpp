// Routed attention of every kernel that can run here, against plain loops in
// float64.
//
//     test_routed_attention [SEED [CASES]]
#include "../cpu/routed_attention.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "testing.h"

namespace {

using namespace mmcompress;

// A map with gaps between its pixels, its rows and its images.
struct Features {
  int64_t channels;
  TokenMap map;
  Array<float> values;

  Features(int64_t batch, int64_t height, int64_t width, int64_t channels_)
      : channels(channels_),
        map{nullptr, 0, 0, channels_ + choose({0, 3})},
        values(layout(batch, height, width)) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < values.size; ++i) values[i] = normal(generator);
    map.data = values.get();
  }

  float at(int64_t n, int64_t y, int64_t x, int64_t c) const {
    return values[n * map.stride_n + y * map.stride_h + x * map.stride_w + c];
  }

 private:
  // Up to the last channel, not to the end of the last pixel.
  int64_t layout(int64_t batch, int64_t height, int64_t width) {
    map.stride_h = width * map.stride_w + choose({0, 5});
    map.stride_n = height * map.stride_h + choose({0, 7});
    return (batch - 1) * map.stride_n + (height - 1) * map.stride_h +
           (width - 1) * map.stride_w + channels;
  }
};

struct Problem {
  RoutedShape s;
  Features q, k, v;
  Array<int64_t> routes;

  explicit Problem(const RoutedShape& shape)
      : s(shape),
        q(s.batch, s.grid_h * s.query_h, s.grid_w * s.query_w,
          s.heads * s.dims),
        k(s.batch, s.grid_h * s.key_h, s.grid_w * s.key_w, s.heads * s.dims),
        v(s.batch, s.grid_h * s.key_h, s.grid_w * s.key_w,
          s.heads * s.value_dims),
        routes(s.batch * s.regions() * s.topk) {
    for (int64_t i = 0; i < routes.size; ++i)
      routes[i] = int64_t(generator() % s.regions());
  }

  int64_t outputs() const {
    return s.batch * s.regions() * s.queries() * s.heads * s.value_dims;
  }

  Array<float> run(const std::string& name, int64_t num_threads) const {
    Array<float> out(outputs());
    routed_attention(s, q.map, k.map, v.map, routes.get(), out.get(),
                     attention_by_name(name), threads(num_threads));
    return out;
  }

  // One output after the other.
  std::vector<double> by_definition() const {
    std::vector<double> out;
    for (int64_t n = 0; n < s.batch; ++n)
      for (int64_t y = 0; y < s.grid_h * s.query_h; ++y)
        for (int64_t x = 0; x < s.grid_w * s.query_w; ++x)
          for (int64_t head = 0; head < s.heads; ++head)
            attend(n, y, x, head, out);
    return out;
  }

 private:
  void attend(int64_t n, int64_t y, int64_t x, int64_t head,
              std::vector<double>& out) const {
    const int64_t region = y / s.query_h * s.grid_w + x / s.query_w;
    std::vector<double> scores, sums(s.value_dims, 0.0);
    double most = -INFINITY, total = 0.0;
    visit_keys(n, region, [&](int64_t ky, int64_t kx) {
      double score = 0.0;
      for (int64_t c = head * s.dims; c < (head + 1) * s.dims; ++c)
        score += double(q.at(n, y, x, c)) * k.at(n, ky, kx, c);
      scores.push_back(score * s.scale);
      most = std::max(most, scores.back());
    });
    size_t i = 0;
    visit_keys(n, region, [&](int64_t ky, int64_t kx) {
      const double p = std::exp(scores[i++] - most);
      total += p;
      for (int64_t c = 0; c < s.value_dims; ++c)
        sums[c] += p * v.at(n, ky, kx, head * s.value_dims + c);
    });
    for (double sum : sums) out.push_back(sum / total);
  }

  template <typename Visit>
  void visit_keys(int64_t n, int64_t region, const Visit& visit) const {
    for (int64_t i = 0; i < s.topk; ++i) {
      const int64_t other = routes[(n * s.regions() + region) * s.topk + i];
      for (int64_t y = 0; y < s.key_h; ++y)
        for (int64_t x = 0; x < s.key_w; ++x)
          visit(other / s.grid_w * s.key_h + y, other % s.grid_w * s.key_w + x);
    }
  }
};

RoutedShape draw_shape() {
  RoutedShape s = {};
  s.batch = choose({1, 1, 2});
  s.grid_h = choose({1, 2, 3});
  s.grid_w = choose({1, 2, 4});
  s.query_h = choose({1, 2, 3});
  s.query_w = choose({1, 2, 5});
  s.key_h = choose({1, 2, 4});
  s.key_w = choose({1, 2, 4, 5});
  s.topk = choose({1, 2, 5, 9});
  s.heads = choose({1, 2, 3});
  s.dims = choose({1, 5, 8, 16, 32, 33});
  s.value_dims = choose({1, 3, 4, 7, 8, 16, 20, 32, 37, 70});
  s.scale = coin() ? 0.2f : -1.0f;
  return s;
}

void check(const Problem& problem, int64_t num_threads) {
  const std::vector<double> wanted = problem.by_definition();
  for (const std::string& name : runnable_kernels()) {
    const Array<float> one = problem.run(name, 1);
    if (!(problem.run(name, num_threads) == one)) fail("threads, " + name);
    for (int64_t i = 0; i < one.size; ++i)
      if (!(std::fabs(one[i] - wanted[i]) < 3e-5))
        fail(name + ": " + std::to_string(one[i]) + " instead of " +
             std::to_string(wanted[i]));
  }
}

}  // namespace

int main(int argc, char** argv) {
  generator.seed(argc > 1 ? std::atoi(argv[1]) : 0);
  const int cases = argc > 2 ? std::atoi(argv[2]) : 300;
  for (int i = 0; i < cases; ++i) check(Problem(draw_shape()), 1 + i % 3);
  std::printf("routed attention: %d cases on", cases);
  for (const std::string& name : runnable_kernels())
    std::printf(" %s", attention_by_name(name).name);
  std::printf(" agree with plain loops\n");
}
