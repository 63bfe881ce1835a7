// The operators of integers for CPU tensors, see binding.cpp.
#include <torch/csrc/stable/library.h>

#include <string>
#include <tuple>
#include <vector>

#include "cpu/integer_conv.h"
#include "cpu/integer_row.h"
#include "cpu_tensors.h"
#include "integer_arguments.h"

namespace {

using namespace mmcompress::binding;
using mmcompress::Activation;
using mmcompress::CodeGrid;
using mmcompress::ConvShape;
using mmcompress::IntegerBlob;
using mmcompress::IntegerBlobPlan;
using mmcompress::IntegerInput;
using mmcompress::IntegerKernels;
using mmcompress::IntegerOutput;
using mmcompress::IntegerWeight;
using mmcompress::Result;

float number_of(const char* name, const Tensor& scale, const Tensor& input) {
  return *scale_of(name, scale, input).data<float>();
}

IntegerWeight weight_of(const Ints& shape, int64_t groups, int64_t bits) {
  check_weight_shape(shape, groups);
  check_bits(bits);
  return {{shape[0], shape[1], shape[2], shape[3], groups}, bits};
}

Tensor integer_prepack(const Tensor& codes, const Ints& weight_shape,
                       int64_t groups, int64_t bits, int64_t high,
                       const std::string& isa) {
  const IntegerWeight weight = weight_of(weight_shape, groups, bits);
  check_high(high);
  check_type("codes", codes, ScalarType::Byte);
  // a shape of more codes than 64 bits count has no tensor
  const int64_t products = weight.shape.products();
  check_shape("codes", codes,
              {mmcompress::ceil_div(weight.shape.num_outputs * products,
                                    8 / bits)});
  const IntegerKernels& kernels =
      isa.empty() ? mmcompress::best_integer_kernels()
                  : mmcompress::integer_kernels_by_name(isa);
  const Tensor source = as_contiguous(codes);
  const std::vector<int8_t> values =
      mmcompress::unpack_codes(bytes(source), weight);
  const IntegerBlobPlan plan =
      mmcompress::plan_integer_blob(values, weight, high, kernels);
  Tensor blob = new_bytes({plan.total_bytes});
  mmcompress::integer_prepack(values, weight, plan, bytes(blob));
  return blob;
}

// Weights, kept alive and aligned.
class OpenBlob {
 public:
  OpenBlob(const Tensor& blob, const IntegerWeight& weight, const Tensor& x,
           const CodeGrid& grid)
      : tensor_(aligned(blob, 64)) {
    check_like("blob", blob, ScalarType::Byte, x);
    blob_ = mmcompress::open_integer_blob(bytes(tensor_), tensor_.numel(),
                                          weight);
    STD_TORCH_CHECK(grid.high <= blob_.high, "grid has codes up to ",
                    grid.high, ", blob was made by integer_prepack for codes "
                    "up to ", blob_.high);
  }

  const IntegerBlob& get() const { return blob_; }

 private:
  Tensor tensor_;
  IntegerBlob blob_;
};

// What all of these operators take.
struct Arguments {
  const Tensor& blob;
  const Tensor& input_scale;
  const Tensor& scale;
  const MaybeTensor& bias;
  const Ints& weight_shape;
  int64_t groups;
  int64_t bits;
  const Ints& grid;
};

// They, checked and kept alive, and the call.
class Operation {
 public:
  Operation(const Tensor& x, const Arguments& args)
      : weight_(weight_of(args.weight_shape, args.groups, args.bits)),
        grid_(grid_of<CodeGrid>("grid", args.grid)),
        blob_(args.blob, weight_, x, grid_),
        scale_("scale", args.scale, ScalarType::Float,
               weight_.shape.num_outputs, x),
        bias_("bias", args.bias, ScalarType::Float,
              weight_.shape.num_outputs, x) {
    output.input_scale = number_of("input_scale", args.input_scale, x);
    output.scale = scale_.data<float>();
    output.bias = bias_.data<float>();
  }

  const IntegerWeight& weight() const { return weight_; }

  void run(const ConvShape& shape, const Tensor& x,
           const mmcompress::FloatImage& image) const {
    const bool is_float = x.scalar_type() == ScalarType::Float;
    IntegerInput input = {};
    input.image = image;
    input.codes = is_float ? nullptr : bytes(x);
    input.scale = output.input_scale;
    input.grid = grid_;
    mmcompress::integer_conv(shape, input, blob_.get(), output,
                             torch_threads());
  }

  // Contiguous rows, which are few.
  bool takes_rows(int64_t count) const {
    return count <= mmcompress::kMostRows && blob_.get().rows;
  }
  void run_rows(int64_t count, const Tensor& x, float* y) const {
    const bool is_float = x.scalar_type() == ScalarType::Float;
    const mmcompress::Rows rows = {
        is_float ? nullptr : bytes(x), is_float ? floats(x) : nullptr, count,
        {output.input_scale, grid_.zero_point, grid_.low, grid_.high}};
    mmcompress::linear_rows(
        {weight_.shape.num_outputs, weight_.shape.channels(),
         int(weight_.bits)},
        blob_.get().rows, rows, output.scale, output.bias, y,
        mmcompress::codes_by_name(blob_.get().kernels->name),
        torch_threads());
  }

  IntegerOutput output = {};

 private:
  IntegerWeight weight_;
  CodeGrid grid_;
  OpenBlob blob_;
  Vector scale_, bias_;
};

ConvShape conv_shape(const Tensor& x, const IntegerWeight& weight,
                     const ConvArguments& args) {
  check_codes_image(x);
  check_channels(x, weight.shape.channels());
  check_pair("stride", args.stride, 1);
  check_pair("padding", args.padding, 0);
  check_pair("dilation", args.dilation, 1);
  check_fits(x.size(2), x.size(3), args);
  return {x.size(0),
          x.size(2),
          x.size(3),
          weight.shape,
          args.stride[0],
          args.stride[1],
          args.padding[0],
          args.padding[1],
          args.dilation[0],
          args.dilation[1],
          0};
}

Ints output_shape(const ConvShape& shape) {
  return {shape.batch, shape.weight.num_outputs, shape.out_height(),
          shape.out_width()};
}

std::tuple<Tensor, Tensor> integer_conv2d(
    const Tensor& x, const Tensor& blob, const Tensor& input_scale,
    const Tensor& scale, const MaybeTensor& bias, const MaybeTensor& residual,
    const MaybeTensor& next_scale, const Ints& weight_shape,
    const Ints& stride, const Ints& padding, const Ints& dilation,
    int64_t groups, int64_t bits, const Ints& grid, const std::string& act,
    const Ints& next_grid) {
  STD_TORCH_CHECK(next_scale || next_grid.empty(),
                  "next_grid needs next_scale");
  Operation operation(x, {blob, input_scale, scale, bias, weight_shape,
                          groups, bits, grid});
  const ConvShape shape =
      conv_shape(x, operation.weight(),
                 {weight_shape, stride, padding, dilation, groups, 0});
  const Ints y_shape = output_shape(shape);
  IntegerOutput& output = operation.output;
  output.act = activation_of<Activation>(act);
  if (residual) {
    check_like("residual", *residual, ScalarType::Float, x);
    check_shape("residual", *residual, y_shape);
    output.residual = image_of(*residual);
  }
  if (next_scale) {
    output.next_scale = number_of("next_scale", *next_scale, x);
    output.grid = grid_of<CodeGrid>("next_grid", next_grid);
    output.result = Result::kFloatsAndCodes;
  }
  Tensor y = new_image(y_shape, ScalarType::Float);
  Tensor codes = next_scale ? new_image(y_shape, ScalarType::Byte)
                            : new_bytes({0});
  output.y = floats(y);
  output.codes = next_scale ? bytes(codes) : nullptr;
  operation.run(shape, x, image_of(x));
  return {y, codes};
}

Tensor integer_conv2d_codes(
    const Tensor& x, const Tensor& blob, const Tensor& input_scale,
    const Tensor& scale, const MaybeTensor& bias, const Tensor& next_scale,
    const Ints& weight_shape, const Ints& stride, const Ints& padding,
    const Ints& dilation, int64_t groups, int64_t bits, const Ints& grid,
    const std::string& act, const Ints& next_grid) {
  Operation operation(x, {blob, input_scale, scale, bias, weight_shape,
                          groups, bits, grid});
  const ConvShape shape =
      conv_shape(x, operation.weight(),
                 {weight_shape, stride, padding, dilation, groups, 0});
  IntegerOutput& output = operation.output;
  output.act = activation_of<Activation>(act);
  output.next_scale = 1.0f / number_of("next_scale", next_scale, x);
  output.result = Result::kCodes;
  output.grid = grid_of<CodeGrid>("next_grid", next_grid);
  Tensor codes = new_image(output_shape(shape), ScalarType::Byte);
  output.codes = bytes(codes);
  operation.run(shape, x, image_of(x));
  return codes;
}

Tensor integer_linear(const Tensor& x, const Tensor& blob,
                      const Tensor& input_scale, const Tensor& scale,
                      const MaybeTensor& bias, const Ints& weight_shape,
                      int64_t bits, const Ints& grid) {
  const Ints y_shape = linear_shape(x, weight_shape);
  Operation operation(
      x, {blob, input_scale, scale, bias, weight_shape, 1, bits, grid});
  Tensor y = new_floats(y_shape);
  if (x.numel() == 0) return y;
  const Tensor source = as_contiguous(x);
  const int64_t channels = weight_shape[1];
  const int64_t rows = x.numel() / channels;
  if (operation.takes_rows(rows)) {
    operation.run_rows(rows, source, floats(y));
    return y;
  }
  const ConvShape shape = {1, rows, 1, operation.weight().shape,
                           1, 1,    0, 0, 1, 1, 0};
  operation.output.y = floats(y);
  operation.run(shape, source,
                {static_cast<const float*>(source.data_ptr()), x.numel(), 1,
                 channels, channels});
  return y;
}

#define MMCOMPRESS_INTEGER_INPUT \
  "Tensor x, Tensor blob, Tensor input_scale, Tensor scale, Tensor? bias, "
#define MMCOMPRESS_INTEGER_CONV                         \
  "int[] weight_shape, int[2] stride, int[2] padding, " \
  "int[2] dilation, int groups, int bits, int[] grid, "

STABLE_TORCH_LIBRARY_FRAGMENT(mmcompress, m) {
  m.def(
      "integer_prepack(Tensor codes, int[] weight_shape, int groups, int "
      "bits, int high, str isa='') -> Tensor");
  m.def("integer_conv2d(" MMCOMPRESS_INTEGER_INPUT
        "Tensor? residual, Tensor? next_scale, " MMCOMPRESS_INTEGER_CONV
        "str act='', int[] next_grid=[]) -> (Tensor, Tensor)");
  m.def("integer_conv2d_codes(" MMCOMPRESS_INTEGER_INPUT
        "Tensor next_scale, " MMCOMPRESS_INTEGER_CONV
        "str act, int[] next_grid) -> Tensor");
  m.def("integer_linear(" MMCOMPRESS_INTEGER_INPUT
        "int[] weight_shape, int bits, int[] grid) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(mmcompress, CPU, m) {
  m.impl("integer_prepack", TORCH_BOX(&integer_prepack));
  m.impl("integer_conv2d", TORCH_BOX(&integer_conv2d));
  m.impl("integer_conv2d_codes", TORCH_BOX(&integer_conv2d_codes));
  m.impl("integer_linear", TORCH_BOX(&integer_linear));
}

}  // namespace
