// What the operators for CPU tensors share: memory, threads, arguments that
// are kept alive during a call. Uses only torch's stable ABI.
#pragma once

#include "arguments.h"
#include "cpu/binary_conv.h"

namespace mmcompress {
namespace binding {

using torch::headeronly::MemoryFormat;

// Thresholds and flips, kept alive.
struct __attribute__((visibility("hidden"))) ThresholdVectors {
  Vector threshold;
  Vector flip;

  ThresholdVectors(const char* threshold_name, const MaybeTensor& threshold_,
                   const char* flip_name, const MaybeTensor& flip_,
                   int64_t channels, const Tensor& input)
      : threshold(threshold_name, threshold_, ScalarType::Float, channels,
                  input),
        flip(flip_name, flip_, ScalarType::Bool, channels, input) {}

  Thresholds get() const {
    return {threshold.data<float>(), flip.data<bool>()};
  }
};

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
                              std::nullopt, MemoryFormat::ChannelsLast);
}

// The weights of a convolution, kept alive and aligned.
class __attribute__((visibility("hidden"))) OpenBlob {
 public:
  OpenBlob(const Tensor& blob, const WeightShape& shape, const Tensor& input)
      : tensor_(aligned(blob, 64)) {
    check_like("blob", blob, ScalarType::Byte, input);
    blob_ = mmcompress::open_blob(bytes(tensor_), tensor_.numel(), shape);
  }

  const Blob& get() const { return blob_; }

 private:
  Tensor tensor_;
  Blob blob_;
};

inline ConvInput packed_input(const Tensor& contiguous_bits) {
  ConvInput input = {};
  input.bits = bytes(contiguous_bits);
  return input;
}

}  // namespace binding
}  // namespace mmcompress
