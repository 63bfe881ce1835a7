// What the operators for CPU tensors share: memory, threads, arguments that
// are kept alive during a call. Uses only torch's stable ABI.
#pragma once

#include "cpu_tensors.h"

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
