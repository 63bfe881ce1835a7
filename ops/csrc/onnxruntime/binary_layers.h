// 1-bit convolutions and linear layers as operators of ONNX Runtime.
#pragma once

#include <cstdlib>
#include <memory>

#include "../cpu/binary_conv.h"
#include "kernel.h"

namespace mmcompress {
namespace ort {

// The same limits as those of PyTorch's operators, ../arguments.h.
constexpr int64_t kMaxChannels = int64_t(1) << 24;
constexpr int64_t kMaxProducts = int64_t(1) << 24;

inline Thresholds thresholds_of(const Constant<float>& threshold,
                                const Flags& flip) {
  return {threshold.data(), flip.data()};
}

// An image of floats.
inline FloatImage image_of(const TensorView& x, bool channels_last) {
  const Ints& s = x.shape;
  if (channels_last)
    return {x.floats(), s[1] * s[2] * s[3], 1, s[2] * s[3], s[3]};
  return {x.floats(), s[1] * s[2] * s[3], s[2] * s[3], s[3], 1};
}

// Features in the last dimension as an image of one column.
inline FloatImage column_of(const TensorView& x) {
  const int64_t features = x.shape.back();
  return {x.floats(), 0, 1, features, features};
}

inline int64_t num_rows(const Ints& shape) {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

// Weights, arranged for this machine.
class Weights {
 public:
  explicit Weights(const Node& node, int64_t groups, size_t index = 1) {
    const TensorView bits = node.constant(index, "weight_bits", kOrtUint8);
    const Ints& s = bits.shape;
    const int64_t channels = node.integer("channels");
    require(s.size() == 4 && s[0] > 0 && s[1] > 0 && s[2] > 0 &&
                s[0] <= kMaxChannels && channels > 0 &&
                channels <= kMaxProducts / s[1] / s[2] &&
                s[3] == packed_bytes(channels),
            "weight_bits must be (K, kh, kw, bytes of " +
                std::to_string(channels) + " channels), it has shape " +
                text(s));
    require(groups > 0 && s[0] % groups == 0,
            "group must divide the " + std::to_string(s[0]) +
                " output channels, it is " + std::to_string(groups));
    shape_ = {s[0], channels, s[1], s[2], groups};
    const int64_t size = BlobLayout(shape_, best_kernels()).total_bytes;
    const int64_t alignment = 64;
    bytes_.reset(static_cast<uint8_t*>(std::aligned_alloc(
        alignment, ceil_div(size, alignment) * alignment)));
    if (!bytes_) throw std::bad_alloc();
    prepack(bits.bytes(), shape_, best_kernels(), bytes_.get());
    blob_ = open_blob(bytes_.get(), size, shape_);
  }

  const WeightShape& shape() const { return shape_; }
  const Blob& blob() const { return blob_; }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };

  WeightShape shape_;
  std::unique_ptr<uint8_t, Free> bytes_;
  Blob blob_;
};

// How an input becomes the image that a convolution goes over.
class Convolution {
 public:
  static constexpr bool kIsLinear = false;

  explicit Convolution(const Node& node)
      : weights_(node, node.integer("group")),
        stride_(node.pair("strides", 1)),
        padding_(node.pair("pads", 0)),
        dilation_(node.pair("dilations", 1)),
        pad_value_(node.integer("pad_value")),
        channels_last_(node.integer("channels_last") != 0) {
    require(pad_value_ == 0 || pad_value_ == -1,
            "pad_value must be 0 or -1: " + std::to_string(pad_value_));
  }

  const Weights& weights() const { return weights_; }

  ConvShape shape_for(const TensorView& x) const {
    const Ints& s = x.shape;
    require(s.size() == 4, "x must have four dimensions, it has shape " +
                               text(s));
    const bool last = x.type == kOrtUint8 || channels_last_;
    const WeightShape& w = weights_.shape();
    const int64_t wanted = x.type == kOrtUint8 ? packed_bytes(w.channels())
                                               : w.channels();
    require(s[last ? 3 : 1] == wanted,
            "x has shape " + text(s) + ", the weight wants " +
                std::to_string(w.channels()) + " channels");
    const ConvShape shape = {s[0],         s[last ? 1 : 2], s[last ? 2 : 3],
                             w,            stride_[0],      stride_[1],
                             padding_[0],  padding_[1],     dilation_[0],
                             dilation_[1], int(pad_value_)};
    require(dilation_[0] * (w.kernel_h - 1) < shape.height + 2 * padding_[0] &&
                dilation_[1] * (w.kernel_w - 1) <
                    shape.width + 2 * padding_[1] &&
                shape.height > 0 && shape.width > 0,
            "the kernel does not fit into an input of shape " + text(s));
    return shape;
  }

  FloatImage image(const TensorView& x) const {
    return image_of(x, channels_last_);
  }

  Ints output_shape(const TensorView&, const ConvShape& shape,
                    int64_t last) const {
    return {shape.batch, shape.out_height(), shape.out_width(), last};
  }

  // The residual may have either layout.
  FloatImage residual(const TensorView& x, const ConvShape& shape,
                      bool channels_last) const {
    const int64_t k = weights_.shape().num_outputs;
    const Ints wanted =
        channels_last
            ? output_shape(x, shape, k)
            : Ints{shape.batch, k, shape.out_height(), shape.out_width()};
    require(x.shape == wanted, "residual must have shape " + text(wanted) +
                                   ", it has " + text(x.shape));
    return image_of(x, channels_last);
  }

 private:
  Weights weights_;
  Ints stride_, padding_, dilation_;
  int64_t pad_value_;
  bool channels_last_;
};

// Features in the last dimension.
class Linear {
 public:
  static constexpr bool kIsLinear = true;

  explicit Linear(const Node& node) : weights_(node, 1) {
    const WeightShape& w = weights_.shape();
    require(w.kernel_h == 1 && w.kernel_w == 1,
            "weight_bits must be (K, 1, 1, bytes)");
  }

  const Weights& weights() const { return weights_; }

  ConvShape shape_for(const TensorView& x) const {
    const WeightShape& w = weights_.shape();
    const int64_t wanted =
        x.type == kOrtUint8 ? packed_bytes(w.channels()) : w.channels();
    require(!x.shape.empty() && x.shape.back() == wanted,
            "x has shape " + text(x.shape) + ", the weight wants " +
                std::to_string(w.channels()) + " features");
    const int64_t rows = num_rows(x.shape);
    return {rows > 0 ? 1 : 0, rows, 1, w, 1, 1, 0, 0, 1, 1, 0};
  }

  FloatImage image(const TensorView& x) const { return column_of(x); }

  Ints output_shape(const TensorView& x, const ConvShape&,
                    int64_t last) const {
    Ints shape = x.shape;
    shape.back() = last;
    return shape;
  }

  FloatImage residual(const TensorView& x, const ConvShape& shape,
                      bool) const {
    const int64_t k = weights_.shape().num_outputs;
    require(!x.shape.empty() && x.shape.back() == k &&
                num_rows(x.shape) == shape.height,
            "residual has shape " + text(x.shape) + ", the layer has " +
                std::to_string(k) + " outputs");
    return column_of(x);
  }

 private:
  Weights weights_;
};

}  // namespace ort
}  // namespace mmcompress
