// The 1-bit operators of PyTorch for CUDA tensors: checks of the arguments,
// allocation, and calls of the kernels. ../binding.cpp defines the schemas.
//
// Uses only torch's stable ABI and no header of CUDA: any C++17 compiler builds
// it, and the kernels' objects are linked to it. With MMCOMPRESS_EMULATE the
// operators are registered for CPU tensors as mmcompress_emulated.*, on top of
// the emulator, so that this file is tested without a GPU.
#include <optional>
#include <string>
#include <tuple>

#include "../quantize_arguments.h"
#include "binary_ops.h"
#include "binding_cuda.h"
#include "quantize_ops.h"

namespace {

using namespace mmcompress::binding;
using mmcompress::cuda::AffineArguments;
using mmcompress::cuda::blob_bytes;

// --- Arguments -------------------------------------------------------------

int64_t packed_bytes(int64_t channels) { return 8 * ((channels + 63) / 64); }

ConvShape packed_conv_shape(const Tensor& bits, const ConvArguments& args) {
  check_packed("bits", bits);
  const ConvShape s =
      conv_shape(bits.size(0), bits.size(1), bits.size(2), args, packed_bytes);
  check_pixel_bytes(bits, packed_bytes(s.channels), s.channels);
  return s;
}

ConvShape float_conv_shape(const Tensor& x, const ConvArguments& args) {
  check_image("x", x);
  const ConvShape s =
      conv_shape(x.size(0), x.size(2), x.size(3), args, packed_bytes);
  check_channels(x, s.channels);
  return s;
}

Weights weights_of(const Tensor& blob, const ConvShape& s,
                   const Tensor& input) {
  return Weights(
      blob, s, input, [&](Kernel kernel) { return blob_bytes(s, kernel); },
      "binary_prepack for this weight_shape and groups, on this device");
}

Ints packed_shape(const ConvShape& s) {
  return {s.batch, s.out_height(), s.out_width(),
          packed_bytes(s.out_channels)};
}

// --- Operators -------------------------------------------------------------------

// The bits of a float image, and its thresholds and flips, kept alive.
class Packing {
 public:
  Packing(const Tensor& x, const MaybeTensor& threshold,
          const MaybeTensor& flip)
      : x_(x),
        threshold_("threshold", threshold, ScalarType::Float, x.size(1), x),
        flip_("flip", flip, ScalarType::Bool, x.size(1), x) {}

  Tensor run(void* stream) const {
    const Tensor bits =
        new_tensor({x_.size(0), x_.size(2), x_.size(3),
                    packed_bytes(x_.size(1))},
                   ScalarType::Byte, x_);
    int64_t strides[4];
    copy_strides(x_, strides);
    check_launch(mmcompress::cuda::pack(
        floats(x_), strides, narrow("the batch", x_.size(0)),
        narrow("the channels", x_.size(1)), narrow("the height", x_.size(2)),
        narrow("the width", x_.size(3)), threshold_.data<float>(),
        flip_.data<bool>(), bytes(bits), stream));
    return bits;
  }

 private:
  Tensor x_;
  Vector threshold_;
  Vector flip_;
};

Tensor binary_pack(const Tensor& x, const MaybeTensor& threshold,
                   const MaybeTensor& flip) {
  check_image("x", x);
  const Packing packing(x, threshold, flip);
  const OnDeviceOf device(x);
  return packing.run(device.stream());
}

Tensor binary_unpack(const Tensor& bits, int64_t channels) {
  check_packed("bits", bits);
  check_unpacked_channels(bits, channels);
  const OnDeviceOf device(bits);
  const Tensor source = as_contiguous(bits);
  Tensor signs =
      new_image({bits.size(0), channels, bits.size(1), bits.size(2)},
                ScalarType::Float, bits);
  check_launch(mmcompress::cuda::unpack(
      bytes(source), bits.size(0) * bits.size(1) * bits.size(2),
      narrow("channels", channels), floats(signs), device.stream()));
  return signs;
}

Tensor binary_prepack(const Tensor& weight_bits, const Ints& weight_shape,
                      int64_t groups, const std::string& isa) {
  const ConvShape s = weight_shape_of(weight_shape, groups, packed_bytes);
  check_packed("weight_bits", weight_bits);
  check_shape("weight_bits", weight_bits,
              {s.out_channels, s.kernel_h, s.kernel_w,
               packed_bytes(weight_shape[1])});
  const Kernel kernel = kernel_by_name(isa, s);
  const OnDeviceOf device(weight_bits);
  const Tensor source = aligned(weight_bits, kAlignment);
  Tensor blob = new_tensor({static_cast<int64_t>(blob_bytes(s, kernel))},
                           ScalarType::Byte, weight_bits);
  check_launch(mmcompress::cuda::prepack(s, kernel, bytes(source), bytes(blob),
                                         device.stream()));
  return blob;
}

Tensor binary_conv2d(const Tensor& bits, const Tensor& blob,
                     const Ints& weight_shape, const Ints& stride,
                     const Ints& padding, const Ints& dilation, int64_t groups,
                     int64_t pad_value) {
  const ConvShape s = packed_conv_shape(
      bits, {weight_shape, stride, padding, dilation, groups, pad_value});
  const Weights weights = weights_of(blob, s, bits);
  const OnDeviceOf device(bits);
  const Tensor source = aligned(bits, kAlignment);
  Tensor k = new_image(image_shape(s), ScalarType::Int, bits);
  check_launch(mmcompress::cuda::conv_counts(
      s, plan_conv(s, weights.kernel()), bytes(source), weights.data(),
      static_cast<int32_t*>(k.data_ptr()), device.stream()));
  return k;
}

Tensor binary_conv2d_bits(const Tensor& bits, const Tensor& blob,
                          const Tensor& limit, const Tensor& flip,
                          const Ints& weight_shape, const Ints& stride,
                          const Ints& padding, const Ints& dilation,
                          int64_t groups, int64_t pad_value) {
  const ConvShape s = packed_conv_shape(
      bits, {weight_shape, stride, padding, dilation, groups, pad_value});
  const Weights weights = weights_of(blob, s, bits);
  const Vector limits("limit", limit, ScalarType::Int, s.out_channels, bits);
  const Vector flips("flip", flip, ScalarType::Bool, s.out_channels, bits);
  const OnDeviceOf device(bits);
  const Tensor source = aligned(bits, kAlignment);
  Tensor out = new_tensor(packed_shape(s), ScalarType::Byte, bits);
  check_launch(mmcompress::cuda::conv_bits(
      s, plan_conv(s, weights.kernel()), bytes(source), weights.data(), limits.data<int32_t>(),
      flips.data<bool>(), bytes(out), device.stream()));
  return out;
}

std::tuple<Tensor, Tensor> binary_conv2d_fused(
    const Tensor& x, const Tensor& blob, const Tensor& scale,
    const Tensor& shift, const MaybeTensor& threshold, const MaybeTensor& flip,
    const MaybeTensor& residual, const MaybeTensor& pre,
    const MaybeTensor& slope, const MaybeTensor& post,
    const MaybeTensor& next_threshold, const MaybeTensor& next_flip,
    const Ints& weight_shape, const Ints& stride, const Ints& padding,
    const Ints& dilation, int64_t groups, int64_t pad_value, bool bits_only) {
  const bool wants_bits = next_threshold.has_value();
  const bool is_packed = x.scalar_type() == ScalarType::Byte;
  check_fused(is_packed, threshold, flip, next_threshold, next_flip,
              bits_only);
  const ConvArguments args = {weight_shape, stride, padding,
                              dilation,     groups, pad_value};
  const ConvShape s =
      is_packed ? packed_conv_shape(x, args) : float_conv_shape(x, args);
  const Weights weights = weights_of(blob, s, x);
  const auto per_output = [&](const char* name, const MaybeTensor& vector,
                              ScalarType type = ScalarType::Float) {
    return Vector(name, vector, type, s.out_channels, x);
  };
  const Vector scales = per_output("scale", scale);
  const Vector shifts = per_output("shift", shift);
  const Vector pres = per_output("pre", pre);
  const Vector slopes = per_output("slope", slope);
  const Vector posts = per_output("post", post);
  const Vector thresholds = per_output("next_threshold", next_threshold);
  const Vector flips = per_output("next_flip", next_flip, ScalarType::Bool);
  AffineArguments a;
  if (residual) {
    check_like("residual", *residual, ScalarType::Float, x);
    check_shape("residual", *residual, image_shape(s));
    copy_strides(*residual, a.residual_strides);
    a.residual = floats(*residual);
  }
  std::optional<Packing> packing;
  if (!is_packed) packing.emplace(x, threshold, flip);
  const OnDeviceOf device(x);
  const Tensor source =
      is_packed ? aligned(x, kAlignment) : packing->run(device.stream());
  Tensor y = bits_only ? new_tensor({0}, ScalarType::Float, x)
                       : new_image(image_shape(s), ScalarType::Float, x);
  Tensor bits = new_tensor(wants_bits ? packed_shape(s) : Ints{0},
                           ScalarType::Byte, x);
  a.scale = scales.data<float>();
  a.shift = shifts.data<float>();
  a.pre = pres.data<float>();
  a.slope = slopes.data<float>();
  a.post = posts.data<float>();
  a.threshold = thresholds.data<float>();
  a.flip = flips.data<bool>();
  a.y = bits_only ? nullptr : floats(y);
  a.out_bits = wants_bits ? bytes(bits) : nullptr;
  check_launch(mmcompress::cuda::conv_affine(s, plan_conv(s, weights.kernel()), bytes(source),
                                             weights.data(), a,
                                             device.stream()));
  return {y, bits};
}

Tensor lsq_fake_quantize(const Tensor& x, const Tensor& scale,
                         const MaybeTensor& beta,
                         const MaybeTensor& zero_point,
                         std::optional<int64_t> axis, int64_t low,
                         int64_t high, double factor,
                         const std::string& mask) {
  const FakeQuantizeArguments args(x, scale, beta, zero_point,
                                   {axis, low, high, factor, mask});
  const OnDeviceOf device(x);
  const Dense values(x);
  if (x.numel() > 0)
    check_launch(mmcompress::cuda::fake_quantize(
        quantized_shape(values.source, axis), args.range(),
        floats(values.source), floats(values.result), device.stream()));
  return values.result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> lsq_fake_quantize_backward(
    const Tensor& dy, const Tensor& x, const Tensor& scale,
    const MaybeTensor& beta, const MaybeTensor& zero_point,
    std::optional<int64_t> axis, int64_t low, int64_t high, double factor,
    const std::string& mask) {
  const FakeQuantizeArguments args(x, scale, beta, zero_point,
                                   {axis, low, high, factor, mask});
  check_like("dy", dy, ScalarType::Float, x);
  check_shape("dy", dy, shape_of(x));
  const OnDeviceOf device(x);
  const Dense values(x);
  const Tensor dy_values = laid_out_as(values.source, dy);
  const auto new_gradient = [&](bool given) {
    const Ints shape = {given ? scale.numel() : 0};
    return x.numel() > 0 ? new_tensor(shape, ScalarType::Float, x)
                         : torch::stable::new_zeros(x, shape);
  };
  Tensor d_scale = new_gradient(true), d_beta = new_gradient(bool(beta));
  Tensor d_zero = new_gradient(bool(zero_point));
  if (x.numel() > 0) {
    const auto shape = quantized_shape(values.source, axis);
    Tensor scratch =
        new_tensor({mmcompress::cuda::fake_quantize_scratch(shape)},
                   ScalarType::Double, x);
    check_launch(mmcompress::cuda::fake_quantize_backward(
        shape, args.range(), factor, floats(values.source),
        floats(dy_values), floats(values.result),
        static_cast<double*>(scratch.data_ptr()), floats(d_scale),
        beta ? floats(d_beta) : nullptr, zero_point ? floats(d_zero) : nullptr,
        device.stream()));
  }
  return {values.result, d_scale, d_beta, d_zero};
}

}  // namespace

#ifdef MMCOMPRESS_EMULATE
STABLE_TORCH_LIBRARY_IMPL(mmcompress_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(mmcompress, CUDA, m) {
#endif
  m.impl("binary_pack", TORCH_BOX(&binary_pack));
  m.impl("binary_unpack", TORCH_BOX(&binary_unpack));
  m.impl("binary_prepack", TORCH_BOX(&binary_prepack));
  m.impl("binary_conv2d", TORCH_BOX(&binary_conv2d));
  m.impl("binary_conv2d_bits", TORCH_BOX(&binary_conv2d_bits));
  m.impl("binary_conv2d_fused", TORCH_BOX(&binary_conv2d_fused));
  m.impl("lsq_fake_quantize", TORCH_BOX(&lsq_fake_quantize));
  m.impl("lsq_fake_quantize_backward",
         TORCH_BOX(&lsq_fake_quantize_backward));
}
