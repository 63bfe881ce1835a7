// The operators that make codes of CPU tensors, see binding.cpp.
#include <torch/csrc/stable/library.h>

#include "cpu/integer_kernels.h"
#include "cpu/max_pool.h"
#include "cpu/quantize.h"
#include "cpu_tensors.h"
#include "integer_arguments.h"

namespace {

using namespace mmcompress::binding;
using mmcompress::CodeGrid;
using mmcompress::CodesKernels;
using mmcompress::Grid;
using mmcompress::Planes;
using mmcompress::PoolShape;
using torch::headeronly::MemoryFormat;

const CodesKernels& kernels() {
  static const CodesKernels& chosen =
      mmcompress::codes_by_name(mmcompress::best_kernels().name);
  return chosen;
}

Grid levels_of(const Tensor& scale, const Ints& grid, const Tensor& x) {
  const float step = *scale_of("scale", scale, x).data<float>();
  const CodeGrid codes = grid_of<CodeGrid>("grid", grid);
  return {step, codes.zero_point, codes.low, codes.high};
}

// Strides of dimensions of size 1 are arbitrary.
bool is_dense(const Tensor& x, int64_t dimension, int64_t stride) {
  return x.size(dimension) == 1 || x.stride(dimension) == stride;
}

bool has_channels_last(const Tensor& x) {
  const int64_t row = x.size(3) * x.size(1);
  return is_dense(x, 1, 1) && is_dense(x, 3, x.size(1)) &&
         is_dense(x, 2, row) && is_dense(x, 0, x.size(2) * row);
}

bool has_pixels_together(const Tensor& x) {
  return is_dense(x, 3, 1) && is_dense(x, 2, x.size(3));
}

Tensor quantize_image(const Tensor& x, const Grid& grid) {
  check_image("x", x);
  const Tensor codes = new_image(shape_of(x), ScalarType::Byte);
  if (x.numel() == 0) return codes;
  if (!has_channels_last(x) && has_pixels_together(x)) {
    const Planes planes = {floats(x),           x.size(0),
                           x.size(1),           x.size(2) * x.size(3),
                           x.stride(0),         x.stride(1)};
    mmcompress::quantize_planes(planes, grid, bytes(codes), kernels(),
                                torch_threads());
    return codes;
  }
  const Tensor source =
      has_channels_last(x)
          ? x
          : torch::stable::contiguous(x, MemoryFormat::ChannelsLast);
  mmcompress::quantize_codes(floats(source), x.numel(), grid, bytes(codes),
                             kernels(), torch_threads());
  return codes;
}

Tensor quantize_codes(const Tensor& x, const Tensor& scale, const Ints& grid,
                      bool channels_last) {
  check_type("x", x, ScalarType::Float);
  const Grid levels = levels_of(scale, grid, x);
  if (channels_last) return quantize_image(x, levels);
  const Tensor codes = new_bytes(shape_of(x));
  const Tensor source = as_contiguous(x);
  mmcompress::quantize_codes(floats(source), x.numel(), levels, bytes(codes),
                             kernels(), torch_threads());
  return codes;
}

Tensor layer_norm_codes(const Tensor& x, const Tensor& weight,
                        const Tensor& bias, const Tensor& scale, double eps,
                        const Ints& grid) {
  check_type("x", x, ScalarType::Float);
  const Grid levels = levels_of(scale, grid, x);
  STD_TORCH_CHECK(x.dim() > 0 && x.size(x.dim() - 1) > 0,
                  "x must have features, it has shape ", text(shape_of(x)));
  const int64_t channels = x.size(x.dim() - 1);
  const Vector factors("weight", weight, ScalarType::Float, channels, x);
  const Vector summands("bias", bias, ScalarType::Float, channels, x);
  STD_TORCH_CHECK(eps >= 0 && eps <= 1,
                  "eps must be a number from 0 to 1, it is ", eps);
  const Tensor codes = new_bytes(shape_of(x));
  const Tensor source = as_contiguous(x);
  mmcompress::layer_norm_codes(
      {factors.data<float>(), summands.data<float>(), channels, float(eps)},
      floats(source), x.numel() / channels, levels, bytes(codes), kernels(),
      torch_threads());
  return codes;
}

void check_window(const Tensor& x, const Ints& kernel, const Ints& stride,
                  const Ints& padding) {
  check_type("x", x, ScalarType::Byte);
  STD_TORCH_CHECK(x.dim() == 4, "x must be (N, C, H, W), it has shape ",
                  text(shape_of(x)));
  check_sizes("x", x);
  check_pair("kernel_size", kernel, 1);
  check_pair("stride", stride, 1);
  check_pair("padding", padding, 0);
  STD_TORCH_CHECK(
      2 * padding[0] <= kernel[0] && 2 * padding[1] <= kernel[1], "padding ",
      text(padding), " must be at most half of the kernel ", text(kernel));
  const Ints window = {1, 1, kernel[0], kernel[1]}, one = {1, 1};
  check_fits(x.size(2), x.size(3), {window, stride, padding, one, 1, 0});
}

Tensor max_pool_codes(const Tensor& x, const Ints& kernel, const Ints& stride,
                      const Ints& padding) {
  check_window(x, kernel, stride, padding);
  const bool planes = x.is_contiguous() || !has_channels_last(x);
  PoolShape shape = {x.size(0), x.size(2), x.size(3),  x.size(1),  kernel[0],
                     kernel[1], stride[0], stride[1], padding[0], padding[1]};
  const Ints out = {x.size(0), x.size(1), shape.out_height(),
                    shape.out_width()};
  Tensor codes = planes ? new_bytes(out) : new_image(out, ScalarType::Byte);
  if (x.numel() == 0) return codes;
  if (planes) {
    shape.batch *= shape.channels;
    shape.channels = 1;
  }
  const Tensor source = planes ? as_contiguous(x) : x;
  mmcompress::max_pool(shape, bytes(source), bytes(codes), torch_threads());
  return codes;
}

STABLE_TORCH_LIBRARY_FRAGMENT(mmcompress, m) {
  m.def(
      "quantize_codes(Tensor x, Tensor scale, int[] grid, bool "
      "channels_last=False) -> Tensor");
  m.def(
      "layer_norm_codes(Tensor x, Tensor weight, Tensor bias, Tensor scale, "
      "float eps, int[] grid) -> Tensor");
  m.def(
      "max_pool_codes(Tensor x, int[2] kernel_size, int[2] stride, int[2] "
      "padding) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(mmcompress, CPU, m) {
  m.impl("quantize_codes", TORCH_BOX(&quantize_codes));
  m.impl("layer_norm_codes", TORCH_BOX(&layer_norm_codes));
  m.impl("max_pool_codes", TORCH_BOX(&max_pool_codes));
}

}  // namespace
