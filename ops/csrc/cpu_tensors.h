// Tensors of PyTorch for the kernels on CPUs: views, allocation, threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <functional>

#include "arguments.h"
#include "cpu/binary_conv.h"

namespace mmcompress {
namespace binding {

// Strides of dimensions of size 1 are arbitrary: give them useful values.
inline FloatImage image_of(const Tensor& x) {
  FloatImage image = {static_cast<const float*>(x.data_ptr()), x.stride(0),
                      x.stride(1), x.stride(2), x.stride(3)};
  if (x.size(3) == 1) image.stride_w = image.stride_h;
  if (x.size(2) == 1) image.stride_h = image.stride_w * x.size(3);
  if (x.size(1) == 1) image.stride_c = 1;
  return image;
}

inline Parallel torch_threads() {
  Parallel parallel;
  parallel.num_threads = int64_t(torch::stable::get_num_threads());
  parallel.run = [](int64_t size,
                    const std::function<void(int64_t, int64_t)>& body) {
    torch::stable::parallel_for(0, size, 1, body);
  };
  return parallel;
}

inline Tensor new_bytes(const Ints& shape) {
  return torch::stable::empty(shape, ScalarType::Byte);
}

inline Tensor new_floats(const Ints& shape) {
  return torch::stable::empty(shape, ScalarType::Float);
}

inline Tensor new_image(const Ints& shape, ScalarType type) {
  return torch::stable::empty(shape, type, std::nullopt, std::nullopt,
                              std::nullopt,
                              torch::headeronly::MemoryFormat::ChannelsLast);
}

}  // namespace binding
}  // namespace mmcompress
