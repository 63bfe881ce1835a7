// The operators of PyTorch for CPU tensors: checks of the arguments,
// allocation, and calls of the kernels. Uses only torch's stable ABI, so that
// one file serves several versions of torch and Python.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "cpu/binary_conv.h"
#include "cpu/roi_align.h"

namespace {

using mmcompress::Blob;
using mmcompress::BlobLayout;
using mmcompress::ConvInput;
using mmcompress::ConvShape;
using mmcompress::FloatImage;
using mmcompress::FloatOutput;
using mmcompress::Kernels;
using mmcompress::packed_bytes;
using mmcompress::Parallel;
using mmcompress::RoIAlignShape;
using mmcompress::Thresholds;
using mmcompress::WeightShape;
using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;
using Ints = std::vector<int64_t>;

const char* name_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Bool:
      return "bool";
    default:
      return torch::headeronly::toString(type);
  }
}

std::string text(const Ints& values) {
  std::string joined;
  for (int64_t value : values)
    joined += (joined.empty() ? "" : ", ") + std::to_string(value);
  return "(" + joined + ")";
}

Ints shape_of(const Tensor& x) {
  return Ints(x.sizes().begin(), x.sizes().end());
}

void check_type(const char* name, const Tensor& x, ScalarType type) {
  STD_TORCH_CHECK(x.is_cpu(), name, " is not on the CPU like the others");
  STD_TORCH_CHECK(x.scalar_type() == type, name, " must be ", name_of(type),
                  ", it is ", name_of(x.scalar_type()));
}

void check_shape(const char* name, const Tensor& x, const Ints& shape) {
  STD_TORCH_CHECK(shape_of(x) == shape, name, " must have shape ", text(shape),
                  ", it has ", text(shape_of(x)));
}

void check_image(const char* name, const Tensor& x) {
  check_type(name, x, ScalarType::Float);
  STD_TORCH_CHECK(x.dim() == 4 && x.size(1) > 0, name,
                  " must be (N, C, H, W), it has shape ", text(shape_of(x)));
}

void check_packed(const char* name, const Tensor& bits) {
  check_type(name, bits, ScalarType::Byte);
  STD_TORCH_CHECK(bits.dim() == 4, name,
                  " must be (N, H, W, bytes), it has shape ",
                  text(shape_of(bits)));
}

// A contiguous tensor that lives as long as this, or nothing.
class Vector {
 public:
  Vector() = default;
  Vector(const char* name, const MaybeTensor& x, ScalarType type,
         int64_t size) {
    if (!x) return;
    check_type(name, *x, type);
    check_shape(name, *x, {size});
    tensor_ = torch::stable::contiguous(*x);
  }

  template <typename T>
  const T* data() const {
    return tensor_ ? static_cast<const T*>(tensor_->data_ptr()) : nullptr;
  }

 private:
  MaybeTensor tensor_;
};

// Thresholds and flips, kept alive.
struct ThresholdVectors {
  Vector threshold;
  Vector flip;

  ThresholdVectors(const char* threshold_name, const MaybeTensor& threshold_,
                   const char* flip_name, const MaybeTensor& flip_,
                   int64_t channels)
      : threshold(threshold_name, threshold_, ScalarType::Float, channels),
        flip(flip_name, flip_, ScalarType::Bool, channels) {}

  Thresholds get() const {
    return {threshold.data<float>(), flip.data<bool>()};
  }
};

// Strides of dimensions of size 1 are arbitrary: give them useful values.
FloatImage image_of(const Tensor& x) {
  FloatImage image = {static_cast<const float*>(x.data_ptr()), x.stride(0),
                      x.stride(1), x.stride(2), x.stride(3)};
  if (x.size(3) == 1) image.stride_w = image.stride_h;
  if (x.size(2) == 1) image.stride_h = image.stride_w * x.size(3);
  if (x.size(1) == 1) image.stride_c = 1;
  return image;
}

Parallel torch_threads() {
  return {int64_t(torch::stable::get_num_threads()),
          [](int64_t size,
             const std::function<void(int64_t, int64_t)>& body) {
            torch::stable::parallel_for(0, size, 1, body);
          }};
}

Tensor new_bytes(const Ints& shape) {
  return torch::stable::empty(shape, ScalarType::Byte);
}

Tensor new_floats(const Ints& shape) {
  return torch::stable::empty(shape, ScalarType::Float);
}

Tensor new_image(const Ints& shape, ScalarType type) {
  return torch::stable::empty(shape, type, std::nullopt, std::nullopt,
                              std::nullopt, MemoryFormat::ChannelsLast);
}

uint8_t* bytes(const Tensor& x) { return static_cast<uint8_t*>(x.data_ptr()); }
float* floats(const Tensor& x) { return static_cast<float*>(x.data_ptr()); }

WeightShape weight_shape_of(const Ints& shape, int64_t groups) {
  STD_TORCH_CHECK(
      shape.size() == 4 && shape[0] > 0 && shape[1] > 0 && shape[2] > 0 &&
          shape[3] > 0,
      "weight_shape must be four positive numbers (K, C / groups, kh, kw), it "
      "is ",
      text(shape));
  STD_TORCH_CHECK(groups > 0 && shape[0] % groups == 0,
                  "groups must divide the ", shape[0],
                  " output channels, it is ", groups);
  // sums are int32
  STD_TORCH_CHECK(shape[1] < (int64_t(1) << 30) / shape[2] / shape[3],
                  "weight_shape ", text(shape),
                  " has more than 2**30 products per output");
  return {shape[0], shape[1], shape[2], shape[3], groups};
}

struct ConvArguments {
  const Ints& weight_shape;
  const Ints& stride;
  const Ints& padding;
  const Ints& dilation;
  int64_t groups;
  int64_t pad_value;
};

void check_pair(const char* name, const Ints& pair, int64_t least) {
  STD_TORCH_CHECK(pair.size() == 2 && pair[0] >= least && pair[1] >= least,
                  name, " must be two numbers >= ", least, ", it is ",
                  text(pair));
}

ConvShape conv_shape(int64_t batch, int64_t height, int64_t width,
                     const ConvArguments& args) {
  check_pair("stride", args.stride, 1);
  check_pair("padding", args.padding, 0);
  check_pair("dilation", args.dilation, 1);
  STD_TORCH_CHECK(args.pad_value == 0 || args.pad_value == -1,
                  "pad_value must be 0 or -1: ", args.pad_value);
  const ConvShape shape = {batch,
                           height,
                           width,
                           weight_shape_of(args.weight_shape, args.groups),
                           args.stride[0],
                           args.stride[1],
                           args.padding[0],
                           args.padding[1],
                           args.dilation[0],
                           args.dilation[1],
                           int(args.pad_value)};
  const int64_t covered_h = args.dilation[0] * (shape.weight.kernel_h - 1) + 1;
  const int64_t covered_w = args.dilation[1] * (shape.weight.kernel_w - 1) + 1;
  STD_TORCH_CHECK(height > 0 && width > 0 &&
                      covered_h <= height + 2 * args.padding[0] &&
                      covered_w <= width + 2 * args.padding[1],
                  "the kernel (", shape.weight.kernel_h, ", ",
                  shape.weight.kernel_w, ") with padding ",
                  text(args.padding), " and dilation ", text(args.dilation),
                  " does not fit into the input (", height, ", ", width, ")");
  return shape;
}

// A packed input, and the convolution that it goes through.
ConvShape packed_conv_shape(const Tensor& bits, const ConvArguments& args) {
  check_packed("bits", bits);
  const ConvShape shape =
      conv_shape(bits.size(0), bits.size(1), bits.size(2), args);
  const int64_t channels = shape.weight.channels();
  STD_TORCH_CHECK(bits.size(3) == packed_bytes(channels), "bits must have ",
                  packed_bytes(channels), " bytes per pixel for ", channels,
                  " channels, it has ", bits.size(3));
  return shape;
}

ConvShape float_conv_shape(const Tensor& x, const ConvArguments& args) {
  check_image("x", x);
  const ConvShape shape = conv_shape(x.size(0), x.size(2), x.size(3), args);
  STD_TORCH_CHECK(x.size(1) == shape.weight.channels(), "x has ", x.size(1),
                  " channels, weight_shape asks for ",
                  shape.weight.channels());
  return shape;
}

// The weights of a convolution, kept alive and aligned.
class OpenBlob {
 public:
  OpenBlob(const Tensor& blob, const WeightShape& shape)
      : tensor_(torch::stable::contiguous(blob)) {
    check_type("blob", blob, ScalarType::Byte);
    if (reinterpret_cast<uintptr_t>(bytes(tensor_)) % 64 != 0)
      tensor_ = torch::stable::clone(tensor_);
    blob_ = mmcompress::open_blob(bytes(tensor_), tensor_.numel(), shape);
  }

  const Blob& get() const { return blob_; }

 private:
  Tensor tensor_;
  Blob blob_;
};

ConvInput packed_input(const Tensor& contiguous_bits) {
  ConvInput input = {};
  input.bits = bytes(contiguous_bits);
  return input;
}

Tensor binary_pack(const Tensor& x, const MaybeTensor& threshold,
                   const MaybeTensor& flip) {
  check_image("x", x);
  const ThresholdVectors thresholds("threshold", threshold, "flip", flip,
                                    x.size(1));
  Tensor bits =
      new_bytes({x.size(0), x.size(2), x.size(3), packed_bytes(x.size(1))});
  if (bits.numel() > 0)
    mmcompress::pack(image_of(x), x.size(0), x.size(1), x.size(2), x.size(3),
                     thresholds.get(), bytes(bits), torch_threads());
  return bits;
}

Tensor binary_unpack(const Tensor& bits, int64_t channels) {
  check_packed("bits", bits);
  STD_TORCH_CHECK(channels > 0 && bits.size(3) == packed_bytes(channels),
                  "channels is ", channels, ", which does not fit the ",
                  bits.size(3), " bytes per pixel of bits");
  const Tensor source = torch::stable::contiguous(bits);
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
  const Tensor source = torch::stable::contiguous(weight_bits);
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
  const OpenBlob weights(blob, shape.weight);
  const Tensor source = torch::stable::contiguous(bits);
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
  const OpenBlob weights(blob, shape.weight);
  const Vector limits("limit", limit, ScalarType::Int, num_outputs);
  const Vector flips("flip", flip, ScalarType::Bool, num_outputs);
  const Tensor source = torch::stable::contiguous(bits);
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
  STD_TORCH_CHECK(!bits_only || wants_bits, "bits_only needs next_threshold");
  STD_TORCH_CHECK(!next_flip || wants_bits, "next_flip needs next_threshold");
  const bool is_packed = x.scalar_type() == ScalarType::Byte;
  STD_TORCH_CHECK(!is_packed || (!threshold && !flip),
                  "threshold and flip need a float x, it is packed");
  const ConvArguments args = {weight_shape, stride, padding,
                              dilation,     groups, pad_value};
  const ConvShape shape =
      is_packed ? packed_conv_shape(x, args) : float_conv_shape(x, args);
  const int64_t num_outputs = shape.weight.num_outputs;
  const OpenBlob weights(blob, shape.weight);
  const auto per_output = [&](const char* name, const MaybeTensor& vector) {
    return Vector(name, vector, ScalarType::Float, num_outputs);
  };
  const Vector scales = per_output("scale", scale);
  const Vector shifts = per_output("shift", shift);
  const Vector pres = per_output("pre", pre);
  const Vector slopes = per_output("slope", slope);
  const Vector posts = per_output("post", post);
  const ThresholdVectors now("threshold", threshold, "flip", flip,
                             shape.weight.channels());
  const ThresholdVectors next("next_threshold", next_threshold, "next_flip",
                              next_flip, num_outputs);
  const Ints y_shape = {shape.batch, num_outputs, shape.out_height(),
                        shape.out_width()};
  if (residual) {
    check_type("residual", *residual, ScalarType::Float);
    check_shape("residual", *residual, y_shape);
  }

  const Tensor source = is_packed ? torch::stable::contiguous(x) : x;
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
  check_type("rois", rois, ScalarType::Float);
  STD_TORCH_CHECK(rois.dim() == 2 && rois.size(1) == 5,
                  "rois must be (M, 5), it has shape ", text(shape_of(rois)));
  check_pair("output_size", output_size, 1);
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
  const Tensor boxes = torch::stable::contiguous(rois);
  check_image_numbers(floats(boxes), shape.num_regions, shape.batch);
  const bool has_pixels_together = x.size(1) == 1 || x.stride(1) == 1;
  const Tensor source =
      has_pixels_together
          ? x
          : torch::stable::contiguous(x, MemoryFormat::ChannelsLast);
  Tensor out = new_floats(
      {shape.num_regions, shape.channels, shape.bins_h, shape.bins_w});
  mmcompress::roi_align(shape, image_of(source), floats(boxes), floats(out),
                        torch_threads());
  return out;
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
}

STABLE_TORCH_LIBRARY_IMPL(mmcompress, CompositeExplicitAutograd, m) {
  m.impl("build_info", TORCH_BOX(&build_info));
}

}  // namespace
