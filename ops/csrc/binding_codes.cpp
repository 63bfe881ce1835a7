// The operators that make codes of float32 CPU tensors, see binding.cpp.
#include <torch/csrc/stable/library.h>

#include "cpu/integer_kernels.h"
#include "cpu/quantize.h"
#include "cpu_tensors.h"
#include "integer_arguments.h"

namespace {

using namespace mmcompress::binding;
using mmcompress::CodeGrid;
using mmcompress::CodesKernels;
using mmcompress::Grid;
using mmcompress::Planes;
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

STABLE_TORCH_LIBRARY_FRAGMENT(mmcompress, m) {
  m.def(
      "quantize_codes(Tensor x, Tensor scale, int[] grid, bool "
      "channels_last=False) -> Tensor");
  m.def(
      "layer_norm_codes(Tensor x, Tensor weight, Tensor bias, Tensor scale, "
      "float eps, int[] grid) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(mmcompress, CPU, m) {
  m.impl("quantize_codes", TORCH_BOX(&quantize_codes));
  m.impl("layer_norm_codes", TORCH_BOX(&layer_norm_codes));
}

}  // namespace
