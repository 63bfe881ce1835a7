// Arguments of the operators of fake quantization, in the words of
// mmcompress/ops/fake_quantize.py; for the bindings for CPU and CUDA.
#pragma once

#include <algorithm>
#include <string>

#include "arguments.h"
#include "quantized.h"

namespace mmcompress {
namespace binding {

// Largest code, far above those of 8 bits: float32 holds all of them.
constexpr int64_t kMaxCode = int64_t(1) << 16;

struct FakeQuantizeOptions {
  std::optional<int64_t> axis;
  int64_t low, high;
  double factor;
  const std::string& mask;

  bool is_rounded() const { return mask == "rounded"; }
};

// Number of scales, once the other arguments are checked.
inline int64_t num_scales(const Tensor& x,
                          const FakeQuantizeOptions& options) {
  check_type("x", x, ScalarType::Float);
  STD_TORCH_CHECK(-kMaxCode <= options.low && options.low <= 0,
                  "low must be from -", kMaxCode, " to 0, it is ",
                  options.low);
  STD_TORCH_CHECK(0 <= options.high && options.high <= kMaxCode,
                  "high must be from 0 to ", kMaxCode, ", it is ",
                  options.high);
  STD_TORCH_CHECK(options.is_rounded() || options.mask == "clip",
                  "mask must be 'clip' or 'rounded', it is '", options.mask,
                  "'");
  if (!options.axis) return 1;
  const int64_t axis = *options.axis;
  STD_TORCH_CHECK(-x.dim() <= axis && axis < x.dim(),
                  "axis must be one of the ", x.dim(),
                  " dimensions of x, it is ", axis);
  return x.size(axis < 0 ? axis + x.dim() : axis);
}

// What lsq_fake_quantize and its gradient are told of the codes, kept alive.
struct __attribute__((visibility("hidden"))) FakeQuantizeArguments {
  FakeQuantizeOptions options;
  Vector scale, beta, zero_point;

  FakeQuantizeArguments(const Tensor& x, const Tensor& scale_,
                        const MaybeTensor& beta_,
                        const MaybeTensor& zero_point_,
                        const FakeQuantizeOptions& options_)
      : options(options_),
        scale("scale", scale_, ScalarType::Float, num_scales(x, options_), x),
        beta("beta", beta_, ScalarType::Float, num_scales(x, options_), x),
        zero_point("zero_point", zero_point_, ScalarType::Float,
                   num_scales(x, options_), x) {}

  QuantizedRange range() const {
    return {scale.data<float>(), beta.data<float>(), zero_point.data<float>(),
            options.low,         options.high,       options.is_rounded()};
  }
};

// Dimensions of more than one element, in the order of memory.
inline Ints order_of(const Tensor& x) {
  Ints order;
  for (int64_t i = 0; i < x.dim(); ++i)
    if (x.size(i) != 1) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return x.stride(a) > x.stride(b);
  });
  return order;
}

// Values whose memory has no gaps, and as much for a result.
struct __attribute__((visibility("hidden"))) Dense {
  Tensor source, result;

  // Any order of the dimensions is kept; where there are gaps, the values are
  // copied, contiguous.
  explicit Dense(const Tensor& x)
      : source(x), result(torch::stable::empty_like(x)) {
    if (x.strides().equals(result.strides())) return;
    source = torch::stable::contiguous(x);
    result = torch::stable::empty_like(source);
  }
};

// `y` with the strides of the dense `x`, of the same shape.
inline Tensor laid_out_as(const Tensor& x, const Tensor& y) {
  for (int64_t i = 0; i < x.dim(); ++i)
    if (x.size(i) != 1 && x.stride(i) != y.stride(i)) {
      Tensor same = torch::stable::empty_like(x);
      return torch::stable::copy_(same, y);
    }
  return y;
}

// Of dense memory with elements.
inline QuantizedShape quantized_shape(const Tensor& x,
                                      std::optional<int64_t> axis) {
  QuantizedShape shape = {1, 1, x.numel()};
  if (!axis) return shape;
  const int64_t wanted = *axis < 0 ? *axis + x.dim() : *axis;
  for (int64_t i : order_of(x)) {
    const int64_t size = x.size(i);
    shape.inner /= size;
    if (i == wanted) {
      shape.groups = size;
      return shape;
    }
    shape.outer *= size;
  }
  // one scale
  return {1, 1, x.numel()};
}

}  // namespace binding
}  // namespace mmcompress
