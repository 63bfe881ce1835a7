// The integer operators of PyTorch for CUDA tensors, see binding_cuda.cpp.
// ../binding_integer.cpp and ../binding_codes.cpp define the schemas.
#include <optional>
#include <string>
#include <tuple>

#include "../integer_arguments.h"
#include "binding_cuda.h"
#include "integer_ops.h"

namespace {

using namespace mmcompress::binding;
using mmcompress::cuda::Activation;
using mmcompress::cuda::code_bytes;
using mmcompress::cuda::Grid;
using mmcompress::cuda::integer_blob_bytes;
using mmcompress::cuda::IntegerArguments;
using mmcompress::cuda::StridedMap;

// --- Arguments -------------------------------------------------------------

StridedMap map_of(const Tensor& image) {
  StridedMap map = {{},
                    narrow("the batch", image.size(0)),
                    narrow("the channels", image.size(1)),
                    narrow("the height", image.size(2)),
                    narrow("the width", image.size(3))};
  copy_strides(image, map.strides);
  return map;
}

// Whether its memory is what channels-last codes have. Strides of dimensions of
// size 1 are arbitrary.
bool is_channels_last(const StridedMap& map) {
  const auto fits = [&](int dimension, int size, int64_t stride) {
    return size == 1 || map.strides[dimension] == stride;
  };
  const int64_t row = int64_t(map.width) * map.channels;
  return fits(1, map.channels, 1) && fits(3, map.width, map.channels) &&
         fits(2, map.height, row) && fits(0, map.batch, map.height * row);
}

bool is_aligned(const Tensor& x) {
  return reinterpret_cast<uintptr_t>(x.data_ptr()) % kAlignment == 0;
}

// --- Codes -----------------------------------------------------------------------

void quantize(const Tensor& x, const StridedMap& map, const float* scale,
              const Grid& grid, int64_t row_bytes, const Tensor& codes,
              void* stream) {
  if (row_bytes == map.channels && is_channels_last(map) && is_aligned(x))
    check_launch(mmcompress::cuda::quantize_vector(
        floats(x), x.numel(), scale, grid, bytes(codes), stream));
  else
    check_launch(mmcompress::cuda::quantize_map(
        floats(x), map, scale, grid, narrow("the bytes of a pixel", row_bytes),
        bytes(codes), stream));
}

// Codes as convolutions read them: x itself, if it is that.
Tensor readable_codes(const Tensor& x, const StridedMap& map,
                      const float* scale, const Grid& grid, void* stream) {
  const int64_t row_bytes = code_bytes(map.channels);
  const bool is_float = x.scalar_type() == ScalarType::Float;
  if (!is_float && row_bytes == map.channels && is_channels_last(map) &&
      is_aligned(x))
    return x;
  const Tensor codes = new_tensor({map.batch, map.height, map.width, row_bytes},
                                  ScalarType::Byte, x);
  if (is_float)
    quantize(x, map, scale, grid, row_bytes, codes, stream);
  else
    check_launch(mmcompress::cuda::arrange_codes(
        bytes(x), map, narrow("the bytes of a pixel", row_bytes), bytes(codes),
        stream));
  return codes;
}

Tensor quantize_codes(const Tensor& x, const Tensor& scale, const Ints& grid,
                      bool channels_last) {
  check_type("x", x, ScalarType::Float);
  if (channels_last) check_image("x", x);
  const Vector scales = scale_of("scale", scale, x);
  const Grid levels = grid_of<Grid>("grid", grid);
  const OnDeviceOf device(x);
  if (channels_last) {
    Tensor codes = new_image(shape_of(x), ScalarType::Byte, x);
    quantize(x, map_of(x), scales.data<float>(), levels, x.size(1), codes,
             device.stream());
    return codes;
  }
  const Tensor source = aligned(x, kAlignment);
  Tensor codes = new_tensor(shape_of(x), ScalarType::Byte, x);
  check_launch(mmcompress::cuda::quantize_vector(
      floats(source), x.numel(), scales.data<float>(), levels, bytes(codes),
      device.stream()));
  return codes;
}

// --- Weights ---------------------------------------------------------------------

// 32 bits hold 255 times the weights of every output. Asks the device only for
// more products than would do in any case.
void check_sums(const ConvShape& s, int bits, const Tensor& codes,
                void* stream) {
  const int64_t products =
      int64_t(s.channels / s.groups) * s.kernel_h * s.kernel_w;
  if ((products << (bits - 1)) * 255 < int64_t(1) << 31) return;
  const Tensor largest = new_tensor({1}, ScalarType::Long, codes);
  check_launch(mmcompress::cuda::largest_weights(
      s, bits, bytes(codes), static_cast<int64_t*>(largest.data_ptr()),
      stream));
  Tensor host = torch::stable::empty({1}, ScalarType::Long);
  torch::stable::copy_(host, largest);
  const int64_t sum = 255 * *static_cast<const int64_t*>(host.data_ptr());
  STD_TORCH_CHECK(sum < int64_t(1) << 31, "an output sums up to ", sum,
                  ", which is more than 32 bits hold");
}

Tensor integer_prepack(const Tensor& codes, const Ints& weight_shape,
                       int64_t groups, int64_t bits, int64_t high,
                       const std::string& isa) {
  const ConvShape s = weight_shape_of(weight_shape, groups, code_bytes);
  check_bits(bits);
  check_high(high);
  check_type("codes", codes, ScalarType::Byte);
  const int64_t count = weight_shape[0] * weight_shape[1] * weight_shape[2] *
                        weight_shape[3];
  check_shape("codes", codes, {(count * bits + 7) / 8});
  const Kernel kernel = kernel_by_name(isa, s);
  const OnDeviceOf device(codes);
  const Tensor source = as_contiguous(codes);
  check_sums(s, int(bits), source, device.stream());
  Tensor blob =
      new_tensor({static_cast<int64_t>(integer_blob_bytes(s, kernel, bits))},
                 ScalarType::Byte, codes);
  check_launch(mmcompress::cuda::integer_prepack(
      s, kernel, int(bits), bytes(source), bytes(blob), device.stream()));
  return blob;
}

// --- Convolutions ----------------------------------------------------------------

// What all of these operators take, checked and kept alive.
class Operation {
 public:
  Operation(const Tensor& x, const ConvShape& s, const Tensor& blob,
            const Tensor& input_scale, const Tensor& scale,
            const MaybeTensor& bias, int64_t bits, const Ints& grid)
      : s_(s),
        bits_(static_cast<int>(bits)),
        grid_(grid_of<Grid>("grid", grid)),
        weights_(
            blob, s, x,
            [&](Kernel kernel) { return integer_blob_bytes(s, kernel, bits); },
            "integer_prepack for this weight_shape, groups and bits, on this "
            "device"),
        input_scale_(scale_of("input_scale", input_scale, x)),
        scale_("scale", scale, ScalarType::Float, s.out_channels, x),
        bias_("bias", bias, ScalarType::Float, s.out_channels, x) {
    arguments.zero_point = grid_.zero_point;
    arguments.input_scale = input_scale_.data<float>();
    arguments.scale = scale_.data<float>();
    arguments.bias = bias_.data<float>();
  }

  void run(const Tensor& x, const StridedMap& map, void* stream) const {
    const Tensor codes =
        readable_codes(x, map, arguments.input_scale, grid_, stream);
    check_launch(mmcompress::cuda::integer_conv(
        s_, plan_conv(s_, weights_.kernel()), bits_, bytes(codes),
        weights_.data(), arguments, stream));
  }

  IntegerArguments arguments;

 private:
  ConvShape s_;
  int bits_;
  Grid grid_;
  Weights weights_;
  Vector input_scale_, scale_, bias_;
};

ConvShape image_conv_shape(const Tensor& x, int64_t bits,
                           const ConvArguments& args) {
  check_codes_image(x);
  check_bits(bits);
  const ConvShape s =
      conv_shape(x.size(0), x.size(2), x.size(3), args, code_bytes);
  check_channels(x, s.channels);
  return s;
}

std::tuple<Tensor, Tensor> integer_conv2d(
    const Tensor& x, const Tensor& blob, const Tensor& input_scale,
    const Tensor& scale, const MaybeTensor& bias, const MaybeTensor& residual,
    const MaybeTensor& next_scale, const Ints& weight_shape, const Ints& stride,
    const Ints& padding, const Ints& dilation, int64_t groups, int64_t bits,
    const Ints& grid, const std::string& act, const Ints& next_grid) {
  STD_TORCH_CHECK(next_scale || next_grid.empty(),
                  "next_grid needs next_scale");
  const ConvShape s = image_conv_shape(
      x, bits, {weight_shape, stride, padding, dilation, groups, 0});
  Operation operation(x, s, blob, input_scale, scale, bias, bits, grid);
  IntegerArguments& a = operation.arguments;
  a.activation = activation_of<Activation>(act);
  if (residual) {
    check_like("residual", *residual, ScalarType::Float, x);
    check_shape("residual", *residual, image_shape(s));
    copy_strides(*residual, a.residual_strides);
    a.residual = floats(*residual);
  }
  const Vector next = scale_of("next_scale", next_scale, x);
  if (next_scale) a.next_grid = grid_of<Grid>("next_grid", next_grid);
  const OnDeviceOf device(x);
  Tensor y = new_image(image_shape(s), ScalarType::Float, x);
  Tensor codes = next_scale ? new_image(image_shape(s), ScalarType::Byte, x)
                            : new_tensor({0}, ScalarType::Byte, x);
  a.y = floats(y);
  a.codes = next_scale ? bytes(codes) : nullptr;
  a.next_scale = next.data<float>();
  operation.run(x, map_of(x), device.stream());
  return {y, codes};
}

Tensor integer_conv2d_codes(const Tensor& x, const Tensor& blob,
                            const Tensor& input_scale, const Tensor& scale,
                            const MaybeTensor& bias, const Tensor& next_scale,
                            const Ints& weight_shape, const Ints& stride,
                            const Ints& padding, const Ints& dilation,
                            int64_t groups, int64_t bits, const Ints& grid,
                            const std::string& act, const Ints& next_grid) {
  const ConvShape s = image_conv_shape(
      x, bits, {weight_shape, stride, padding, dilation, groups, 0});
  Operation operation(x, s, blob, input_scale, scale, bias, bits, grid);
  const Vector next = scale_of("next_scale", next_scale, x);
  IntegerArguments& a = operation.arguments;
  a.activation = activation_of<Activation>(act);
  a.next_grid = grid_of<Grid>("next_grid", next_grid);
  const OnDeviceOf device(x);
  Tensor codes = new_image(image_shape(s), ScalarType::Byte, x);
  a.codes = bytes(codes);
  a.next_scale = next.data<float>();
  a.by_reciprocal = true;
  operation.run(x, map_of(x), device.stream());
  return codes;
}

Tensor integer_linear(const Tensor& x, const Tensor& blob,
                      const Tensor& input_scale, const Tensor& scale,
                      const MaybeTensor& bias, const Ints& weight_shape,
                      int64_t bits, const Ints& grid) {
  const Ints y_shape = linear_shape(x, weight_shape);
  check_bits(bits);
  const int64_t channels = weight_shape[1];
  // a token is an image of one pixel
  const Ints one = {1, 1}, none = {0, 0};
  const ConvShape s = conv_shape(x.numel() / channels, 1, 1,
                                 {weight_shape, one, none, one, 1, 0},
                                 code_bytes);
  Operation operation(x, s, blob, input_scale, scale, bias, bits, grid);
  const OnDeviceOf device(x);
  const Tensor source = as_contiguous(x);
  Tensor y = new_tensor(y_shape, ScalarType::Float, x);
  operation.arguments.y = floats(y);
  operation.run(source, {{channels, 1, channels, channels}, s.batch, s.channels,
                         1, 1},
                device.stream());
  return y;
}

}  // namespace

#ifdef MMCOMPRESS_EMULATE
STABLE_TORCH_LIBRARY_IMPL(mmcompress_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(mmcompress, CUDA, m) {
#endif
  m.impl("quantize_codes", TORCH_BOX(&quantize_codes));
  m.impl("integer_prepack", TORCH_BOX(&integer_prepack));
  m.impl("integer_conv2d", TORCH_BOX(&integer_conv2d));
  m.impl("integer_conv2d_codes", TORCH_BOX(&integer_conv2d_codes));
  m.impl("integer_linear", TORCH_BOX(&integer_linear));
}
