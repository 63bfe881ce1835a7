// What operators for ONNX Runtime share: constants and attributes of a node,
// tensors, threads, and the description of an operator.
//
// Tensors of ONNX Runtime are contiguous. Images are (N, C, H, W), or, where a
// node says so, (N, H, W, C), which is what these operators give.
#pragma once

#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../cpu/parallel.h"
#include "ort_api.h"

namespace mmcompress {
namespace ort {

using Ints = std::vector<int64_t>;

// What was wrong with a node, or with what it got, as a sentence.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void require(bool is_met, const std::string& otherwise) {
  if (!is_met) throw Error(otherwise);
}

inline std::string text(const Ints& values) {
  std::string joined;
  for (int64_t value : values)
    joined += (joined.empty() ? "" : ", ") + std::to_string(value);
  return "(" + joined + ")";
}

inline void check(const OrtApi& api, OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  throw Error(message);
}

// A tensor that ONNX Runtime holds.
struct TensorView {
  OrtElementType type = kOrtAnyType;
  Ints shape;
  void* data = nullptr;

  TensorView() = default;
  TensorView(const OrtApi& api, const OrtValue* value) {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api, api.GetTensorTypeAndShape(value, &info));
    size_t rank = 0;
    check(api, api.GetTensorElementType(info, &type));
    check(api, api.GetDimensionsCount(info, &rank));
    shape.resize(rank);
    check(api, api.GetDimensions(info, shape.data(), rank));
    api.ReleaseTensorTypeAndShapeInfo(info);
    check(api, api.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  }

  bool exists() const { return type != kOrtAnyType; }
  const float* floats() const { return static_cast<const float*>(data); }
  const uint8_t* bytes() const { return static_cast<const uint8_t*>(data); }
};

// Elements of a constant, copied; or none.
template <typename T>
class Constant {
 public:
  Constant() = default;
  explicit Constant(const TensorView& source) {
    int64_t size = 1;
    for (int64_t n : source.shape) size *= n;
    const T* first = static_cast<const T*>(source.data);
    values_.assign(first, first + size);
  }

  bool exists() const { return !values_.empty(); }
  const T* data() const { return exists() ? values_.data() : nullptr; }

 private:
  std::vector<T> values_;
};

// Where the standard's vector would pack bits.
struct Flags : Constant<uint8_t> {
  using Constant<uint8_t>::Constant;
  const bool* data() const {
    return reinterpret_cast<const bool*>(Constant<uint8_t>::data());
  }
};

// A node of the graph, while its kernel is made.
class Node {
 public:
  Node(const OrtApi& api, const OrtKernelInfo* info) : api_(api), info_(info) {
    check(api, api.KernelInfo_GetInputCount(info, &num_inputs_));
  }

  const OrtApi& api() const { return api_; }

  int64_t integer(const char* name) const {
    int64_t value = 0;
    check(api_, api_.KernelInfoGetAttribute_int64(info_, name, &value));
    return value;
  }

  float number(const char* name) const {
    float value = 0;
    check(api_, api_.KernelInfoGetAttribute_float(info_, name, &value));
    return value;
  }

  // Two numbers from `least` to 4096, as in ../arguments.h.
  Ints pair(const char* name, int64_t least) const {
    size_t size = 0;
    check(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, nullptr,
                                                       &size));
    Ints values(size);
    check(api_, api_.KernelInfoGetAttributeArray_int64(
                    info_, name, values.data(), &size));
    const auto is_allowed = [least](int64_t v) {
      return v >= least && v <= 4096;
    };
    require(size == 2 && is_allowed(values[0]) && is_allowed(values[1]),
            std::string(name) + " must be two numbers from " +
                std::to_string(least) + " to 4096, it is " + text(values));
    return values;
  }

  bool has_input(size_t index) const {
    if (index >= num_inputs_) return false;
    // what is left out has no name; its end counts
    size_t size = 0;
    check(api_, api_.KernelInfo_GetInputName(info_, index, nullptr, &size));
    return size > 1;
  }

  TensorView constant(size_t index, const char* name,
                      OrtElementType type) const {
    int is_constant = 0;
    const OrtValue* value = nullptr;
    check(api_, api_.KernelInfoGetConstantInput_tensor(
                    info_, index, &is_constant, &value));
    require(is_constant && value != nullptr,
            std::string(name) + " must be a constant");
    const TensorView view(api_, value);
    require(view.type == type,
            std::string(name) + " has elements of type " +
                std::to_string(view.type) + ", not " + std::to_string(type));
    return view;
  }

  // One element per channel, or nothing where the input is left out.
  template <typename Vector>
  Vector per_channel(size_t index, const char* name, OrtElementType type,
                     int64_t channels) const {
    if (!has_input(index)) return Vector();
    const TensorView view = constant(index, name, type);
    require(view.shape == Ints{channels},
            std::string(name) + " must have shape " + text({channels}) +
                ", it has " + text(view.shape));
    return Vector(view);
  }

 private:
  const OrtApi& api_;
  const OrtKernelInfo* info_;
  size_t num_inputs_ = 0;
};

// A call of a kernel.
class Call {
 public:
  Call(const OrtApi& api, OrtKernelContext* context)
      : api_(api), context_(context) {
    check(api, api.KernelContext_GetInputCount(context, &num_inputs_));
  }

  // Nothing where the input is left out.
  TensorView input(size_t index) const {
    const OrtValue* value = nullptr;
    if (index < num_inputs_)
      check(api_, api_.KernelContext_GetInput(context_, index, &value));
    return value == nullptr ? TensorView() : TensorView(api_, value);
  }

  // Null where the output is left out.
  void* output(size_t index, const Ints& shape) const {
    OrtValue* value = nullptr;
    check(api_, api_.KernelContext_GetOutput(context_, index, shape.data(),
                                             shape.size(), &value));
    void* data = nullptr;
    if (value != nullptr)
      check(api_, api_.GetTensorMutableData(value, &data));
    return data;
  }

  // Those of the session. It doesn't tell how many they are: with fewer than
  // the machine has processors, a thread does several of the parts.
  Parallel threads() const {
    static const int64_t processors =
        std::max(1u, std::thread::hardware_concurrency());
    Parallel parallel;
    parallel.num_threads = processors;
    parallel.run = [this](int64_t size,
                          const std::function<void(int64_t, int64_t)>& body) {
      Parts parts;
      parts.body = &body;
      check(api_, api_.KernelContext_ParallelFor(context_, &Parts::run,
                                                 size_t(size), 0, &parts));
      if (parts.has_failed) throw std::runtime_error(parts.failure);
    };
    return parallel;
  }

 private:
  // No exception may pass through ONNX Runtime.
  struct Parts {
    const std::function<void(int64_t, int64_t)>* body = nullptr;
    // its words: an exception_ptr is not as portable as the wheels are
    std::string failure;
    std::atomic<bool> has_failed{false};

    static void run(void* data, size_t i) {
      Parts& self = *static_cast<Parts*>(data);
      try {
        (*self.body)(int64_t(i), int64_t(i) + 1);
      } catch (const std::exception& error) {
        if (!self.has_failed.exchange(true)) self.failure = error.what();
      } catch (...) {
        if (!self.has_failed.exchange(true)) self.failure = "unknown failure";
      }
    }
  };

  const OrtApi& api_;
  OrtKernelContext* context_;
  size_t num_inputs_ = 0;
};

struct Slot {
  OrtElementType type;
  OrtCharacteristic characteristic = kOrtRequired;
};
using Slots = std::vector<Slot>;

// Calls `run`; what it throws becomes a status.
template <typename Run>
OrtStatus* guarded(const OrtApi& api, const char* name, const Run& run) {
  try {
    run();
    return nullptr;
  } catch (const std::exception& error) {
    const std::string message =
        std::string("mmcompress ") + name + ": " + error.what();
    return api.CreateStatus(kOrtInvalidArgument, message.c_str());
  }
}

// Describes an operator to ONNX Runtime. `Kernel` has `name()`, `inputs()` and
// `outputs()`; it is made of a Node, and `run` takes a Call.
template <typename Kernel>
const OrtCustomOp* describe() {
  struct Held {
    const OrtApi& api;
    Kernel kernel;
  };
  static const Slots inputs = Kernel::inputs();
  static const Slots outputs = Kernel::outputs();
  static const OrtCustomOp op = [] {
    using Op = const OrtCustomOp*;
    OrtCustomOp made = {};
    made.version = kOrtCustomOpVersion;
    made.GetName = [](Op) { return Kernel::name(); };
    made.GetExecutionProviderType = [](Op) { return "CPUExecutionProvider"; };
    made.GetInputType = [](Op, size_t i) { return inputs[i].type; };
    made.GetInputTypeCount = [](Op) { return inputs.size(); };
    made.GetOutputType = [](Op, size_t i) { return outputs[i].type; };
    made.GetOutputTypeCount = [](Op) { return outputs.size(); };
    made.GetInputCharacteristic = [](Op, size_t i) {
      return inputs[i].characteristic;
    };
    made.GetOutputCharacteristic = [](Op, size_t i) {
      return outputs[i].characteristic;
    };
    made.GetInputMemoryType = [](Op, size_t) { return 0; };
    made.CreateKernel = [](Op, const OrtApi* api, const OrtKernelInfo* info,
                           void** kernel) {
      return guarded(*api, Kernel::name(), [&] {
        *kernel = new Held{*api, Kernel(Node(*api, info))};
      });
    };
    made.KernelCompute = [](void* kernel, OrtKernelContext* context) {
      const Held& held = *static_cast<const Held*>(kernel);
      return guarded(held.api, Kernel::name(), [&] {
        held.kernel.run(Call(held.api, context));
      });
    };
    made.KernelDestroy = [](void* kernel) {
      delete static_cast<Held*>(kernel);
    };
    return made;
  }();
  return &op;
}

}  // namespace ort
}  // namespace mmcompress
