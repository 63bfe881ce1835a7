// The operators of PyTorch for CPU tensors: checks of the arguments,
// allocation, and calls of the kernels. Uses only torch's stable ABI, so that
// one file serves several versions of torch and Python.
#include <torch/csrc/stable/library.h>

#include <string>
#include <tuple>
#include <vector>

#include "cpu/fake_quantize.h"
#include "cpu/roi_align.h"
#include "cpu_operators.h"
#include "quantize_arguments.h"

namespace {

using namespace mmcompress::binding;
using mmcompress::BlobLayout;
using mmcompress::ConvInput;
using mmcompress::ConvShape;
using mmcompress::FloatImage;
using mmcompress::FloatOutput;
using mmcompress::Kernels;
using mmcompress::packed_bytes;
using mmcompress::QuantizedRange;
using mmcompress::QuantizedShape;
using mmcompress::RoIAlignShape;
using mmcompress::WeightShape;

WeightShape weight_shape_of(const Ints& shape, int64_t groups) {
  check_weight_shape(shape, groups);
  return {shape[0], shape[1], shape[2], shape[3], groups};
}

ConvShape conv_shape(int64_t batch, int64_t height, int64_t width,
                     const ConvArguments& args) {
  check_pair("stride", args.stride, 1);
  check_pair("padding", args.padding, 0);
  check_pair("dilation", args.dilation, 1);
  check_pad_value(args.pad_value);
  const WeightShape weight = weight_shape_of(args.weight_shape, args.groups);
  check_fits(height, width, args);
  return {batch,
          height,
          width,
          weight,
          args.stride[0],
          args.stride[1],
          args.padding[0],
          args.padding[1],
          args.dilation[0],
          args.dilation[1],
          int(args.pad_value)};
}

// A packed input, and the convolution that it goes through.
ConvShape packed_conv_shape(const Tensor& bits, const ConvArguments& args) {
  check_packed("bits", bits);
  const ConvShape shape =
      conv_shape(bits.size(0), bits.size(1), bits.size(2), args);
  const int64_t channels = shape.weight.channels();
  check_pixel_bytes(bits, packed_bytes(channels), channels);
  return shape;
}

ConvShape float_conv_shape(const Tensor& x, const ConvArguments& args) {
  check_image("x", x);
  const ConvShape shape = conv_shape(x.size(0), x.size(2), x.size(3), args);
  check_channels(x, shape.weight.channels());
  return shape;
}

Tensor binary_pack(const Tensor& x, const MaybeTensor& threshold,
                   const MaybeTensor& flip) {
  check_image("x", x);
  const ThresholdVectors thresholds("threshold", threshold, "flip", flip,
                                    x.size(1), x);
  Tensor bits =
      new_bytes({x.size(0), x.size(2), x.size(3), packed_bytes(x.size(1))});
  if (bits.numel() > 0)
    mmcompress::pack(image_of(x), x.size(0), x.size(1), x.size(2), x.size(3),
                     thresholds.get(), bytes(bits), torch_threads());
  return bits;
}

Tensor binary_unpack(const Tensor& bits, int64_t channels) {
  check_packed("bits", bits);
  check_unpacked_channels(bits, channels);
  const Tensor source = as_contiguous(bits);
  Tensor signs = new_image(
      {bits.size(0), channels, bits.size(1), bits.size(2)}, ScalarType::Float);
  mmcompress::unpack(bytes(source),
                     bits.size(0) * bits.size(1) * bits.size(2), channels,
                     floats(signs));
  return signs;
}

Tensor binary_prepack(const Tensor& weight_bits, const Ints& weight_shape,
                      int64_t groups, const std::string& isa) {
  const WeightShape shape = weight_shape_of(weight_shape, groups);
  check_packed("weight_bits", weight_bits);
  check_shape("weight_bits", weight_bits,
              {shape.num_outputs, shape.kernel_h, shape.kernel_w,
               packed_bytes(shape.channels_per_group)});
  const Kernels& kernels = isa.empty() ? mmcompress::best_kernels()
                                       : mmcompress::kernels_by_name(isa);
  const Tensor source = as_contiguous(weight_bits);
  Tensor blob = new_bytes({BlobLayout(shape, kernels).total_bytes});
  mmcompress::prepack(bytes(source), shape, kernels, bytes(blob));
  return blob;
}

Tensor binary_conv2d(const Tensor& bits, const Tensor& blob,
                     const Ints& weight_shape, const Ints& stride,
                     const Ints& padding, const Ints& dilation, int64_t groups,
                     int64_t pad_value) {
  const ConvShape shape = packed_conv_shape(
      bits, {weight_shape, stride, padding, dilation, groups, pad_value});
  const OpenBlob weights(blob, shape.weight, bits);
  const Tensor source = as_contiguous(bits);
  Tensor k = new_image({shape.batch, shape.weight.num_outputs,
                        shape.out_height(), shape.out_width()},
                       ScalarType::Int);
  mmcompress::conv_counts(shape, packed_input(source), weights.get(),
                          static_cast<int32_t*>(k.data_ptr()),
                          torch_threads());
  return k;
}

Tensor binary_conv2d_bits(const Tensor& bits, const Tensor& blob,
                          const Tensor& limit, const Tensor& flip,
                          const Ints& weight_shape, const Ints& stride,
                          const Ints& padding, const Ints& dilation,
                          int64_t groups, int64_t pad_value) {
  const ConvShape shape = packed_conv_shape(
      bits, {weight_shape, stride, padding, dilation, groups, pad_value});
  const int64_t num_outputs = shape.weight.num_outputs;
  const OpenBlob weights(blob, shape.weight, bits);
  const Vector limits("limit", limit, ScalarType::Int, num_outputs, bits);
  const Vector flips("flip", flip, ScalarType::Bool, num_outputs, bits);
  const Tensor source = as_contiguous(bits);
  Tensor out = new_bytes({shape.batch, shape.out_height(), shape.out_width(),
                          packed_bytes(num_outputs)});
  mmcompress::conv_bits(shape, packed_input(source), weights.get(),
                        limits.data<int32_t>(), flips.data<bool>(), bytes(out),
                        torch_threads());
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
  const ConvShape shape =
      is_packed ? packed_conv_shape(x, args) : float_conv_shape(x, args);
  const int64_t num_outputs = shape.weight.num_outputs;
  const OpenBlob weights(blob, shape.weight, x);
  const auto per_output = [&](const char* name, const MaybeTensor& vector) {
    return Vector(name, vector, ScalarType::Float, num_outputs, x);
  };
  const Vector scales = per_output("scale", scale);
  const Vector shifts = per_output("shift", shift);
  const Vector pres = per_output("pre", pre);
  const Vector slopes = per_output("slope", slope);
  const Vector posts = per_output("post", post);
  const ThresholdVectors now("threshold", threshold, "flip", flip,
                             shape.weight.channels(), x);
  const ThresholdVectors next("next_threshold", next_threshold, "next_flip",
                              next_flip, num_outputs, x);
  const Ints y_shape = {shape.batch, num_outputs, shape.out_height(),
                        shape.out_width()};
  if (residual) {
    check_like("residual", *residual, ScalarType::Float, x);
    check_shape("residual", *residual, y_shape);
  }

  const Tensor source = is_packed ? as_contiguous(x) : x;
  ConvInput input = {};
  if (is_packed) {
    input = packed_input(source);
  } else {
    input.image = image_of(x);
    input.thresholds = now.get();
  }
  Tensor y = bits_only ? new_floats({0})
                       : new_image(y_shape, ScalarType::Float);
  Tensor bits = wants_bits
                    ? new_bytes({shape.batch, shape.out_height(),
                                 shape.out_width(), packed_bytes(num_outputs)})
                    : new_bytes({0});
  FloatOutput output = {};
  output.scale = scales.data<float>();
  output.shift = shifts.data<float>();
  if (residual) output.residual = image_of(*residual);
  output.pre = pres.data<float>();
  output.slope = slopes.data<float>();
  output.post = posts.data<float>();
  output.next = next.get();
  output.y = bits_only ? nullptr : floats(y);
  output.bits = wants_bits ? bytes(bits) : nullptr;
  mmcompress::conv_float(shape, input, weights.get(), output, torch_threads());
  return {y, bits};
}

// The image of each region.
void check_image_numbers(const float* rois, int64_t num_regions,
                         int64_t batch) {
  for (int64_t i = 0; i < num_regions; ++i) {
    const float number = rois[5 * i];
    STD_TORCH_CHECK(number >= 0.0f && number < float(batch),
                    "rois[:, 0] must be the number of an image, 0 to ",
                    batch - 1, ", row ", i, " has ", number);
  }
}

Tensor roi_align(const Tensor& x, const Tensor& rois, const Ints& output_size,
                 double spatial_scale, int64_t sampling_ratio, bool aligned) {
  check_image("x", x);
  STD_TORCH_CHECK(x.size(2) > 0 && x.size(3) > 0, "x has no pixels: ",
                  text(shape_of(x)));
  check_like("rois", rois, ScalarType::Float, x);
  STD_TORCH_CHECK(rois.dim() == 2 && rois.size(1) == 5,
                  "rois must be (M, 5), it has shape ", text(shape_of(rois)));
  check_pair("output_size", output_size, 1);
  // float32 holds it; false where it is not a number
  STD_TORCH_CHECK(spatial_scale >= 1e-30 && spatial_scale <= 1e30,
                  "spatial_scale must be a number from 1e-30 to 1e30, it is ",
                  spatial_scale);
  STD_TORCH_CHECK(sampling_ratio <= kMaxGeometry,
                  "sampling_ratio must be at most ", kMaxGeometry,
                  ", it is ", sampling_ratio);
  const RoIAlignShape shape = {x.size(0),
                               x.size(1),
                               x.size(2),
                               x.size(3),
                               rois.size(0),
                               output_size[0],
                               output_size[1],
                               float(spatial_scale),
                               sampling_ratio,
                               aligned};
  const Tensor boxes = as_contiguous(rois);
  check_image_numbers(floats(boxes), shape.num_regions, shape.batch);
  const bool has_pixels_together = x.size(1) == 1 || x.stride(1) == 1;
  const Tensor source =
      has_pixels_together
          ? x
          : torch::stable::contiguous(x, MemoryFormat::ChannelsLast);
  Tensor out = new_floats(
      {shape.num_regions, shape.channels, shape.bins_h, shape.bins_w});
  mmcompress::roi_align(shape, image_of(source), floats(boxes), floats(out),
                        mmcompress::best_kernels(), torch_threads());
  return out;
}

Tensor lsq_fake_quantize(const Tensor& x, const Tensor& scale,
                         const MaybeTensor& beta,
                         const MaybeTensor& zero_point,
                         std::optional<int64_t> axis, int64_t low,
                         int64_t high, double factor,
                         const std::string& mask) {
  const FakeQuantizeArguments args(x, scale, beta, zero_point,
                                   {axis, low, high, factor, mask});
  const Dense values(x);
  if (x.numel() > 0)
    mmcompress::fake_quantize(quantized_shape(values.source, axis),
                              args.range(), floats(values.source),
                              floats(values.result),
                              mmcompress::best_kernels(), torch_threads());
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
  const Dense values(x);
  const Tensor dy_values = laid_out_as(values.source, dy);
  const int64_t num = scale.numel();
  Tensor d_scale = new_floats({num});
  Tensor d_beta = new_floats({beta ? num : 0});
  Tensor d_zero = new_floats({zero_point ? num : 0});
  std::vector<double> sums(num), outside(num);
  if (x.numel() > 0)
    mmcompress::fake_quantize_backward(
        quantized_shape(values.source, axis), args.range(),
        floats(values.source), floats(dy_values), floats(values.result),
        sums.data(), outside.data(), mmcompress::best_kernels(),
        torch_threads());
  for (int64_t i = 0; i < num; ++i) {
    floats(d_scale)[i] = float(sums[i] * factor);
    if (beta) floats(d_beta)[i] = float(outside[i] * factor);
    if (zero_point)
      floats(d_zero)[i] =
          float(outside[i] * args.scale.data<float>()[i] * -factor);
  }
  return {values.result, d_scale, d_beta, d_zero};
}

std::string json_list(const std::vector<std::string>& names) {
  std::string joined;
  for (const std::string& name : names)
    joined += (joined.empty() ? "\"" : ", \"") + name + "\"";
  return "[" + joined + "]";
}

// As JSON: kernels in this build, those that this CPU can run, the one in use.
std::string build_info() {
  return "{\"built\": " + json_list(mmcompress::built_kernels()) +
         ", \"runnable\": " + json_list(mmcompress::runnable_kernels()) +
         ", \"isa\": \"" + mmcompress::best_kernels().name + "\"}";
}

#define MMCOMPRESS_CONV                                 \
  "int[] weight_shape, int[2] stride, int[2] padding, " \
  "int[2] dilation, int groups=1, int pad_value=0"

#define MMCOMPRESS_FAKE_QUANTIZE                               \
  "Tensor scale, Tensor? beta, Tensor? zero_point, int? axis, " \
  "int low, int high, float factor, str mask"

STABLE_TORCH_LIBRARY(mmcompress, m) {
  m.def(
      "binary_pack(Tensor x, Tensor? threshold=None, Tensor? flip=None) -> "
      "Tensor");
  m.def("binary_unpack(Tensor bits, int channels) -> Tensor");
  m.def(
      "binary_prepack(Tensor weight_bits, int[] weight_shape, int groups=1, "
      "str isa='') -> Tensor");
  m.def("binary_conv2d(Tensor bits, Tensor blob, " MMCOMPRESS_CONV
        ") -> Tensor");
  m.def(
      "binary_conv2d_bits(Tensor bits, Tensor blob, Tensor limit, Tensor "
      "flip, " MMCOMPRESS_CONV ") -> Tensor");
  m.def(
      "binary_conv2d_fused(Tensor x, Tensor blob, Tensor scale, Tensor shift, "
      "Tensor? threshold, Tensor? flip, Tensor? residual, Tensor? pre, "
      "Tensor? slope, Tensor? post, Tensor? next_threshold, Tensor? "
      "next_flip, " MMCOMPRESS_CONV
      ", bool bits_only=False) -> (Tensor, Tensor)");
  m.def(
      "roi_align(Tensor x, Tensor rois, int[2] output_size, float "
      "spatial_scale, int sampling_ratio, bool aligned) -> Tensor");
  m.def("lsq_fake_quantize(Tensor x, " MMCOMPRESS_FAKE_QUANTIZE
        ") -> Tensor");
  m.def("lsq_fake_quantize_backward(Tensor dy, Tensor x, "
        MMCOMPRESS_FAKE_QUANTIZE ") -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("build_info() -> str");
}

STABLE_TORCH_LIBRARY_IMPL(mmcompress, CPU, m) {
  m.impl("binary_pack", TORCH_BOX(&binary_pack));
  m.impl("binary_unpack", TORCH_BOX(&binary_unpack));
  m.impl("binary_prepack", TORCH_BOX(&binary_prepack));
  m.impl("binary_conv2d", TORCH_BOX(&binary_conv2d));
  m.impl("binary_conv2d_bits", TORCH_BOX(&binary_conv2d_bits));
  m.impl("binary_conv2d_fused", TORCH_BOX(&binary_conv2d_fused));
  m.impl("roi_align", TORCH_BOX(&roi_align));
  m.impl("lsq_fake_quantize", TORCH_BOX(&lsq_fake_quantize));
  m.impl("lsq_fake_quantize_backward",
         TORCH_BOX(&lsq_fake_quantize_backward));
}

STABLE_TORCH_LIBRARY_IMPL(mmcompress, CompositeExplicitAutograd, m) {
  m.impl("build_info", TORCH_BOX(&build_info));
}

}  // namespace
