// Every kernel of this build that can run here, against the definition:
// one product after the other, over unpacked values.
//
//     test_binary [SEED [CASES]]
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>

#include "testing.h"

namespace {

using namespace mmcompress;

// Random values with zeros of both signs, ties with thresholds, NaN and
// infinities.
float value() {
  switch (generator() % 16) {
    case 0:
      return 0.0f;
    case 1:
      return -0.0f;
    case 2:
      return std::nanf("");
    case 3:
      return coin() ? INFINITY : -INFINITY;
    default:
      return float(int(generator() % 17) - 8) / 8;
  }
}

Array<float> values(int64_t size) {
  Array<float> result(size);
  for (int64_t i = 0; i < size; ++i) result[i] = value();
  return result;
}

Array<float> finite_values(int64_t size) {
  Array<float> result(size);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < size; ++i) result[i] = normal(generator);
  return result;
}

Array<bool> flags(int64_t size) {
  Array<bool> result(size);
  for (int64_t i = 0; i < size; ++i) result[i] = coin();
  return result;
}

bool bit_of(float x, float threshold, bool flip) {
  return flip ? x < threshold : x > threshold;
}

void set_bit(uint8_t* row, int64_t channel, bool bit) {
  row[channel / 8] |= uint8_t(bit << (channel % 8));
}

bool get_bit(const uint8_t* row, int64_t channel) {
  return row[channel / 8] >> (channel % 8) & 1;
}

// A float image in NCHW, channels-last, or with gaps.
struct Image {
  Array<float> memory;
  FloatImage view;

  Image(int64_t n, int64_t c, int64_t h, int64_t w)
      : Image(n, c, h, w, int(generator() % 3)) {}

  float at(int64_t n, int64_t c, int64_t y, int64_t x) const {
    return view.data[n * view.stride_n + c * view.stride_c +
                     y * view.stride_h + x * view.stride_w];
  }

 private:
  Image(int64_t n, int64_t c, int64_t h, int64_t w, int layout)
      : memory(values(n * c * h * w * (layout == 2 ? 6 : 1))) {
    if (layout == 0)
      view = {memory.get(), c * h * w, h * w, w, 1};
    else if (layout == 1)
      view = {memory.get(), c * h * w, 1, w * c, c};
    else
      view = {memory.get(), 6 * c * h * w, 6 * h * w, 3 * w, 3};
  }
};

struct Problem {
  ConvShape shape;
  Array<uint8_t> bits;
  Array<uint8_t> weights;

  explicit Problem(const ConvShape& shape_)
      : shape(shape_),
        bits(shape.batch * shape.height * shape.width *
             packed_bytes(shape.weight.channels())),
        weights(shape.weight.num_outputs * shape.weight.taps() *
                packed_bytes(shape.weight.channels_per_group)) {
    fill_rows(bits, shape.weight.channels());
    fill_rows(weights, shape.weight.channels_per_group);
  }

  int64_t pixels() const {
    return shape.batch * shape.out_height() * shape.out_width();
  }

  static void fill_rows(Array<uint8_t>& rows, int64_t channels) {
    const int64_t bytes = packed_bytes(channels);
    for (int64_t row = 0; row < rows.size; row += bytes)
      for (int64_t c = 0; c < channels; ++c)
        set_bit(rows.get() + row, c, coin());
  }
};

// k by its definition, channels-last.
Array<int32_t> definition(const Problem& problem) {
  const ConvShape& s = problem.shape;
  const WeightShape& w = s.weight;
  const int64_t channels = w.channels_per_group;
  Array<int32_t> k(problem.pixels() * w.num_outputs);
  int64_t i = 0;
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t oy = 0; oy < s.out_height(); ++oy)
      for (int64_t ox = 0; ox < s.out_width(); ++ox)
        for (int64_t o = 0; o < w.num_outputs; ++o, ++i)
          for (int64_t ky = 0; ky < w.kernel_h; ++ky)
            for (int64_t kx = 0; kx < w.kernel_w; ++kx) {
              const int64_t y =
                  oy * s.stride_h - s.padding_h + ky * s.dilation_h;
              const int64_t x =
                  ox * s.stride_w - s.padding_w + kx * s.dilation_w;
              const bool inside =
                  y >= 0 && y < s.height && x >= 0 && x < s.width;
              const uint8_t* weight =
                  problem.weights.get() +
                  ((o * w.kernel_h + ky) * w.kernel_w + kx) *
                      packed_bytes(channels);
              const uint8_t* pixel =
                  problem.bits.get() +
                  (inside ? ((n * s.height + y) * s.width + x) *
                                packed_bytes(w.channels())
                          : 0);
              const int64_t first = o / w.outputs_per_group() * channels;
              for (int64_t c = 0; c < channels; ++c) {
                const int sign = get_bit(weight, c) ? 1 : -1;
                const int a =
                    inside ? (get_bit(pixel, first + c) ? 1 : -1)
                           : s.pad_value;
                k[i] += sign * a;
              }
            }
  return k;
}

Array<uint8_t> make_blob(const Problem& problem, const Kernels& kernels) {
  const BlobLayout layout(problem.shape.weight, kernels);
  Array<uint8_t> blob(layout.total_bytes);
  prepack(problem.weights.get(), problem.shape.weight, kernels, blob.get());
  return blob;
}

ConvInput packed(const Problem& problem) {
  ConvInput input = {};
  input.bits = problem.bits.get();
  return input;
}

void check_counts(const Problem& problem, const Blob& blob,
                  const Array<int32_t>& expected, int64_t num_threads) {
  Array<int32_t> k(expected.size);
  conv_counts(problem.shape, packed(problem), blob, k.get(),
              threads(num_threads));
  if (!(k == expected)) fail("conv_counts");
}

void check_bits(const Problem& problem, const Blob& blob,
                const Array<int32_t>& expected, int64_t num_threads) {
  const int64_t outputs = problem.shape.weight.num_outputs;
  const int64_t bytes = packed_bytes(outputs);
  Array<int32_t> limit(outputs);
  for (int64_t o = 0; o < outputs; ++o)
    limit[o] = int32_t(choose({-3, -1, 0, 1, 2, 1 << 30, -(1 << 30)}));
  const Array<bool> flip = flags(outputs);
  Array<uint8_t> bits(problem.pixels() * bytes), wanted(bits.size);
  for (int64_t p = 0; p < problem.pixels(); ++p)
    for (int64_t o = 0; o < outputs; ++o)
      set_bit(wanted.get() + p * bytes, o,
              (expected[p * outputs + o] >= limit[o]) ^ flip[o]);
  conv_bits(problem.shape, packed(problem), blob, limit.get(), flip.get(),
            bits.get(), threads(num_threads));
  if (!(bits == wanted)) fail("conv_bits");
}

// The float epilogue, from a float input or from bits.
void check_float(Problem& problem, const Blob& blob, int64_t num_threads) {
  const ConvShape& s = problem.shape;
  const int64_t channels = s.weight.channels();
  const int64_t outputs = s.weight.num_outputs;
  const Image x(s.batch, channels, s.height, s.width);
  const Array<float> threshold = finite_values(channels);
  const Array<bool> flip = flags(channels);
  ConvInput input = packed(problem);
  if (coin()) {
    input.bits = nullptr;
    input.image = x.view;
    input.thresholds = {coin() ? threshold.get() : nullptr,
                        coin() ? flip.get() : nullptr};
    std::memset(problem.bits.get(), 0, problem.bits.size);
    for (int64_t i = 0; i < s.batch * s.height * s.width; ++i)
      for (int64_t c = 0; c < channels; ++c)
        set_bit(problem.bits.get() + i * packed_bytes(channels), c,
                bit_of(x.at(i / (s.height * s.width), c,
                            i / s.width % s.height, i % s.width),
                       input.thresholds.threshold ? threshold[c] : 0.0f,
                       input.thresholds.flip && flip[c]));
  }
  const Array<int32_t> k = definition(problem);

  const Array<float> scale = finite_values(outputs);
  const Array<float> shift = finite_values(outputs);
  const Array<float> pre = finite_values(outputs);
  const Array<float> slope = finite_values(outputs);
  const Array<float> post = finite_values(outputs);
  const Array<float> next = finite_values(outputs);
  const Array<bool> next_flip = flags(outputs);
  const Image residual(s.batch, outputs, s.out_height(), s.out_width());
  const int64_t bytes = packed_bytes(outputs);
  Array<float> y(k.size), wanted_y(k.size);
  Array<uint8_t> bits(problem.pixels() * bytes), wanted_bits(bits.size);
  FloatOutput output = {};
  output.scale = scale.get();
  output.shift = shift.get();
  if (coin()) output.residual = residual.view;
  if (coin()) output.pre = pre.get();
  if (coin()) output.slope = slope.get();
  if (coin()) output.post = post.get();
  const bool wants_bits = coin();
  if (wants_bits) {
    output.bits = bits.get();
    output.next = {next.get(), coin() ? next_flip.get() : nullptr};
  }
  const bool wants_y = !wants_bits || coin();
  if (wants_y) output.y = y.get();

  const int64_t map = s.out_height() * s.out_width();
  for (int64_t p = 0; p < problem.pixels(); ++p)
    for (int64_t o = 0; o < outputs; ++o) {
      // volatile: no operation merges with the next one
      volatile float v = scale[o] * float(k[p * outputs + o]);
      v = v + shift[o];
      if (output.residual.data)
        v = v + residual.at(p / map, o, p % map / s.out_width(),
                            p % s.out_width());
      if (output.pre) v = v + pre[o];
      if (output.slope) v = v > 0 ? v : slope[o] * v;
      if (output.post) v = v + post[o];
      if (wants_y) wanted_y[p * outputs + o] = v;
      if (wants_bits)
        set_bit(wanted_bits.get() + p * bytes, o,
                bit_of(v, next[o], output.next.flip && next_flip[o]));
    }
  conv_float(s, input, blob, output, threads(num_threads));
  for (int64_t i = 0; i < y.size; ++i)
    if (std::isnan(y[i]) ? !std::isnan(wanted_y[i])
                         : std::memcmp(&y[i], &wanted_y[i], 4) != 0)
      fail("conv_float: values");
  if (!(bits == wanted_bits)) fail("conv_float: bits");
}

void check_pack(const Kernels& kernels) {
  const int64_t channels = choose({1, 7, 16, 31, 32, 33, 63, 64, 65, 200});
  const int64_t height = choose({1, 3}), width = choose({1, 5, 16, 67, 130});
  const Image x(1, channels, height, width);
  const int64_t padded = ceil_div(channels, 64) * 64;
  Array<float> threshold(padded);
  Array<uint32_t> sign(padded);
  const bool flips = coin();
  Array<uint8_t> bits(width * packed_bytes(channels)), wanted(bits.size);
  for (int64_t c = 0; c < channels; ++c) {
    const bool flip = flips && coin();
    const float t = float(int(generator() % 5) - 2) / 8;
    threshold[c] = flip ? -t : t;
    sign[c] = flip ? 0x80000000u : 0;
    for (int64_t p = 0; p < width; ++p)
      set_bit(wanted.get() + p * packed_bytes(channels), c,
              bit_of(x.at(0, c, 0, p), t, flip));
  }
  kernels.pack({x.view.data, x.view.stride_c, x.view.stride_w}, channels,
               width, {threshold.get(), flips ? sign.get() : nullptr},
               bits.get());
  if (!(bits == wanted)) fail("pack");

  // the driver, on rows of the image shared out to threads
  Array<float> plain(channels);
  Array<bool> flipped(channels);
  for (int64_t c = 0; c < channels; ++c) {
    flipped[c] = sign[c] != 0;
    plain[c] = flipped[c] ? -threshold[c] : threshold[c];
  }
  Array<uint8_t> all(height * bits.size);
  pack(x.view, 1, channels, height, width, {plain.get(), flipped.get()},
       all.get(), threads(choose({1, 2, 3})));
  for (int64_t y = 0; y < height; ++y)
    for (int64_t p = 0; p < width; ++p)
      for (int64_t c = 0; c < channels; ++c)
        if (get_bit(all.get() + (y * width + p) * packed_bytes(channels), c) !=
            bit_of(x.at(0, c, y, p), plain[c], flipped[c]))
          fail("pack: driver");

  Array<float> signs(width * channels);
  unpack(bits.get(), width, channels, signs.get());
  for (int64_t p = 0; p < width; ++p)
    for (int64_t c = 0; c < channels; ++c)
      if (signs[p * channels + c] !=
          (get_bit(bits.get() + p * packed_bytes(channels), c) ? 1.0f : -1.0f))
        fail("unpack");
}

void check_blob_errors(const Problem& problem, const Array<uint8_t>& blob) {
  const auto refuses = [&](const uint8_t* bytes, int64_t size,
                           const WeightShape& shape) {
    try {
      open_blob(bytes, size, shape);
    } catch (const std::runtime_error&) {
      return;
    }
    fail("a wrong blob was opened");
  };
  const WeightShape& shape = problem.shape.weight;
  refuses(blob.get(), 5, shape);
  refuses(blob.get(), blob.size - 1, shape);
  refuses(problem.weights.get(), problem.weights.size, shape);
  WeightShape other = shape;
  other.num_outputs += other.groups;
  refuses(blob.get(), blob.size, other);
}

ConvShape random_shape() {
  const int64_t groups = choose({1, 1, 1, 2, 3});
  ConvShape s;
  do {
    s = {choose({0, 1, 1, 2}),
         choose({1, 2, 5, 7, 12}),
         choose({1, 3, 7, 8, 19}),
         {groups * choose({1, 3, 16, 20, 31, 33, 48, 64, 80, 128}),
          choose({1, 3, 4, 7, 31, 32, 33, 64, 70, 96, 128}), choose({1, 3, 5}),
          choose({1, 2, 3}), groups},
         choose({1, 1, 2, 3}),
         choose({1, 1, 2, 3}),
         choose({0, 1, 2, 3}),
         choose({0, 1, 2, 3}),
         choose({1, 1, 2}),
         choose({1, 1, 2}),
         coin() ? 0 : -1};
  } while (s.out_height() < 1 || s.out_width() < 1 ||
           s.height + 2 * s.padding_h <
               s.dilation_h * (s.weight.kernel_h - 1) + 1 ||
           s.width + 2 * s.padding_w <
               s.dilation_w * (s.weight.kernel_w - 1) + 1);
  return s;
}

void check_random(const Kernels& kernels, int cases) {
  for (int i = 0; i < cases; ++i) {
    Problem problem(random_shape());
    const Array<int32_t> expected = definition(problem);
    const Array<uint8_t> memory = make_blob(problem, kernels);
    const Blob blob =
        open_blob(memory.get(), memory.size, problem.shape.weight);
    const int64_t num_threads = 1 + i % 3;
    check_counts(problem, blob, expected, num_threads);
    check_bits(problem, blob, expected, num_threads);
    check_float(problem, blob, num_threads);
    check_pack(kernels);
    if (i == 0) check_blob_errors(problem, memory);
  }
}

// Sums that leave 8, 15 and 16 bits, by all equal and all opposite bits.
void check_extremes(const Kernels& kernels) {
  for (int64_t channels : {64, 4096, 16384, 100000})
    for (bool equal : {false, true}) {
      Problem problem(
          {1, 3, 3, {65, channels, 3, 3, 1}, 1, 1, 1, 1, 1, 1, 0});
      std::memset(problem.bits.get(), 0, problem.bits.size);
      std::memset(problem.weights.get(), 0, problem.weights.size);
      const int64_t bytes = packed_bytes(channels);
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t row = 0; row < problem.bits.size; row += bytes)
          set_bit(problem.bits.get() + row, c, true);
        for (int64_t row = 0; row < problem.weights.size; row += bytes)
          set_bit(problem.weights.get() + row, c, equal);
      }
      const Array<uint8_t> memory = make_blob(problem, kernels);
      const Blob blob =
          open_blob(memory.get(), memory.size, problem.shape.weight);
      Array<int32_t> k(9 * 65);
      conv_counts(problem.shape, packed(problem), blob, k.get(), threads(1));
      for (int64_t p = 0; p < 9; ++p) {
        const int64_t taps = (p / 3 == 1 ? 3 : 2) * (p % 3 == 1 ? 3 : 2);
        for (int64_t o = 0; o < 65; ++o)
          if (k[p * 65 + o] != (equal ? 1 : -1) * taps * channels)
            fail("extremes");
      }
    }
}

// Linear layers on few rows, for which a kernel may have weights of their own.
void check_few_rows(const Kernels& kernels) {
  for (int64_t channels : {1, 4, 5, 8, 9, 12, 60, 240, 244, 247, 484, 65000})
    for (int64_t outputs : {1, 32, 33, 64, 130})
      for (int64_t rows : {1, 2, 3, 4, 5}) {
        if (channels * outputs * rows > 3000000) continue;
        Problem problem(
            {1, rows, 1, {outputs, channels, 1, 1, 1}, 1, 1, 0, 0, 1, 1, 0});
        // the most mismatches
        if (channels % 2 == 0)
          for (int64_t i = 0; i < problem.weights.size; ++i)
            problem.weights[i] = 0;
        const Array<int32_t> expected = definition(problem);
        const Array<uint8_t> memory = make_blob(problem, kernels);
        const Blob blob =
            open_blob(memory.get(), memory.size, problem.shape.weight);
        check_counts(problem, blob, expected, 1 + rows % 3);
        check_bits(problem, blob, expected, 1);
        check_float(problem, blob, 1);
      }
}

// Large enough for several bands, threads and splits of the outputs.
void check_partition(const Kernels& kernels) {
  const ConvShape shapes[] = {
      {1, 60, 70, {128, 64, 3, 3, 1}, 1, 1, 1, 1, 1, 1, 0},
      {2, 40, 40, {192, 96, 3, 3, 1}, 2, 1, 1, 1, 1, 1, -1},
      {1, 5, 5, {512, 512, 3, 3, 1}, 1, 1, 1, 1, 1, 1, 0},
      {1, 50, 60, {256, 128, 1, 1, 1}, 1, 1, 0, 0, 1, 1, 0},
  };
  for (const ConvShape& shape : shapes) {
    Problem problem(shape);
    const Array<uint8_t> memory = make_blob(problem, kernels);
    const Blob blob = open_blob(memory.get(), memory.size, shape.weight);
    Array<int32_t> one(problem.pixels() * shape.weight.num_outputs);
    conv_counts(shape, packed(problem), blob, one.get(), threads(1));
    const Array<uint8_t> oracle_memory =
        make_blob(problem, portable_kernels());
    const Blob oracle =
        open_blob(oracle_memory.get(), oracle_memory.size, shape.weight);
    Array<int32_t> many(one.size);
    for (int64_t num_threads : {1, 2, 3, 8}) {
      const Blob& used = num_threads == 1 ? oracle : blob;
      conv_counts(shape, packed(problem), used, many.get(),
                  threads(num_threads));
      if (!(one == many)) fail("partition");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned seed = argc > 1 ? unsigned(std::atoi(argv[1])) : 0;
  const int cases = argc > 2 ? std::atoi(argv[2]) : 100;
  for (const std::string& name : runnable_kernels()) {
    generator.seed(seed);
    const Kernels& kernels = kernels_by_name(name);
    check_random(kernels, cases);
    check_extremes(kernels);
    check_few_rows(kernels);
    check_partition(kernels);
    std::printf("%s: passed\n", name.c_str());
  }
}
