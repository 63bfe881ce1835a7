// Checks the integer kernels against plain loops on the host, as test_binary.cu
// checks the 1-bit ones.
//
//   test_integer [number of random cases] [seed]
#include <cmath>
#include <limits>

#include "integer_ops.h"
#include "testing.h"

namespace {

using Bytes = std::vector<uint8_t>;
using Weights = std::vector<int>;  // (K, C / groups, kh, kw)

// --- The reference -------------------------------------------------------------

uint8_t reference_clamp(float code, const Grid& grid) {
  if (!(code > grid.low)) return static_cast<uint8_t>(grid.low);
  return static_cast<uint8_t>(code < grid.high ? code : grid.high);
}

uint8_t reference_quantize(float x, float scale, const Grid& grid) {
  float steps = x / scale;
  return reference_clamp(std::nearbyint(steps) + grid.zero_point, grid);
}

uint8_t reference_requantize(float y, float scale, const Grid& grid) {
  float reciprocal = 1.0f / scale;
  float steps = y * reciprocal;
  return reference_clamp(std::nearbyint(steps + grid.zero_point), grid);
}

Bytes store_codes(const Weights& codes, int bits) {
  const int packing = 8 / bits;
  Bytes stored(ceil_div(static_cast<int>(codes.size()), packing), 0);
  for (size_t i = 0; i < codes.size(); ++i)
    stored[i / packing] |= (codes[i] & ((1 << bits) - 1))
                           << i % packing * bits;
  return stored;
}

// x is channels last, the result (N, OH, OW, K).
std::vector<int> reference_sums(const ConvShape& s, const Bytes& x,
                                const Weights& weight, int zero_point) {
  const int each = s.channels / s.groups;
  const int outputs = s.out_channels / s.groups;
  std::vector<int> sums;
  for (int n = 0; n < s.batch; ++n)
    for (int oy = 0; oy < s.out_height(); ++oy)
      for (int ox = 0; ox < s.out_width(); ++ox)
        for (int o = 0; o < s.out_channels; ++o) {
          int64_t sum = 0;
          for (int ky = 0; ky < s.kernel_h; ++ky)
            for (int kx = 0; kx < s.kernel_w; ++kx) {
              const int y = oy * s.stride_h - s.pad_h + ky * s.dilation_h;
              const int column = ox * s.stride_w - s.pad_w + kx * s.dilation_w;
              if (y < 0 || y >= s.height || column < 0 || column >= s.width)
                continue;
              const size_t pixel = (size_t(n) * s.height + y) * s.width + column;
              for (int c = 0; c < each; ++c)
                sum += int64_t(x[pixel * s.channels + o / outputs * each + c] -
                               zero_point) *
                       weight[((size_t(o) * each + c) * s.kernel_h + ky) *
                                  s.kernel_w +
                              kx];
            }
          sums.push_back(static_cast<int>(sum));
        }
  return sums;
}

// --- Convolutions ----------------------------------------------------------------

Bytes random_bytes(size_t count) {
  Bytes values(count);
  for (uint8_t& value : values) value = static_cast<uint8_t>(generator());
  return values;
}

Weights random_weights(size_t count, int bits) {
  Weights values(count);
  const int limit = 1 << (bits - 1);
  for (int& value : values) value = pick(-limit, limit - 1);
  return values;
}

Grid random_grid() {
  const int low = pick({0, 0, 1, 100});
  const int high = pick({255, 255, 127, 100});
  return {pick(low, high), low, high};
}

// What is known of a case apart from its plan.
struct Case {
  ConvShape shape;
  int bits, zero_point;
  Bytes x;
  Weights weight;
};

size_t weight_count(const ConvShape& s) {
  return size_t(s.out_channels) * (s.channels / s.groups) * s.kernel_h *
         s.kernel_w;
}

std::string describe(const Case& c, const Plan& plan) {
  return describe(c.shape, plan) + ", " + std::to_string(c.bits) +
         " bits, zero point " + std::to_string(c.zero_point);
}

// Pixels of code_bytes(channels), noise after the last channel.
Bytes pad_pixels(const ConvShape& s, const Bytes& x) {
  const size_t row = code_bytes(s.channels);
  Bytes padded = random_bytes(x.size() / s.channels * row);
  for (size_t i = 0; i < x.size(); ++i)
    padded[i / s.channels * row + i % s.channels] = x[i];
  return padded;
}

// Everything around the sums, in every combination.
void check_epilogue(const Case& c, Plan plan, const uint8_t* map,
                    const uint8_t* blob, const std::vector<int>& sums) {
  const ConvShape& s = c.shape;
  const int channels = s.out_channels;
  std::vector<float> scale = random_floats(channels);
  const std::vector<float> bias = random_floats(channels);
  const float input_scale = std::abs(pick_float()) / 50;
  const float next_scale = pick({0.05f, 0.25f, 3.0f, 1e-30f});
  const Grid grid = random_grid();
  const bool with_bias = pick(0, 1), with_residual = pick(0, 1);
  const bool planar = pick(0, 1), by_reciprocal = pick(0, 1);
  const bool with_codes = by_reciprocal || pick(0, 2) > 0;
  const bool with_y = !with_codes || pick(0, 2) > 0;
  const Activation activation =
      pick({Activation::kNone, Activation::kRelu, Activation::kRelu6});
  const std::vector<float> residual =
      random_floats(with_residual ? sums.size() : 0);
  const int width = s.out_width(), height = s.out_height();
  const int64_t image = int64_t(width) * height * channels;
  const int64_t strides[2][4] = {
      {image, 1, int64_t(width) * channels, channels},
      {image, int64_t(width) * height, width, 1}};
  const int64_t* r = strides[planar];

  std::vector<float> y;
  Bytes codes;
  for (size_t i = 0; i < sums.size(); ++i) {
    const size_t o = i % channels, pixel = i / channels;
    float v = float(sums[i]) * input_scale;
    v = v * scale[o];
    if (with_bias) v = v + bias[o];
    if (with_residual)
      v = v + residual[pixel / (width * height) * r[0] + o * r[1] +
                       pixel / width % height * r[2] + pixel % width * r[3]];
    if (activation != Activation::kNone && v < 0) v = 0;
    if (activation == Activation::kRelu6 && v > 6) v = 6;
    y.push_back(v);
    codes.push_back(by_reciprocal ? reference_requantize(v, next_scale, grid)
                                  : reference_quantize(v, next_scale, grid));
  }

  const Buffer<float> device_scale(scale), device_bias(bias),
      device_residual(residual), scales({input_scale, next_scale});
  const Buffer<float> out(with_y ? y.size() : 0);
  const Buffer<uint8_t> out_codes(with_codes ? codes.size() : 0);
  IntegerArguments a;
  a.zero_point = c.zero_point;
  a.input_scale = scales.data();
  a.scale = device_scale.data();
  a.bias = with_bias ? device_bias.data() : nullptr;
  a.residual = with_residual ? device_residual.data() : nullptr;
  std::copy(r, r + 4, a.residual_strides);
  a.activation = activation;
  a.y = with_y ? out.data() : nullptr;
  a.codes = with_codes ? out_codes.data() : nullptr;
  a.next_scale = scales.data() + 1;
  a.next_grid = grid;
  a.by_reciprocal = by_reciprocal;
  require(integer_conv(s, plan, c.bits, map, blob, a, nullptr));
  if (with_y) expect_equal(y, out.host(), "floats, " + describe(c, plan));
  if (with_codes)
    expect_equal(codes, out_codes.host(), "codes, " + describe(c, plan));
}

void check_case(const Case& c) {
  const std::vector<int> sums =
      reference_sums(c.shape, c.x, c.weight, c.zero_point);
  const Buffer<uint8_t> map(pad_pixels(c.shape, c.x));
  const Buffer<uint8_t> codes(store_codes(c.weight, c.bits));
  for (const Plan& plan : plans_for(c.shape)) {
    const Buffer<uint8_t> blob(
        integer_blob_bytes(c.shape, plan.kernel, c.bits));
    require(integer_prepack(c.shape, plan.kernel, c.bits, codes.data(),
                            blob.data(), nullptr));
    check_epilogue(c, plan, map.data(), blob.data(), sums);
  }
}

void check_random() {
  Case c;
  c.shape = random_shape();
  c.bits = pick({2, 4, 8});
  c.zero_point = pick({0, 128, 255, pick(0, 255)});
  c.x = random_bytes(size_t(c.shape.batch) * c.shape.height * c.shape.width *
                     c.shape.channels);
  c.weight = random_weights(weight_count(c.shape), c.bits);
  check_case(c);
}

// Sums at their limits: all codes and weights are as large as they can be.
void check_extremes(int channels, int size, int bits) {
  Case c;
  c.shape.batch = 1;
  c.shape.channels = channels;
  c.shape.height = c.shape.width = size;
  c.shape.out_channels = 3;
  c.shape.kernel_h = c.shape.kernel_w = size;
  c.shape.pad_h = c.shape.pad_w = size / 2;
  c.bits = bits;
  const int limit = 1 << (bits - 1);
  for (int code : {0, 255}) {
    c.zero_point = 255 - code;
    c.x.assign(size_t(size) * size * channels, code);
    c.weight.assign(weight_count(c.shape), -limit);
    check_case(c);
  }
}

// --- Codes -----------------------------------------------------------------------

float pick_value(float scale) {
  switch (pick(0, 9)) {
    case 0:
      return std::numeric_limits<float>::quiet_NaN();
    case 1:
      return pick({1.0f, -1.0f}) * std::numeric_limits<float>::infinity();
    case 2:
      return pick({0.0f, -0.0f, 1e30f, -1e30f});
    case 3:
      return (pick(-300, 300) + 0.5f) * scale;
    default:
      return 100 * scale * pick_float();
  }
}

void check_vector(int count) {
  const float scale = pick({0.25f, 0.3f, 1e-38f});
  const Grid grid = random_grid();
  std::vector<float> x(count);
  for (float& value : x) value = pick_value(scale);
  Bytes codes;
  for (float value : x) codes.push_back(reference_quantize(value, scale, grid));
  const Buffer<float> device_x(x), device_scale(std::vector<float>{scale});
  const Buffer<uint8_t> out(codes.size());
  require(quantize_vector(device_x.data(), count, device_scale.data(), grid,
                          out.data(), nullptr));
  expect_equal(codes, out.host(), "vector of " + std::to_string(count));
}

void check_map(int n, int c, int h, int w, int row_bytes) {
  const int64_t image = int64_t(c) * h * w;
  const int64_t layouts[3][4] = {{image, int64_t(h) * w, w, 1},
                                 {image, 1, int64_t(w) * c, c},
                                 {2 * image, 1, int64_t(2 * w) * c, 2 * c}};
  for (const auto& strides : layouts) {
    const float scale = 0.3f;
    const Grid grid = random_grid();
    std::vector<float> x(2 * n * image);
    for (float& value : x) value = pick_value(scale);
    const Bytes bytes = random_bytes(x.size());
    Bytes quantized, kept;
    for (int pixel = 0; pixel < n * h * w; ++pixel)
      for (int channel = 0; channel < row_bytes; ++channel) {
        const int64_t from = pixel / (h * w) * strides[0] +
                             channel * strides[1] +
                             pixel / w % h * strides[2] + pixel % w * strides[3];
        const bool exists = channel < c;
        quantized.push_back(
            exists ? reference_quantize(x[from], scale, grid) : 0);
        kept.push_back(exists ? bytes[from] : 0);
      }
    const StridedMap map = {
        {strides[0], strides[1], strides[2], strides[3]}, n, c, h, w};
    const Buffer<float> device_x(x), device_scale(std::vector<float>{scale});
    const Buffer<uint8_t> device_bytes(bytes), out(kept.size()),
        arranged(kept.size());
    require(quantize_map(device_x.data(), map, device_scale.data(), grid,
                         row_bytes, out.data(), nullptr));
    require(arrange_codes(device_bytes.data(), map, row_bytes, arranged.data(),
                          nullptr));
    const std::string name = "map C" + std::to_string(c);
    expect_equal(quantized, out.host(), "quantized " + name);
    expect_equal(kept, arranged.host(), "arranged " + name);
  }
}

void check_largest(int bits) {
  ConvShape s = random_shape();
  const Weights weight = random_weights(weight_count(s), bits);
  const size_t each = weight.size() / s.out_channels;
  std::vector<int64_t> expected(1, 0);
  for (int o = 0; o < s.out_channels; ++o) {
    int64_t sum = 0;
    for (size_t i = 0; i < each; ++i) sum += std::abs(weight[o * each + i]);
    expected[0] = std::max(expected[0], sum);
  }
  const Buffer<uint8_t> codes(store_codes(weight, bits));
  const Buffer<int64_t> largest(1);
  require(largest_weights(s, bits, codes.data(), largest.data(), nullptr));
  expect_equal(expected, largest.host(), "largest sum of weights");
}

// The layout that all else relies on.
void check_instruction() {
  std::vector<uint32_t> a(16 * 8), b(8 * 8);
  for (uint32_t& word : a) word = generator();
  for (uint32_t& word : b) word = generator();
  std::vector<int> expected;
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column) {
      int sum = 0;
      for (int i = 0; i < 32; ++i)
        sum += static_cast<int>(a[row * 8 + i / 4] >> i % 4 * 8 & 255) *
               static_cast<int8_t>(b[column * 8 + i / 4] >> i % 4 * 8 & 255);
      expected.push_back(sum);
    }
  expect_equal(expected, multiplied<CodeProduct<1>>(a, b),
               "one tensor-core instruction");
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 100;
  generator.seed(argc > 2 ? std::atoi(argv[2]) : 0);
  check_instruction();
  for (int count : {1, 3, 4, 5, 4096, 4099}) check_vector(count);
  for (int c : {1, 3, 8, 31, 64}) {
    check_map(2, c, 5, 7, c);
    check_map(2, c, 5, 7, static_cast<int>(code_bytes(c)));
  }
  for (int bits : {2, 4, 8}) {
    check_largest(bits);
    check_extremes(512, 3, bits);
  }
  // the most products that packed weights are multiplied with, and so many that
  // 32 bits would not hold their scaled sum
  check_extremes(1 << 16, 1, 2);
  check_extremes(1 << 16, 1, 4);
  check_extremes(66000, 1, 4);
  for (int i = 0; i < cases; ++i) {
#ifdef MMCOMPRESS_EMULATE
    emulator::device().late_copies = i % 2 == 0;
#endif
    check_random();
  }
  std::printf("%d random convolutions of integers: %d failures\n", cases,
              failures);
  return failures == 0 ? 0 : 1;
}
