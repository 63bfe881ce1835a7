// What the bindings for CUDA share: sizes, results, the device and its stream.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <climits>
#include <optional>
#include <string>

#include "../arguments.h"
#include "conv_shape.h"

namespace mmcompress {
namespace binding {

using cuda::ConvShape;
using cuda::Kernel;
using torch::headeronly::MemoryFormat;

// What the kernels read at once.
constexpr uintptr_t kAlignment = 16;

inline void copy_strides(const Tensor& x, int64_t (&strides)[4]) {
  for (int i = 0; i < 4; ++i) strides[i] = x.stride(i);
}

inline int narrow(const char* name, int64_t value) {
  STD_TORCH_CHECK(value <= INT_MAX / 16, name, " is too large: ", value);
  return static_cast<int>(value);
}

inline void set_pair(const char* name, const Ints& pair, int64_t least,
                     int& first, int& second) {
  check_pair(name, pair, least);
  first = narrow(name, pair[0]);
  second = narrow(name, pair[1]);
}

// The part of a ConvShape that belongs to the weight. `pixel_bytes` is the size of
// a pixel of so many channels.
inline ConvShape weight_shape_of(const Ints& shape, int64_t groups,
                                 int64_t (*pixel_bytes)(int64_t)) {
  check_weight_shape(shape, groups);
  narrow("the bytes of weight_shape's window",
         pixel_bytes(shape[1] * groups) * shape[2] * shape[3]);
  ConvShape s = {};
  s.out_channels = narrow("weight_shape[0]", shape[0]);
  s.channels = narrow("weight_shape[1] * groups", shape[1] * groups);
  s.kernel_h = narrow("weight_shape[2]", shape[2]);
  s.kernel_w = narrow("weight_shape[3]", shape[3]);
  s.groups = narrow("groups", groups);
  s.stride_h = s.stride_w = s.dilation_h = s.dilation_w = 1;
  return s;
}

inline ConvShape conv_shape(int64_t batch, int64_t height, int64_t width,
                            const ConvArguments& args,
                            int64_t (*pixel_bytes)(int64_t)) {
  ConvShape s = weight_shape_of(args.weight_shape, args.groups, pixel_bytes);
  set_pair("stride", args.stride, 1, s.stride_h, s.stride_w);
  set_pair("padding", args.padding, 0, s.pad_h, s.pad_w);
  set_pair("dilation", args.dilation, 1, s.dilation_h, s.dilation_w);
  check_pad_value(args.pad_value);
  check_fits(height, width, args);
  s.pad_minus_one = args.pad_value == -1;
  s.batch = narrow("the batch", batch);
  s.height = narrow("the height", height);
  s.width = narrow("the width", width);
  return s;
}

// --- Results -----------------------------------------------------------------

inline Tensor new_tensor(const Ints& shape, ScalarType type, const Tensor& like) {
  return torch::stable::new_empty(like, shape, type);
}

inline Tensor new_image(const Ints& shape, ScalarType type, const Tensor& like) {
  return torch::stable::empty(shape, type, std::nullopt, like.device(),
                              std::nullopt, MemoryFormat::ChannelsLast);
}

inline Ints image_shape(const ConvShape& s) {
  return {s.batch, s.out_channels, s.out_height(), s.out_width()};
}

// --- The device ----------------------------------------------------------------

#ifdef MMCOMPRESS_EMULATE
struct OnDeviceOf {
  explicit OnDeviceOf(const Tensor&) {}
  void* stream() const { return nullptr; }
};
#else
// Makes the tensor's device the current one; its stream is PyTorch's.
class __attribute__((visibility("hidden"))) OnDeviceOf {
 public:
  explicit OnDeviceOf(const Tensor& x)
      : index_(x.get_device_index()), guard_(index_) {}

  void* stream() const {
    void* stream = nullptr;
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream) == 0,
                    "no stream of CUDA device ", index_);
    return stream;
  }

 private:
  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
};
#endif

inline void check_launch(const char* error) {
  STD_TORCH_CHECK(error == nullptr, error);
}

// --- Kernels -----------------------------------------------------------------

inline Kernel kernel_by_name(const std::string& isa, const ConvShape& s) {
  if (isa.empty())
    return supports(s, Kernel::kTensorCore) ? Kernel::kTensorCore
                                            : Kernel::kGeneric;
  STD_TORCH_CHECK(isa == "tensor_core" || isa == "generic", "isa is '", isa,
                  "', CUDA has '', 'tensor_core' and 'generic'");
  const Kernel kernel =
      isa == "generic" ? Kernel::kGeneric : Kernel::kTensorCore;
  STD_TORCH_CHECK(supports(s, kernel),
                  "isa 'tensor_core' needs groups 1 and kernels up to 255, not "
                  "groups ",
                  s.groups, " and (", s.kernel_h, ", ", s.kernel_w, ")");
  return kernel;
}

// A blob, kept alive, and the kernel that its size stands for: reading a header
// would stall the device.
class __attribute__((visibility("hidden"))) Weights {
 public:
  template <class SizeOf>
  Weights(const Tensor& blob, const ConvShape& s, const Tensor& input,
          const SizeOf& size_of, const char* maker) {
    check_like("blob", blob, ScalarType::Byte, input);
    tensor_ = aligned(blob, kAlignment);
    for (Kernel kernel : {Kernel::kTensorCore, Kernel::kGeneric}) {
      if (!supports(s, kernel) || blob.dim() != 1) continue;
      if (blob.size(0) != static_cast<int64_t>(size_of(kernel))) continue;
      kernel_ = kernel;
      return;
    }
    STD_TORCH_CHECK(false, "blob was not made by ", maker);
  }

  Kernel kernel() const { return kernel_; }
  const uint8_t* data() const { return bytes(*tensor_); }

 private:
  MaybeTensor tensor_;
  Kernel kernel_;
};

}  // namespace binding
}  // namespace mmcompress
