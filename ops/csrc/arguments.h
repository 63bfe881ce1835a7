// Arguments of the operators of PyTorch: what the bindings for CPU and CUDA
// check of them in the same way. Uses only torch's stable ABI.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mmcompress {
namespace binding {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;
using Ints = std::vector<int64_t>;

// Largest stride, padding, dilation, output size and sampling ratio, far above
// those of any network: no sum or product of them overflows, and no call runs
// for hours because of one number.
constexpr int64_t kMaxGeometry = 4096;

// Most products that one output sums up: float32 holds all of the sums.
constexpr int64_t kMaxProducts = int64_t(1) << 24;

// Largest number of output channels, and size of a dimension of a tensor.
constexpr int64_t kMaxChannels = int64_t(1) << 24;
constexpr int64_t kMaxSize = INT32_MAX;

inline const char* name_of(ScalarType type) {
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

inline std::string text(const Ints& values) {
  std::string joined;
  for (int64_t value : values)
    joined += (joined.empty() ? "" : ", ") + std::to_string(value);
  return "(" + joined + ")";
}

inline Ints shape_of(const Tensor& x) {
  return Ints(x.sizes().begin(), x.sizes().end());
}

inline void check_type(const char* name, const Tensor& x, ScalarType type) {
  STD_TORCH_CHECK(x.scalar_type() == type, name, " must be ", name_of(type),
                  ", it is ", name_of(x.scalar_type()));
}

// `input` is the operator's first tensor.
inline void check_like(const char* name, const Tensor& x, ScalarType type,
                       const Tensor& input) {
  STD_TORCH_CHECK(x.device() == input.device(), name,
                  " is not on the device of the input");
  check_type(name, x, type);
}

inline void check_shape(const char* name, const Tensor& x, const Ints& shape) {
  STD_TORCH_CHECK(x.sizes().equals(shape), name, " must have shape ",
                  text(shape), ", it has ", text(shape_of(x)));
}

// Only tensors without elements can have larger dimensions.
inline void check_sizes(const char* name, const Tensor& x) {
  for (int64_t size : x.sizes())
    STD_TORCH_CHECK(size <= kMaxSize, name, " has a dimension larger than ",
                    kMaxSize, ": ", text(shape_of(x)));
}

inline void check_image(const char* name, const Tensor& x) {
  check_type(name, x, ScalarType::Float);
  STD_TORCH_CHECK(x.dim() == 4 && x.size(1) > 0, name,
                  " must be (N, C, H, W), it has shape ", text(shape_of(x)));
  check_sizes(name, x);
}

inline void check_packed(const char* name, const Tensor& bits) {
  check_type(name, bits, ScalarType::Byte);
  STD_TORCH_CHECK(bits.dim() == 4, name,
                  " must be (N, H, W, bytes), it has shape ",
                  text(shape_of(bits)));
  check_sizes(name, bits);
}

inline void check_pair(const char* name, const Ints& pair, int64_t least) {
  const auto is_allowed = [least](int64_t value) {
    return value >= least && value <= kMaxGeometry;
  };
  STD_TORCH_CHECK(
      pair.size() == 2 && is_allowed(pair[0]) && is_allowed(pair[1]), name,
      " must be two numbers from ", least, " to ", kMaxGeometry, ", it is ",
      text(pair));
}

inline void check_pad_value(int64_t pad_value) {
  STD_TORCH_CHECK(pad_value == 0 || pad_value == -1,
                  "pad_value must be 0 or -1: ", pad_value);
}

inline void check_weight_shape(const Ints& shape, int64_t groups) {
  STD_TORCH_CHECK(
      shape.size() == 4 && shape[0] > 0 && shape[1] > 0 && shape[2] > 0 &&
          shape[3] > 0,
      "weight_shape must be four positive numbers (K, C / groups, kh, kw), it "
      "is ",
      text(shape));
  STD_TORCH_CHECK(shape[0] <= kMaxChannels, "weight_shape ", text(shape),
                  " has more than ", kMaxChannels, " output channels");
  // divisions, because the product may not fit into 64 bits
  STD_TORCH_CHECK(shape[1] <= kMaxProducts / shape[2] / shape[3],
                  "weight_shape ", text(shape), " has more than ",
                  kMaxProducts, " products per output");
  STD_TORCH_CHECK(groups > 0 && shape[0] % groups == 0,
                  "groups must divide the ", shape[0],
                  " output channels, it is ", groups);
}

// What a convolution takes, behind its tensors.
struct ConvArguments {
  const Ints& weight_shape;
  const Ints& stride;
  const Ints& padding;
  const Ints& dilation;
  int64_t groups;
  int64_t pad_value;
};

// The arguments are checked: neither sums nor products overflow.
inline void check_fits(int64_t height, int64_t width,
                       const ConvArguments& args) {
  const Ints& kernel = args.weight_shape;
  const int64_t covered_h = args.dilation[0] * (kernel[2] - 1) + 1;
  const int64_t covered_w = args.dilation[1] * (kernel[3] - 1) + 1;
  STD_TORCH_CHECK(height > 0 && width > 0 &&
                      covered_h <= height + 2 * args.padding[0] &&
                      covered_w <= width + 2 * args.padding[1],
                  "the kernel (", kernel[2], ", ", kernel[3],
                  ") with padding ", text(args.padding), " and dilation ",
                  text(args.dilation), " does not fit into the input (",
                  height, ", ", width, ")");
}

inline void check_pixel_bytes(const Tensor& bits, int64_t wanted,
                              int64_t channels) {
  STD_TORCH_CHECK(bits.size(3) == wanted, "bits must have ", wanted,
                  " bytes per pixel for ", channels, " channels, it has ",
                  bits.size(3));
}

inline void check_channels(const Tensor& x, int64_t channels) {
  STD_TORCH_CHECK(x.size(1) == channels, "x has ", x.size(1),
                  " channels, the weight wants ", channels);
}

inline void check_unpacked_channels(const Tensor& bits, int64_t channels) {
  const int64_t most = 8 * bits.size(3);
  STD_TORCH_CHECK(bits.size(3) % 8 == 0 && channels > most - 64 &&
                      channels > 0 && channels <= most,
                  "channels is ", channels, ", which does not fit the ",
                  bits.size(3), " bytes per pixel of bits");
}

inline void check_fused(bool is_packed, const MaybeTensor& threshold,
                        const MaybeTensor& flip,
                        const MaybeTensor& next_threshold,
                        const MaybeTensor& next_flip, bool bits_only) {
  STD_TORCH_CHECK(!bits_only || next_threshold,
                  "bits_only needs next_threshold");
  STD_TORCH_CHECK(!next_flip || next_threshold,
                  "next_flip needs next_threshold");
  STD_TORCH_CHECK(!is_packed || (!threshold && !flip),
                  "threshold and flip need a float x, it is packed");
}

inline uint8_t* bytes(const Tensor& x) {
  return static_cast<uint8_t*>(x.data_ptr());
}

inline float* floats(const Tensor& x) {
  return static_cast<float*>(x.data_ptr());
}

// The tensor itself, without a call of the operator, where it is contiguous.
inline Tensor as_contiguous(const Tensor& x) {
  return x.is_contiguous() ? x : torch::stable::contiguous(x);
}

// The same, aligned to so many bytes; a copy where it isn't.
inline Tensor aligned(const Tensor& x, uintptr_t alignment) {
  const Tensor source = as_contiguous(x);
  return reinterpret_cast<uintptr_t>(source.data_ptr()) % alignment == 0
             ? source
             : torch::stable::clone(source);
}

// A vector with one element per channel, kept alive, or nothing.
class __attribute__((visibility("hidden"))) Vector {
 public:
  Vector(const char* name, const MaybeTensor& x, ScalarType type, int64_t size,
         const Tensor& input) {
    if (!x) return;
    check_like(name, *x, type, input);
    check_shape(name, *x, {size});
    tensor_ = as_contiguous(*x);
  }

  template <typename T>
  const T* data() const {
    return tensor_ ? static_cast<const T*>(tensor_->data_ptr()) : nullptr;
  }

 private:
  MaybeTensor tensor_;
};

}  // namespace binding
}  // namespace mmcompress
