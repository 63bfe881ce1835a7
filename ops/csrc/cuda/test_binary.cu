// Checks every kernel against a plain loop on the host: on a GPU (make test), or
// on the CPU through the emulator (make emulate). All comparisons are for
// equality, and all outputs start as noise.
//
//   test_binary [number of random cases] [seed]
#include <limits>

#include "binary_ops.h"
#include "testing.h"

namespace {

// vector<bool> has no data()
struct Flags {
  std::vector<uint8_t> host;
  Buffer<uint8_t> buffer;
  explicit Flags(const std::vector<uint8_t>& values)
      : host(values), buffer(values) {}
  const bool* data() const {
    return reinterpret_cast<const bool*>(buffer.data());
  }
};

// --- The reference -------------------------------------------------------------

using Signs = std::vector<int8_t>;  // rows of -1 or +1

Signs random_signs(size_t count) {
  Signs signs(count);
  for (int8_t& sign : signs) sign = generator() & 1 ? 1 : -1;
  return signs;
}

std::vector<uint8_t> pack_rows(const Signs& signs, int channels) {
  const size_t rows = signs.size() / channels;
  const size_t row_bytes = 8 * ceil_div(channels, 64);
  std::vector<uint8_t> bits(rows * row_bytes, 0);
  for (size_t row = 0; row < rows; ++row)
    for (int c = 0; c < channels; ++c)
      if (signs[row * channels + c] > 0)
        bits[row * row_bytes + c / 8] |= 1 << c % 8;
  return bits;
}

std::vector<int32_t> reference_counts(const ConvShape& s, const Signs& x,
                                      const Signs& weight) {
  const int group_channels = s.channels / s.groups;
  const int group_outputs = s.out_channels / s.groups;
  std::vector<int32_t> counts;
  for (int n = 0; n < s.batch; ++n)
    for (int oy = 0; oy < s.out_height(); ++oy)
      for (int ox = 0; ox < s.out_width(); ++ox)
        for (int o = 0; o < s.out_channels; ++o) {
          int k = 0;
          const int8_t* w =
              &weight[size_t(o) * s.kernel_h * s.kernel_w * group_channels];
          for (int ky = 0; ky < s.kernel_h; ++ky)
            for (int kx = 0; kx < s.kernel_w; ++kx, w += group_channels) {
              const int y = oy * s.stride_h - s.pad_h + ky * s.dilation_h;
              const int x0 = ox * s.stride_w - s.pad_w + kx * s.dilation_w;
              const bool inside =
                  y >= 0 && y < s.height && x0 >= 0 && x0 < s.width;
              if (!inside && !s.pad_minus_one) continue;
              const size_t pixel = (size_t(n) * s.height + y) * s.width + x0;
              for (int c = 0; c < group_channels; ++c)
                k += w[c] * (inside ? x[pixel * s.channels +
                                        o / group_outputs * group_channels + c]
                                    : -1);
            }
          counts.push_back(k);
        }
  return counts;
}

// --- Checks ------------------------------------------------------------------------

// Zeros and negative zeros among the values: where y == threshold.
std::vector<float> random_scales(size_t count) {
  std::vector<float> values = random_floats(count);
  for (float& value : values)
    if (pick(0, 7) == 0) value = pick({0.0f, -0.0f});
  return values;
}

std::vector<uint8_t> random_flags(size_t count) {
  std::vector<uint8_t> flags(count);
  for (uint8_t& flag : flags) flag = generator() & 1;
  return flags;
}

void check_limits(const ConvShape& s, Plan plan, const uint8_t* bits,
                  const uint8_t* blob, const std::vector<int32_t>& counts) {
  const int n = s.kernel_h * s.kernel_w * s.channels / s.groups;
  std::vector<int32_t> limit(s.out_channels);
  for (int32_t& value : limit) value = pick(-n / 4 - 1, n / 4 + 1);
  const Flags flip(random_flags(s.out_channels));
  Signs expected;
  for (size_t i = 0; i < counts.size(); ++i) {
    const size_t o = i % s.out_channels;
    expected.push_back((counts[i] >= limit[o]) != flip.host[o] ? 1 : -1);
  }
  const std::vector<uint8_t> packed = pack_rows(expected, s.out_channels);
  const Buffer<int32_t> limits(limit);
  const Buffer<uint8_t> out(packed.size());
  require(conv_bits(s, plan, bits, blob, limits.data(), flip.data(), out.data(),
                    nullptr));
  expect_equal(packed, out.host(), "bits, " + describe(s, plan));
}

void check_affine(const ConvShape& s, Plan plan, const uint8_t* bits,
                  const uint8_t* blob, const std::vector<int32_t>& counts) {
  const int channels = s.out_channels;
  const auto maybe = [&](bool present) {
    return present ? random_scales(channels) : std::vector<float>();
  };
  const std::vector<float> scale = random_scales(channels);
  const std::vector<float> shift = random_scales(channels);
  const std::vector<float> pre = maybe(pick(0, 1));
  const std::vector<float> slope = maybe(pick(0, 1));
  const std::vector<float> post = maybe(pick(0, 1));
  const std::vector<float> threshold = maybe(pick(0, 2) > 0);
  const Flags flip(random_flags(channels));
  const bool with_flip = pick(0, 1);
  const int width = s.out_width(), height = s.out_height();
  const bool planar = pick(0, 1);
  const std::vector<float> residual =
      pick(0, 1) ? random_floats(counts.size()) : std::vector<float>();
  const int64_t image = int64_t(width) * height * channels;
  const int64_t strides[2][4] = {
      {image, 1, int64_t(width) * channels, channels},
      {image, int64_t(width) * height, width, 1}};

  std::vector<float> y(counts.size());
  Signs signs(counts.size());
  size_t i = 0;
  for (int n = 0; n < s.batch; ++n)
    for (int oy = 0; oy < height; ++oy)
      for (int ox = 0; ox < width; ++ox)
        for (int o = 0; o < channels; ++o, ++i) {
          const int64_t* r = strides[planar];
          float v = scale[o] * float(counts[i]);
          v = v + shift[o];
          if (!residual.empty())
            v = v + residual[n * r[0] + o * r[1] + oy * r[2] + ox * r[3]];
          if (!pre.empty()) v = v + pre[o];
          if (!slope.empty()) v = v > 0 ? v : slope[o] * v;
          if (!post.empty()) v = v + post[o];
          y[i] = v;
          if (threshold.empty()) continue;
          const bool below = with_flip && flip.host[o];
          const bool bit = below ? v < threshold[o] : v > threshold[o];
          signs[i] = bit ? 1 : -1;
        }

  const Buffer<float> buffers[] = {
      Buffer<float>(scale), Buffer<float>(shift),     Buffer<float>(pre),
      Buffer<float>(slope), Buffer<float>(post),      Buffer<float>(threshold),
      Buffer<float>(residual)};
  const auto pointer = [&](int index, const std::vector<float>& host) {
    return host.empty() ? nullptr : buffers[index].data();
  };
  const bool bits_only = !threshold.empty() && pick(0, 3) == 0;
  const std::vector<uint8_t> packed = pack_rows(signs, channels);
  const Buffer<float> out(bits_only ? 0 : y.size());
  const Buffer<uint8_t> out_bits(packed.size());
  AffineArguments a;
  a.scale = buffers[0].data();
  a.shift = buffers[1].data();
  a.pre = pointer(2, pre);
  a.slope = pointer(3, slope);
  a.post = pointer(4, post);
  a.threshold = pointer(5, threshold);
  a.flip = with_flip ? flip.data() : nullptr;
  a.residual = pointer(6, residual);
  std::copy(strides[planar], strides[planar] + 4, a.residual_strides);
  a.y = bits_only ? nullptr : out.data();
  a.out_bits = threshold.empty() ? nullptr : out_bits.data();
  require(conv_affine(s, plan, bits, blob, a, nullptr));
  if (!bits_only) expect_equal(y, out.host(), "floats, " + describe(s, plan));
  if (!threshold.empty())
    expect_equal(packed, out_bits.host(), "float bits, " + describe(s, plan));
}

void check_conv(const ConvShape& s, const Signs& x, const Signs& weight) {
  const std::vector<int32_t> expected = reference_counts(s, x, weight);
  const Buffer<uint8_t> bits(pack_rows(x, s.channels));
  const Buffer<uint8_t> weight_bits(pack_rows(weight, s.channels / s.groups));
  for (const Plan& plan : plans_for(s)) {
    const Buffer<uint8_t> blob(blob_bytes(s, plan.kernel));
    require(
        prepack(s, plan.kernel, weight_bits.data(), blob.data(), nullptr));
    const Buffer<int32_t> counts(expected.size());
    require(conv_counts(s, plan, bits.data(), blob.data(), counts.data(),
                        nullptr));
    expect_equal(expected, counts.host(), "counts, " + describe(s, plan));
    check_limits(s, plan, bits.data(), blob.data(), expected);
    check_affine(s, plan, bits.data(), blob.data(), expected);
  }
}

void check_conv(const ConvShape& s) {
  check_conv(
      s, random_signs(size_t(s.batch) * s.height * s.width * s.channels),
      random_signs(size_t(s.out_channels) * s.kernel_h * s.kernel_w *
                   (s.channels / s.groups)));
}

// Sums at their limits: all signs equal, and all opposite.
void check_extremes(int channels) {
  ConvShape s;
  s.batch = 1;
  s.channels = channels;
  s.height = s.width = 3;
  s.out_channels = 64;
  s.kernel_h = s.kernel_w = 3;
  s.pad_h = s.pad_w = 1;
  for (int8_t sign : {1, -1})
    for (int8_t weight : {1, -1})
      check_conv(s, Signs(size_t(9) * channels, sign),
                 Signs(size_t(64) * 9 * channels, weight));
}

void check_pack(int n, int c, int h, int w, int layout) {
  // NCHW, NHWC, and NHWC of every second column of a wider map
  const int64_t image = int64_t(c) * h * w;
  const int64_t strides[3][4] = {{image, int64_t(h) * w, w, 1},
                                 {image, 1, int64_t(w) * c, c},
                                 {2 * image, 1, int64_t(2 * w) * c, 2 * c}};
  const int64_t* stride = strides[layout];
  std::vector<float> x = random_scales(size_t(n) * image * 2);
  for (float& value : x) {
    if (pick(0, 15) == 0) value = std::numeric_limits<float>::quiet_NaN();
    if (pick(0, 15) == 0) value = 0.5f;
  }
  std::vector<float> threshold = random_floats(c);
  for (float& value : threshold)
    if (pick(0, 1)) value = 0.5f;
  const Flags flip(random_flags(c));
  const bool with_threshold = pick(0, 1), with_flip = pick(0, 1);
  Signs signs;
  for (int i = 0; i < n; ++i)
    for (int y = 0; y < h; ++y)
      for (int column = 0; column < w; ++column)
        for (int channel = 0; channel < c; ++channel) {
          const float value = x[i * stride[0] + channel * stride[1] +
                                y * stride[2] + column * stride[3]];
          const float t = with_threshold ? threshold[channel] : 0.0f;
          const bool bit =
              with_flip && flip.host[channel] ? value < t : value > t;
          signs.push_back(bit ? 1 : -1);
        }
  const std::vector<uint8_t> packed = pack_rows(signs, c);
  const Buffer<float> device_x(x), device_threshold(threshold);
  const Buffer<uint8_t> bits(packed.size());
  require(pack(device_x.data(), stride, n, c, h, w,
               with_threshold ? device_threshold.data() : nullptr,
               with_flip ? flip.data() : nullptr, bits.data(), nullptr));
  const std::string name = "pack N" + std::to_string(n) + " C" +
                           std::to_string(c) + " " + std::to_string(h) + "x" +
                           std::to_string(w) + " layout " +
                           std::to_string(layout);
  expect_equal(packed, bits.host(), name);
  const std::vector<float> values(signs.begin(), signs.end());
  const Buffer<float> unpacked(values.size());
  require(unpack(bits.data(), int64_t(n) * h * w, c, unpacked.data(), nullptr));
  expect_equal(values, unpacked.host(), "un" + name);
}

// The layout that all else relies on.
void check_instruction() {
  std::vector<uint32_t> a(16 * 8), b(8 * 8);
  for (uint32_t& word : a) word = generator();
  for (uint32_t& word : b) word = generator();
  std::vector<int> both, either;  // the two forms of the product
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column) {
      both.push_back(0);
      either.push_back(0);
      for (int i = 0; i < 8; ++i) {
        both.back() += __builtin_popcount(a[row * 8 + i] & b[column * 8 + i]);
        either.back() += __builtin_popcount(a[row * 8 + i] ^ b[column * 8 + i]);
      }
    }
  const std::vector<int> got = multiplied<SignProduct>(a, b);
  if (got != either) expect_equal(both, got, "one tensor-core instruction");
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 100;
  generator.seed(argc > 2 ? std::atoi(argv[2]) : 0);
  check_instruction();
  for (int layout = 0; layout < 3; ++layout)
    for (int c : {1, 31, 32, 64, 100, 257}) check_pack(2, c, 5, 7, layout);
  for (int channels : {64, 512, 4096}) check_extremes(channels);
  for (int i = 0; i < cases; ++i) {
#ifdef MMCOMPRESS_EMULATE
    emulator::device().late_copies = i % 2 == 0;
#endif
    ConvShape shape = random_shape();
    shape.pad_minus_one = pick(0, 2) == 0;
    check_conv(shape);
  }
  std::printf("%d random convolutions: %d failures\n", cases, failures);
  return failures == 0 ? 0 : 1;
}
