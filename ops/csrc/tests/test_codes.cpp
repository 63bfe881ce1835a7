// Integer codes of every kernel that can run here, against plain loops.
//
//     test_codes [SEED [CASES]]
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "../cpu/integer_row.h"
#include "../cpu/max_pool.h"
#include "../cpu/quantize.h"
#include "testing.h"

namespace {

using namespace mmcompress;

const CodesKernels& kernels_of(const std::string& name) {
  return codes_by_name(kernels_by_name(name).name);
}

Grid random_grid() {
  const int32_t high = int32_t(generator() % 256);
  const int32_t zero = int32_t(generator() % (high + 1));
  const int32_t low = int32_t(generator() % (zero + 1));
  const float scale = std::ldexp(1.0f + float(generator() % 1000) / 1000,
                                 int(generator() % 40) - 20);
  return {scale, zero, low, high};
}

// Around the grid, many of them between two codes; far away; no numbers.
float random_value(const Grid& grid) {
  const float sign = coin() ? 1.0f : -1.0f;
  switch (generator() % 12) {
    case 0:
      return std::nanf("");
    case 1:
      return sign * INFINITY;
    case 2:
      return sign * std::numeric_limits<float>::max();
    case 3:
      return sign * std::numeric_limits<float>::denorm_min();
    case 4:
      return sign * 0.0f;
    case 5:
    case 6:
      return sign * (float(generator() % 300) + 0.5f) * grid.scale;
    default:
      return sign * float(generator() % 30000) / 100 * grid.scale;
  }
}

uint8_t code_of(float x, const Grid& grid) {
  const float value = std::nearbyint(x / grid.scale) + float(grid.zero);
  if (!(value > float(grid.low))) return uint8_t(grid.low);
  return uint8_t(value < float(grid.high) ? value : float(grid.high));
}

void check_quantize(const Parallel& parallel) {
  const Grid grid = random_grid();
  const int64_t batch = choose({0, 1, 3}), pixels = choose({1, 7, 64, 131});
  const int64_t channels = choose({1, 2, 3, 4, 5, 16, 33});
  const int64_t count = batch * channels * pixels;
  Array<float> x(count);
  Array<uint8_t> flat(count), planes(count);
  for (int64_t i = 0; i < count; ++i) x[i] = random_value(grid);
  for (int64_t n = 0; n < batch; ++n)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t p = 0; p < pixels; ++p) {
        const int64_t from = (n * channels + c) * pixels + p;
        flat[from] = code_of(x[from], grid);
        planes[(n * pixels + p) * channels + c] = flat[from];
      }
  for (const std::string& name : runnable_kernels()) {
    Array<uint8_t> got(count);
    quantize_codes(x.get(), count, grid, got.get(), kernels_of(name),
                   parallel);
    if (!(got == flat)) fail("quantize_codes, " + name);
    quantize_planes({x.get(), batch, channels, pixels, channels * pixels,
                     pixels},
                    grid, got.get(), kernels_of(name), parallel);
    if (!(got == planes)) fail("quantize_planes, " + name);
  }
}

// In tests/ops the definition is compared; here all kernels are equal.
void check_layer_norm(const Parallel& parallel) {
  const Grid grid = {0.03f, 128, 0, 255};
  const int64_t rows = choose({0, 1, 5}), channels = choose({1, 63, 64, 200});
  Array<float> x(rows * channels), weight(channels), bias(channels);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < x.size; ++i) x[i] = 3.0f * normal(generator);
  for (int64_t c = 0; c < channels; ++c) {
    weight[c] = normal(generator);
    bias[c] = normal(generator);
  }
  Array<uint8_t> wanted(x.size), got(x.size);
  const LayerNorm norm = {weight.get(), bias.get(), channels, 1e-5f};
  for (const std::string& name : runnable_kernels()) {
    Array<uint8_t>& codes = name == "portable" ? wanted : got;
    layer_norm_codes(norm, x.get(), rows, grid, codes.get(), kernels_of(name),
                     parallel);
    if (name != "portable" && !(got == wanted))
      fail("layer_norm_codes, " + name);
  }
}

// All codes, or the extremes only: products of the same sign.
template <typename T>
void draw_codes(int64_t low, int64_t high, Array<T>& codes) {
  const bool are_extreme = coin();
  const int64_t extreme = coin() ? low : high;
  for (int64_t i = 0; i < codes.size; ++i)
    codes[i] = T(are_extreme ? extreme
                             : low + int64_t(generator() % (high - low + 1)));
}

void check_rows(const Parallel& parallel) {
  const RowShape shape = {choose({1, 31, 32, 33, 100}),
                          choose({1, 3, 16, 17, 64, 300, 1030, 40000}),
                          int(choose({2, 4, 8}))};
  const int64_t num_rows = 1 + int64_t(generator() % kMostRows);
  const Grid grid = random_grid();
  Array<int8_t> weights(shape.outputs * shape.channels);
  Array<uint8_t> codes(num_rows * shape.channels);
  Array<float> values(codes.size), scale(shape.outputs), bias(shape.outputs);
  const int64_t limit = int64_t(1) << (shape.bits - 1);
  draw_codes(-limit, limit - 1, weights);
  draw_codes(0, 255, codes);
  std::normal_distribution<float> normal;
  for (int64_t o = 0; o < shape.outputs; ++o) {
    scale[o] = normal(generator);
    bias[o] = normal(generator);
  }
  const bool is_float = coin(), has_bias = coin();
  if (is_float)
    for (int64_t i = 0; i < codes.size; ++i) {
      values[i] = random_value(grid);
      codes[i] = code_of(values[i], grid);
    }
  Array<float> wanted(num_rows * shape.outputs);
  for (int64_t r = 0; r < num_rows; ++r)
    for (int64_t o = 0; o < shape.outputs; ++o) {
      int64_t sum = 0;
      for (int64_t c = 0; c < shape.channels; ++c)
        sum += (codes[r * shape.channels + c] - grid.zero) *
               int64_t(weights[o * shape.channels + c]);
      float& y = wanted[r * shape.outputs + o];
      y = float(sum) * grid.scale * scale[o];
      if (has_bias) y += bias[o];
    }
  // aligned as the blobs of PyTorch are
  std::vector<uint8_t> memory(shape.total_bytes() + 64);
  uint8_t* blob = memory.data() + 64 - uintptr_t(memory.data()) % 64;
  prepack_rows(weights.get(), shape, blob);
  for (const std::string& name : runnable_kernels()) {
    Array<float> y(wanted.size);
    linear_rows(shape, blob,
                {is_float ? nullptr : codes.get(),
                 is_float ? values.get() : nullptr, num_rows, grid},
                scale.get(), has_bias ? bias.get() : nullptr, y.get(),
                kernels_of(name), parallel);
    if (!(y == wanted))
      fail("linear_rows, " + name + ", " + std::to_string(shape.bits) +
           " bits, " + std::to_string(shape.outputs) + "x" +
           std::to_string(shape.channels));
  }
}

void check_max_pool(const Parallel& parallel) {
  PoolShape s = {};
  s.batch = choose({1, 2, 3});
  s.channels = choose({1, 3, 16, 37});
  s.kernel_h = choose({1, 2, 3, 5});
  s.kernel_w = choose({1, 2, 3});
  s.stride_h = choose({1, 2, 3});
  s.stride_w = choose({1, 2});
  s.padding_h = choose({0, s.kernel_h / 2});
  s.padding_w = choose({0, s.kernel_w / 2});
  s.height = s.kernel_h + choose({0, 1, 4, 11});
  s.width = s.kernel_w + choose({0, 3, 8});
  Array<uint8_t> x(s.batch * s.height * s.width * s.channels);
  for (int64_t i = 0; i < x.size; ++i) x[i] = uint8_t(generator());
  Array<uint8_t> got(s.batch * s.out_height() * s.out_width() * s.channels);
  max_pool(s, x.get(), got.get(), parallel);
  int64_t next = 0;
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t h = 0; h < s.out_height(); ++h)
      for (int64_t w = 0; w < s.out_width(); ++w)
        for (int64_t c = 0; c < s.channels; ++c) {
          uint8_t largest = 0;
          for (int64_t i = 0; i < s.kernel_h; ++i)
            for (int64_t j = 0; j < s.kernel_w; ++j) {
              const int64_t y = h * s.stride_h - s.padding_h + i;
              const int64_t z = w * s.stride_w - s.padding_w + j;
              if (y < 0 || y >= s.height || z < 0 || z >= s.width) continue;
              largest = std::max(
                  largest,
                  x[((n * s.height + y) * s.width + z) * s.channels + c]);
            }
          if (got[next++] != largest) fail("max_pool");
        }
}

// Large enough for several threads.
void check_shares() {
  const Grid grid = {0.1f, 3, 0, 255};
  Array<float> x(1 << 20);
  Array<uint8_t> wanted(x.size), got(x.size);
  for (int64_t i = 0; i < x.size; ++i) {
    x[i] = float(i % 600) * 0.05f;
    wanted[i] = code_of(x[i], grid);
  }
  for (const std::string& name : runnable_kernels())
    for (int64_t count : {1, 2, 3}) {
      quantize_codes(x.get(), x.size, grid, got.get(), kernels_of(name),
                     threads(count));
      if (!(got == wanted)) fail("quantize_codes in threads, " + name);
    }
  const RowShape shape = {1050, 4096, 8};
  Array<int8_t> weights(shape.outputs * shape.channels);
  draw_codes(-128, 127, weights);
  Array<float> scale(shape.outputs), y(shape.outputs), first(shape.outputs);
  for (int64_t o = 0; o < shape.outputs; ++o) scale[o] = 1.0f;
  std::vector<uint8_t> memory(shape.total_bytes() + 64);
  uint8_t* blob = memory.data() + 64 - uintptr_t(memory.data()) % 64;
  prepack_rows(weights.get(), shape, blob);
  bool is_first = true;
  for (const std::string& name : runnable_kernels())
    for (int64_t count : {1, 2, 3}) {
      linear_rows(shape, blob, {nullptr, x.get(), 1, grid}, scale.get(),
                  nullptr, is_first ? first.get() : y.get(), kernels_of(name),
                  threads(count));
      if (!is_first && !(y == first)) fail("linear_rows in threads, " + name);
      is_first = false;
    }
}

}  // namespace

int main(int argc, char** argv) {
  generator.seed(argc > 1 ? std::atoi(argv[1]) : 0);
  const int cases = argc > 2 ? std::atoi(argv[2]) : 400;
  for (int i = 0; i < cases; ++i) {
    check_quantize(threads(1 + i % 3));
    check_rows(threads(1 + i % 3));
    check_layer_norm(threads(1 + i % 3));
    check_max_pool(threads(1 + i % 3));
  }
  check_shares();
  std::printf("codes: %d cases on", cases);
  for (const std::string& name : runnable_kernels())
    std::printf(" %s", kernels_of(name).name);
  std::printf(" are equal to plain loops\n");
}
