// 1-bit linear layers as operators of PyTorch for CPU tensors: a convolution
// of one column of pixels. One call takes features as they are, since views
// and lists of numbers cost as much as a row of a small layer.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu_operators.h"

namespace {

using namespace mmcompress::binding;
using mmcompress::ConvInput;
using mmcompress::ConvShape;
using mmcompress::FloatImage;
using mmcompress::FloatOutput;
using mmcompress::packed_bytes;

void check_features(const char* name, const Tensor& x, ScalarType type) {
  check_type(name, x, type);
  STD_TORCH_CHECK(x.dim() > 0, name, " must be (..., features), it is scalar");
  check_sizes(name, x);
}

void check_last(const char* name, const Tensor& x, int64_t wanted,
                int64_t channels) {
  STD_TORCH_CHECK(x.size(-1) == wanted, name, " must have ", wanted,
                  " in its last dimension for ", channels,
                  " channels, it has shape ", text(shape_of(x)));
}

// Shape of a result: one vector per token of `x`.
Ints per_token(const Tensor& x, int64_t size) {
  Ints shape = shape_of(x);
  shape.back() = size;
  return shape;
}

// Tokens with any strides, kept alive, as pixels of an image.
class __attribute__((visibility("hidden"))) Tokens {
 public:
  explicit Tokens(const Tensor& x)
      : tensor_(x.dim() == 2 ? x : as_contiguous(x)) {
    count_ = 1;
    for (int64_t size : x.sizes()) count_ *= size;
    features_ = x.size(-1);
    if (features_ > 0) count_ /= features_;
  }

  int64_t count() const { return count_; }

  FloatImage image() const {
    const bool is_matrix = tensor_.dim() == 2;
    const int64_t step = is_matrix ? tensor_.stride(0) : features_;
    // the stride of a dimension of size 1 is arbitrary
    const int64_t inner =
        is_matrix && features_ > 1 ? tensor_.stride(1) : 1;
    return {floats(tensor_), 0, inner, step, step};
  }

 private:
  Tensor tensor_;
  int64_t count_;
  int64_t features_;
};

ConvShape linear_shape(int64_t tokens, int64_t num_outputs,
                       int64_t channels) {
  STD_TORCH_CHECK(num_outputs > 0 && num_outputs <= kMaxChannels,
                  "num_outputs must be from 1 to ", kMaxChannels, ", it is ",
                  num_outputs);
  STD_TORCH_CHECK(channels > 0 && channels <= kMaxProducts,
                  "channels must be from 1 to ", kMaxProducts, ", it is ",
                  channels);
  return {tokens > 0 ? 1 : 0,
          tokens,
          1,
          {num_outputs, channels, 1, 1, 1},
          1,
          1,
          0,
          0,
          1,
          1,
          0};
}

// Packed tokens, and the layer that they go through.
class __attribute__((visibility("hidden"))) PackedTokens {
 public:
  PackedTokens(const char* name, const Tensor& bits, int64_t num_outputs,
               int64_t channels)
      : tensor_(as_contiguous(bits)) {
    check_features(name, bits, ScalarType::Byte);
    const int64_t row_bytes = bits.size(-1);
    shape = linear_shape(row_bytes > 0 ? bits.numel() / row_bytes : 0,
                         num_outputs, channels);
    check_last(name, bits, packed_bytes(channels), channels);
  }

  ConvInput input() const { return packed_input(tensor_); }

  ConvShape shape;

 private:
  Tensor tensor_;
};

Tensor binary_linear_pack(const Tensor& x, const MaybeTensor& threshold,
                          const MaybeTensor& flip) {
  check_features("x", x, ScalarType::Float);
  const int64_t channels = x.size(-1);
  STD_TORCH_CHECK(channels > 0, "x has no features: ", text(shape_of(x)));
  const ThresholdVectors thresholds("threshold", threshold, "flip", flip,
                                    channels, x);
  const Tokens tokens(x);
  Tensor bits = new_bytes(per_token(x, packed_bytes(channels)));
  if (tokens.count() > 0)
    mmcompress::pack(tokens.image(), 1, channels, tokens.count(), 1,
                     thresholds.get(), bytes(bits), torch_threads());
  return bits;
}

Tensor binary_linear(const Tensor& bits, const Tensor& blob,
                     int64_t num_outputs, int64_t channels) {
  const PackedTokens tokens("bits", bits, num_outputs, channels);
  const OpenBlob weights(blob, tokens.shape.weight, bits);
  Tensor k = torch::stable::empty(per_token(bits, num_outputs),
                                  ScalarType::Int);
  mmcompress::conv_counts(tokens.shape, tokens.input(), weights.get(),
                          static_cast<int32_t*>(k.data_ptr()),
                          torch_threads());
  return k;
}

Tensor binary_linear_bits(const Tensor& bits, const Tensor& blob,
                          const Tensor& limit, const Tensor& flip,
                          int64_t num_outputs, int64_t channels) {
  const PackedTokens tokens("bits", bits, num_outputs, channels);
  const OpenBlob weights(blob, tokens.shape.weight, bits);
  const Vector limits("limit", limit, ScalarType::Int, num_outputs, bits);
  const Vector flips("flip", flip, ScalarType::Bool, num_outputs, bits);
  Tensor out = new_bytes(per_token(bits, packed_bytes(num_outputs)));
  mmcompress::conv_bits(tokens.shape, tokens.input(), weights.get(),
                        limits.data<int32_t>(), flips.data<bool>(), bytes(out),
                        torch_threads());
  return out;
}

std::tuple<Tensor, Tensor> binary_linear_fused(
    const Tensor& x, const Tensor& blob, const Tensor& scale,
    const Tensor& shift, const MaybeTensor& threshold, const MaybeTensor& flip,
    const MaybeTensor& residual, const MaybeTensor& pre,
    const MaybeTensor& slope, const MaybeTensor& post,
    const MaybeTensor& next_threshold, const MaybeTensor& next_flip,
    int64_t num_outputs, int64_t channels, bool bits_only) {
  const bool wants_bits = next_threshold.has_value();
  const bool is_packed = x.scalar_type() == ScalarType::Byte;
  check_fused(is_packed, threshold, flip, next_threshold, next_flip,
              bits_only);
  check_features("x", x, is_packed ? ScalarType::Byte : ScalarType::Float);
  const Tensor source = is_packed ? as_contiguous(x) : x;
  const int64_t last = x.size(-1);
  const ConvShape shape = linear_shape(last > 0 ? x.numel() / last : 0,
                                       num_outputs, channels);
  check_last("x", x, is_packed ? packed_bytes(channels) : channels, channels);
  const OpenBlob weights(blob, shape.weight, x);
  const auto per_output = [&](const char* name, const MaybeTensor& vector) {
    return Vector(name, vector, ScalarType::Float, num_outputs, x);
  };
  const Vector scales = per_output("scale", scale);
  const Vector shifts = per_output("shift", shift);
  const Vector pres = per_output("pre", pre);
  const Vector slopes = per_output("slope", slope);
  const Vector posts = per_output("post", post);
  const ThresholdVectors now("threshold", threshold, "flip", flip, channels,
                             x);
  const ThresholdVectors next("next_threshold", next_threshold, "next_flip",
                              next_flip, num_outputs, x);
  const Ints y_shape = per_token(x, num_outputs);
  FloatOutput output = {};
  std::optional<Tokens> added;
  if (residual) {
    check_like("residual", *residual, ScalarType::Float, x);
    check_shape("residual", *residual, y_shape);
    added.emplace(*residual);
    output.residual = added->image();
  }
  ConvInput input = {};
  std::optional<Tokens> tokens;
  if (is_packed) {
    input = packed_input(source);
  } else {
    tokens.emplace(x);
    input.image = tokens->image();
    input.thresholds = now.get();
  }
  Tensor y = bits_only ? new_floats({0}) : new_floats(y_shape);
  Tensor bits = new_bytes(wants_bits
                              ? per_token(x, packed_bytes(num_outputs))
                              : Ints{0});
  output.scale = scales.data<float>();
  output.shift = shifts.data<float>();
  output.pre = pres.data<float>();
  output.slope = slopes.data<float>();
  output.post = posts.data<float>();
  output.next = next.get();
  output.y = bits_only ? nullptr : floats(y);
  output.bits = wants_bits ? bytes(bits) : nullptr;
  mmcompress::conv_float(shape, input, weights.get(), output, torch_threads());
  return {y, bits};
}

STABLE_TORCH_LIBRARY_FRAGMENT(mmcompress, m) {
  m.def(
      "binary_linear_pack(Tensor x, Tensor? threshold=None, Tensor? "
      "flip=None) -> Tensor");
  m.def(
      "binary_linear(Tensor bits, Tensor blob, int num_outputs, int channels) "
      "-> Tensor");
  m.def(
      "binary_linear_bits(Tensor bits, Tensor blob, Tensor limit, Tensor "
      "flip, int num_outputs, int channels) -> Tensor");
  m.def(
      "binary_linear_fused(Tensor x, Tensor blob, Tensor scale, Tensor shift, "
      "Tensor? threshold, Tensor? flip, Tensor? residual, Tensor? pre, "
      "Tensor? slope, Tensor? post, Tensor? next_threshold, Tensor? "
      "next_flip, int num_outputs, int channels, bool bits_only=False) -> "
      "(Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(mmcompress, CPU, m) {
  m.impl("binary_linear_pack", TORCH_BOX(&binary_linear_pack));
  m.impl("binary_linear", TORCH_BOX(&binary_linear));
  m.impl("binary_linear_bits", TORCH_BOX(&binary_linear_bits));
  m.impl("binary_linear_fused", TORCH_BOX(&binary_linear_fused));
}

}  // namespace
