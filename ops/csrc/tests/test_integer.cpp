// Integer convolutions of every kernel that can run here, against plain loops.
//
//     test_integer [SEED [CASES]]
#include "../cpu/integer_conv.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "testing.h"

namespace {

using namespace mmcompress;

// kAligned: codes that make the first output as large as possible.
enum class Values { kRandom, kSmall, kExtreme, kAligned };

int64_t low_of(int64_t bits) { return -(int64_t(1) << (bits - 1)); }

float uniform(float low, float high) {
  return low + (high - low) * float(generator() % 10001) / 10000.0f;
}

// An input and weights, and all that surrounds their products.
struct Problem {
  ConvShape shape;
  int64_t bits;
  CodeGrid grid, next_grid;
  Activation act;
  bool is_float, is_channels_last, has_bias, has_residual;
  float input_scale, next_scale;
  Array<int8_t> weight;   // (K, C / groups, kh, kw)
  Array<uint8_t> codes;   // (N, C, H, W), contiguous
  Array<float> values;    // in the layout of the input
  Array<uint8_t> input;   // likewise
  Array<float> scale, bias, residual;

  Problem(const ConvShape& shape_, int64_t bits_, Values kind)
      : shape(shape_),
        bits(bits_),
        weight(shape.weight.num_outputs * shape.weight.products()),
        codes(shape.batch * shape.weight.channels() * shape.height *
              shape.width),
        values(codes.size),
        input(codes.size),
        scale(shape.weight.num_outputs),
        bias(scale.size),
        residual(num_values()) {
    const int64_t high = choose({255, 255, 127, 15, 1});
    grid = {int32_t(choose({0, 0, high / 2, high})), 0, int32_t(high)};
    next_grid = choose({0, 1}) ? CodeGrid{0, 0, 255} : CodeGrid{8, 1, 15};
    act = Activation(choose({0, 1, 2}));
    is_float = coin();
    is_channels_last = coin();
    has_bias = coin();
    has_residual = coin();
    input_scale = uniform(0.01f, 0.1f);
    next_scale = uniform(0.01f, 0.1f);
    draw_weight(kind);
    for (int64_t i = 0; i < codes.size; ++i) {
      const bool is_wanted = kind == Values::kExtreme ||
                             weight[i % shape.weight.products()] > 0;
      codes[i] = uint8_t(kind == Values::kRandom || kind == Values::kSmall
                             ? int64_t(generator() % (high + 1))
                         : is_wanted ? high
                                     : 0);
    }
    lay_out();
    for (int64_t i = 0; i < scale.size; ++i) {
      scale[i] = uniform(-0.01f, 0.01f);
      bias[i] = uniform(-3.0f, 3.0f);
    }
    for (int64_t i = 0; i < residual.size; ++i)
      residual[i] = uniform(-5.0f, 5.0f);
  }

  int64_t num_values() const {
    return shape.batch * shape.weight.num_outputs * shape.out_height() *
           shape.out_width();
  }

  Array<uint8_t> stored() const {
    const int64_t per_byte = 8 / bits;
    Array<uint8_t> bytes(ceil_div(weight.size, per_byte));
    for (int64_t i = 0; i < weight.size; ++i) {
      const int code = weight[i] & ((1 << bits) - 1);
      bytes[i / per_byte] |= uint8_t(code << (i % per_byte * bits));
    }
    return bytes;
  }

  IntegerWeight stored_weight() const { return {shape.weight, bits}; }

  FloatImage image(const float* data) const {
    const int64_t c = shape.weight.channels();
    const int64_t h = shape.height, w = shape.width;
    if (is_channels_last) return {data, c * h * w, 1, w * c, c};
    return {data, c * h * w, h * w, w, 1};
  }

 private:
  void draw_weight(Values kind) {
    const int64_t low = low_of(bits);
    for (int64_t i = 0; i < weight.size; ++i) {
      const int64_t value = low + int64_t(generator() % (-2 * low));
      weight[i] = int8_t(kind == Values::kExtreme ? low
                         : kind == Values::kSmall ? value / 2
                                                  : value);
    }
  }

  // Values that become these codes, between the ties.
  void lay_out() {
    const int64_t c = shape.weight.channels();
    const int64_t pixels = shape.height * shape.width;
    for (int64_t n = 0; n < shape.batch; ++n)
      for (int64_t i = 0; i < c; ++i)
        for (int64_t p = 0; p < pixels; ++p) {
          const int64_t from = (n * c + i) * pixels + p;
          const int64_t to =
              is_channels_last ? (n * pixels + p) * c + i : from;
          const auto code = float(int(codes[from]) - grid.zero_point);
          input[to] = codes[from];
          values[to] = (code + uniform(-0.49f, 0.49f)) * input_scale;
        }
  }
};

struct Results {
  Array<float> y;
  Array<uint8_t> divided, multiplied;

  explicit Results(const Problem& problem)
      : y(problem.num_values()),
        divided(y.size),
        multiplied(y.size) {}

  bool operator==(const Results& other) const {
    return y == other.y && divided == other.divided &&
           multiplied == other.multiplied;
  }
};

// Of one output: (x - zero_point) * w.
int64_t dot_product(const Problem& problem, int64_t n, int64_t o, int64_t y,
                    int64_t x) {
  const ConvShape& s = problem.shape;
  const WeightShape& w = s.weight;
  const int64_t group = o / w.outputs_per_group();
  const int8_t* weight = &problem.weight[o * w.products()];
  int64_t sum = 0;
  for (int64_t c = 0; c < w.channels_per_group; ++c)
    for (int64_t i = 0; i < w.kernel_h; ++i)
      for (int64_t j = 0; j < w.kernel_w; ++j, ++weight) {
        const int64_t row = y * s.stride_h - s.padding_h + i * s.dilation_h;
        const int64_t column = x * s.stride_w - s.padding_w + j * s.dilation_w;
        if (row < 0 || row >= s.height || column < 0 || column >= s.width)
          continue;
        const int64_t channel = group * w.channels_per_group + c;
        const int64_t at =
            ((n * w.channels() + channel) * s.height + row) * s.width +
            column;
        sum += int64_t(*weight) *
               (int(problem.codes[at]) - problem.grid.zero_point);
      }
  return sum;
}

uint8_t clamped(float code, const CodeGrid& grid) {
  return uint8_t(std::min(std::max(code, float(grid.low)), float(grid.high)));
}

Results definition(const Problem& problem) {
  const ConvShape& s = problem.shape;
  Results results(problem);
  int64_t i = 0;
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t row = 0; row < s.out_height(); ++row)
      for (int64_t column = 0; column < s.out_width(); ++column)
        for (int64_t o = 0; o < s.weight.num_outputs; ++o, ++i) {
          float y = float(dot_product(problem, n, o, row, column));
          y *= problem.input_scale;
          y *= problem.scale[o];
          if (problem.has_bias) y += problem.bias[o];
          if (problem.has_residual) y += problem.residual[i];
          if (problem.act != Activation::kNone) y = std::max(y, 0.0f);
          if (problem.act == Activation::kRelu6) y = std::min(y, 6.0f);
          const CodeGrid& grid = problem.next_grid;
          const auto zero = float(grid.zero_point);
          const float reciprocal = 1.0f / problem.next_scale;
          results.y[i] = y + 0.0f;  // no -0.0
          results.divided[i] = clamped(
              std::nearbyint(y / problem.next_scale) + zero, grid);
          const float step = y * reciprocal;
          results.multiplied[i] = clamped(std::nearbyint(step + zero), grid);
        }
  return results;
}

Array<uint8_t> prepacked(const Problem& problem,
                         const IntegerKernels& kernels) {
  const Array<uint8_t> stored = problem.stored();
  const IntegerWeight weight = problem.stored_weight();
  const std::vector<int8_t> codes = unpack_codes(stored.get(), weight);
  const IntegerBlobPlan plan =
      plan_integer_blob(codes, weight, problem.grid.high, kernels);
  Array<uint8_t> blob(plan.total_bytes);
  integer_prepack(codes, weight, plan, blob.get());
  return blob;
}

Results computed(const Problem& problem, const IntegerKernels& kernels,
                 int64_t num_threads) {
  const Array<uint8_t> bytes = prepacked(problem, kernels);
  const IntegerBlob blob =
      open_integer_blob(bytes.get(), bytes.size, problem.stored_weight());
  const ConvShape& s = problem.shape;
  const int64_t num = s.weight.num_outputs;
  IntegerInput input = {problem.is_float ? nullptr : problem.input.get(),
                        problem.image(problem.values.get()),
                        problem.input_scale, problem.grid};
  Results results(problem);
  IntegerOutput output = {};
  output.input_scale = problem.input_scale;
  output.scale = problem.scale.get();
  if (problem.has_bias) output.bias = problem.bias.get();
  if (problem.has_residual)
    output.residual = {problem.residual.get(),
                       num * s.out_height() * s.out_width(), 1,
                       num * s.out_width(), num};
  output.act = problem.act;
  output.result = Result::kFloatsAndCodes;
  output.y = results.y.get();
  output.codes = results.divided.get();
  output.next_scale = problem.next_scale;
  output.grid = problem.next_grid;
  integer_conv(s, input, blob, output, threads(num_threads));
  output.result = Result::kCodes;
  output.y = nullptr;
  output.codes = results.multiplied.get();
  output.next_scale = 1.0f / problem.next_scale;
  integer_conv(s, input, blob, output, threads(num_threads));
  for (int64_t i = 0; i < results.y.size; ++i) results.y[i] += 0.0f;
  return results;
}

ConvShape random_shape() {
  ConvShape s = {};
  s.batch = choose({1, 1, 2, 3});
  WeightShape& w = s.weight;
  w.groups = choose({1, 1, 1, 2, 3});
  w.channels_per_group = choose({1, 2, 3, 4, 5, 8, 17, 64});
  w.num_outputs = w.groups * choose({1, 3, 8, 16, 17, 40, 70, 130});
  if (generator() % 6 == 0) {
    w.groups = w.num_outputs = choose({2, 16, 33, 70, 96});
    w.channels_per_group = 1;
  }
  w.kernel_h = choose({1, 1, 3, 5});
  w.kernel_w = w.kernel_h == 1 ? choose({1, 1, 1, 7}) : choose({2, 3});
  s.stride_h = choose({1, 1, 2, 3});
  s.stride_w = choose({1, 1, 2});
  s.padding_h = choose({0, 0, 1, 3});
  s.padding_w = choose({0, s.padding_h});
  s.dilation_h = choose({1, 1, 2});
  s.dilation_w = choose({1, 1, 2});
  s.height = std::max(choose({1, 5, 8}), s.dilation_h * (w.kernel_h - 1) + 1);
  s.width = std::max(choose({1, 6, 13}), s.dilation_w * (w.kernel_w - 1) + 1);
  return s;
}

// A matrix product, as a convolution of one column.
ConvShape matrix_shape(int64_t rows, int64_t channels, int64_t outputs) {
  return {1, rows, 1, {outputs, channels, 1, 1, 1}, 1, 1, 0, 0, 1, 1, 0};
}

std::string describe(const Problem& problem) {
  const ConvShape& s = problem.shape;
  const WeightShape& w = s.weight;
  std::string text;
  for (int64_t value :
       {s.batch, s.height, s.width, w.num_outputs, w.channels_per_group,
        w.kernel_h, w.kernel_w, w.groups, s.stride_h, s.stride_w, s.padding_h,
        s.padding_w, s.dilation_h, s.dilation_w, problem.bits})
    text += " " + std::to_string(value);
  return text;
}

void check(const ConvShape& shape, int64_t bits, Values kind,
           int64_t num_threads) {
  const Problem problem(shape, bits, kind);
  const Results expected = definition(problem);
  for (const std::string& name : runnable_kernels()) {
    const IntegerKernels& kernels = integer_kernels_by_name(name);
    if (!(computed(problem, kernels, num_threads) == expected))
      fail(name + " is wrong for" + describe(problem));
  }
}

void check_random(int cases) {
  for (int i = 0; i < cases; ++i)
    check(random_shape(), choose({2, 4, 8}), Values(choose({0, 1, 2})),
          1 + i % 3);
}

// Long sums: of 16 bits on the way, and in several blocks of the reduction.
void check_extremes() {
  for (int64_t bits : {2, 4, 8})
    for (Values kind : {Values::kExtreme, Values::kAligned, Values::kRandom,
                        Values::kSmall})
      for (int64_t channels : {300, 4099})
        check(matrix_shape(1, channels, 66), bits, kind, 1);
}

template <typename Function>
void check_refused(const std::string& what, Function function) {
  try {
    function();
  } catch (const std::runtime_error&) {
    return;
  }
  fail(what + " is not refused");
}

void check_refusals() {
  const Problem problem(matrix_shape(1, 30, 20), 4, Values::kRandom);
  const IntegerWeight weight = problem.stored_weight();
  for (const std::string& name : runnable_kernels()) {
    const IntegerKernels& kernels = integer_kernels_by_name(name);
    Array<uint8_t> blob = prepacked(problem, kernels);
    for (int64_t size : {int64_t(0), int64_t(9), blob.size - 1})
      check_refused("a short blob", [&] {
        open_integer_blob(blob.get(), size, weight);
      });
    for (int64_t i = 0; i < 96; ++i) {  // all that is read of the header
      blob[i] ^= 0x85;
      try {
        open_integer_blob(blob.get(), blob.size, weight);
      } catch (const std::runtime_error&) {
      }
      blob[i] ^= 0x85;
    }
    IntegerWeight other = weight;
    other.bits = 8;
    check_refused("a blob of other bits", [&] {
      open_integer_blob(blob.get(), blob.size, other);
    });
  }
  const IntegerWeight heavy = {{1, 70000, 1, 1, 1}, 8};
  const std::vector<int8_t> codes(70000, -128);
  check_refused("a sum of more than 32 bits", [&] {
    plan_integer_blob(codes, heavy, 255, best_integer_kernels());
  });
}

}  // namespace

int main(int argc, char** argv) {
  generator.seed(argc > 1 ? unsigned(std::atoi(argv[1])) : 0);
  check_random(argc > 2 ? std::atoi(argv[2]) : 300);
  check_extremes();
  check_refusals();
  for (const std::string& name : runnable_kernels())
    std::printf("%s: integers passed, with '%s' kernels\n", name.c_str(),
                integer_kernels_by_name(name).name);
}
