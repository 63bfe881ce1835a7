// The operators of the domain `mmcompress` for ONNX Runtime: the kernels that
// PyTorch's operators call, docs/user_guide/onnx.md. The library exports
// `RegisterCustomOps`.
#include "../cpu/roi_align.h"
#include "binary_layers.h"

namespace mmcompress {
namespace ort {
namespace {

const Slot kFloats = {kOrtFloat};
const Slot kMaybeFloats = {kOrtFloat, kOrtOptional};
const Slot kMaybeFlags = {kOrtBool, kOrtOptional};
const Slot kBits = {kOrtUint8};

template <typename T>
const char* named(const char* convolution, const char* linear) {
  return T::kIsLinear ? linear : convolution;
}

ConvInput input_of(const TensorView& x, const FloatImage& image,
                   const Thresholds& thresholds) {
  ConvInput input = {};
  if (x.type == kOrtUint8) {
    input.bits = x.bytes();
    return input;
  }
  require(x.type == kOrtFloat, "x must be float32, or bits, which are uint8");
  input.image = image;
  input.thresholds = thresholds;
  return input;
}

// Signs of floats as bits.
template <bool is_linear>
class Pack {
 public:
  static constexpr bool kIsLinear = is_linear;
  static const char* name() {
    return named<Pack>("BinaryPack", "BinaryLinearPack");
  }
  static Slots inputs() { return {kFloats, kMaybeFloats, kMaybeFlags}; }
  static Slots outputs() { return {kBits}; }

  explicit Pack(const Node& node)
      : channels_(node.integer("channels")),
        channels_last_(is_linear || node.integer("channels_last") != 0),
        threshold_(node.per_channel<Constant<float>>(1, "threshold", kOrtFloat,
                                                     channels_)),
        flip_(node.per_channel<Flags>(2, "flip", kOrtBool, channels_)) {
    require(channels_ > 0 && channels_ <= kMaxChannels,
            "channels is " + std::to_string(channels_));
  }

  void run(const Call& call) const {
    const TensorView x = call.input(0);
    const Ints& s = x.shape;
    require((is_linear ? s.size() > 0 : s.size() == 4) &&
                (channels_last_ ? s.back() : s[1]) == channels_,
            "x has shape " + text(s) + ", not " + std::to_string(channels_) +
                " channels");
    const Thresholds thresholds = thresholds_of(threshold_, flip_);
    Ints shape = s;
    if (!channels_last_) shape = {s[0], s[2], s[3], channels_};
    const int64_t pixels = num_rows(shape);
    shape.back() = packed_bytes(channels_);
    uint8_t* bits = static_cast<uint8_t*>(call.output(0, shape));
    if (pixels == 0) return;
    if (is_linear)
      pack(column_of(x), 1, channels_, pixels, 1, thresholds, bits,
           call.threads());
    else
      pack(image_of(x, channels_last_), shape[0], channels_, shape[1],
           shape[2], thresholds, bits, call.threads());
  }

 private:
  int64_t channels_;
  bool channels_last_;
  Constant<float> threshold_;
  Flags flip_;
};

// Dot products of signs, from bits.
template <typename Layer>
class Counts {
 public:
  static const char* name() {
    return named<Layer>("BinaryConv2d", "BinaryLinear");
  }
  static Slots inputs() { return {kBits, kBits}; }
  static Slots outputs() { return {{kOrtInt32}}; }

  explicit Counts(const Node& node) : layer_(node) {}

  void run(const Call& call) const {
    const TensorView x = call.input(0);
    const ConvShape shape = layer_.shape_for(x);
    void* k = call.output(
        0, layer_.output_shape(x, shape, shape.weight.num_outputs));
    conv_counts(shape, input_of(x, {}, {}), layer_.weights().blob(),
                static_cast<int32_t*>(k), call.threads());
  }

 private:
  Layer layer_;
};

// Bits to bits: (k >= limit) ^ flip.
template <typename Layer>
class Bits {
 public:
  static const char* name() {
    return named<Layer>("BinaryConv2dBits", "BinaryLinearBits");
  }
  static Slots inputs() {
    return {kBits, kBits, {kOrtInt32}, {kOrtBool}};
  }
  static Slots outputs() { return {kBits}; }

  explicit Bits(const Node& node)
      : layer_(node),
        limit_(node.per_channel<Constant<int32_t>>(
            2, "limit", kOrtInt32, layer_.weights().shape().num_outputs)),
        flip_(node.per_channel<Flags>(3, "flip", kOrtBool,
                                      layer_.weights().shape().num_outputs)) {
    require(limit_.exists() && flip_.exists(), "limit and flip are missing");
  }

  void run(const Call& call) const {
    const TensorView x = call.input(0);
    const ConvShape shape = layer_.shape_for(x);
    void* bits = call.output(
        0, layer_.output_shape(x, shape,
                               packed_bytes(shape.weight.num_outputs)));
    conv_bits(shape, input_of(x, {}, {}), layer_.weights().blob(),
              limit_.data(), flip_.data(), static_cast<uint8_t*>(bits),
              call.threads());
  }

 private:
  Layer layer_;
  Constant<int32_t> limit_;
  Flags flip_;
};

// Floats or bits to floats, bits, or both, with all that surrounds a layer.
template <typename Layer, bool bits_only>
class Fused {
 public:
  static const char* name() {
    return bits_only
               ? named<Layer>("BinaryConv2dFusedBits", "BinaryLinearFusedBits")
               : named<Layer>("BinaryConv2dFused", "BinaryLinearFused");
  }
  static Slots inputs() {
    return {{kOrtAnyType}, kBits,        kFloats,      kFloats,
            kMaybeFloats,  kMaybeFlags,  kMaybeFloats, kMaybeFloats,
            kMaybeFloats,  kMaybeFloats, kMaybeFloats, kMaybeFlags};
  }
  static Slots outputs() {
    if (bits_only) return {kBits};
    return {kFloats, {kOrtUint8, kOrtOptional}};
  }

  explicit Fused(const Node& node)
      : layer_(node),
        residual_last_(!Layer::kIsLinear &&
                       node.integer("residual_channels_last") != 0) {
    const WeightShape& w = layer_.weights().shape();
    const auto vector = [&](size_t index, const char* name, int64_t size) {
      return node.per_channel<Constant<float>>(index, name, kOrtFloat, size);
    };
    scale_ = vector(2, "scale", w.num_outputs);
    shift_ = vector(3, "shift", w.num_outputs);
    require(scale_.exists() && shift_.exists(), "scale and shift are missing");
    threshold_ = vector(4, "threshold", w.channels());
    flip_ = node.per_channel<Flags>(5, "flip", kOrtBool, w.channels());
    pre_ = vector(7, "pre", w.num_outputs);
    slope_ = vector(8, "slope", w.num_outputs);
    post_ = vector(9, "post", w.num_outputs);
    next_threshold_ = vector(10, "next_threshold", w.num_outputs);
    next_flip_ = node.per_channel<Flags>(11, "next_flip", kOrtBool,
                                         w.num_outputs);
    require(!bits_only || next_threshold_.exists(),
            "next_threshold is missing");
  }

  void run(const Call& call) const {
    const TensorView x = call.input(0);
    const ConvShape shape = layer_.shape_for(x);
    const int64_t k = shape.weight.num_outputs;
    FloatOutput output = {};
    output.scale = scale_.data();
    output.shift = shift_.data();
    output.pre = pre_.data();
    output.slope = slope_.data();
    output.post = post_.data();
    const TensorView residual = call.input(6);
    if (residual.exists())
      output.residual = layer_.residual(residual, shape, residual_last_);
    if (!bits_only)
      output.y = static_cast<float*>(
          call.output(0, layer_.output_shape(x, shape, k)));
    if (next_threshold_.exists()) {
      output.next = thresholds_of(next_threshold_, next_flip_);
      output.bits = static_cast<uint8_t*>(
          call.output(bits_only ? 0 : 1,
                      layer_.output_shape(x, shape, packed_bytes(k))));
    }
    const Thresholds now = thresholds_of(threshold_, flip_);
    conv_float(shape, input_of(x, layer_.image(x), now),
               layer_.weights().blob(), output, call.threads());
  }

 private:
  Layer layer_;
  bool residual_last_;
  Constant<float> scale_, shift_, threshold_, pre_, slope_, post_;
  Constant<float> next_threshold_;
  Flags flip_, next_flip_;
};

// Average pooling of regions, (M, C, bins, bins).
class RoIAlign {
 public:
  static const char* name() { return "RoIAlign"; }
  static Slots inputs() { return {kFloats, kFloats}; }
  static Slots outputs() { return {kFloats}; }

  explicit RoIAlign(const Node& node)
      : bins_(node.pair("output_size", 1)),
        spatial_scale_(node.number("spatial_scale")),
        sampling_ratio_(node.integer("sampling_ratio")),
        aligned_(node.integer("aligned") != 0),
        channels_last_(node.integer("channels_last") != 0) {
    // false where it is not a number
    require(spatial_scale_ >= 1e-30f && spatial_scale_ <= 1e30f,
            "spatial_scale must be a number from 1e-30 to 1e30");
    require(sampling_ratio_ <= 4096, "sampling_ratio must be at most 4096");
  }

  void run(const Call& call) const {
    const TensorView x = call.input(0);
    const TensorView rois = call.input(1);
    const Ints& s = x.shape;
    require(s.size() == 4 && s[1] > 0 && s[2] > 0 && s[3] > 0,
            "x must be an image, it has shape " + text(s));
    require(rois.shape.size() == 2 && rois.shape[1] == 5,
            "rois must be (M, 5), it has shape " + text(rois.shape));
    const bool last = channels_last_;
    const RoIAlignShape shape = {s[0],
                                 s[last ? 3 : 1],
                                 s[last ? 1 : 2],
                                 s[last ? 2 : 3],
                                 rois.shape[0],
                                 bins_[0],
                                 bins_[1],
                                 spatial_scale_,
                                 sampling_ratio_,
                                 aligned_};
    for (int64_t i = 0; i < shape.num_regions; ++i) {
      const float number = rois.floats()[5 * i];
      require(number >= 0.0f && number < float(shape.batch),
              "rois[:, 0] must be the number of an image, row " +
                  std::to_string(i) + " has " + std::to_string(number));
    }
    float* out = static_cast<float*>(call.output(
        0, {shape.num_regions, shape.channels, shape.bins_h, shape.bins_w}));
    // the kernel reads all channels of a pixel at once
    std::vector<float> copy;
    FloatImage image = image_of(x, last);
    if (!last && shape.channels > 1) {
      const int64_t c = shape.channels, pixels = shape.height * shape.width;
      copy.resize(shape.batch * c * pixels);
      for (int64_t n = 0; n < shape.batch; ++n)
        for (int64_t p = 0; p < pixels; ++p)
          for (int64_t i = 0; i < c; ++i)
            copy[(n * pixels + p) * c + i] =
                image.data[(n * c + i) * pixels + p];
      image = {copy.data(), c * pixels, 1, shape.width * c, c};
    } else if (shape.channels == 1) {
      image.stride_c = 1;
    }
    roi_align(shape, image, rois.floats(), out, best_kernels(),
              call.threads());
  }

 private:
  Ints bins_;
  float spatial_scale_;
  int64_t sampling_ratio_;
  bool aligned_;
  bool channels_last_;
};

const OrtCustomOp* const kOperators[] = {
    describe<Pack<false>>(),
    describe<Pack<true>>(),
    describe<Counts<Convolution>>(),
    describe<Counts<Linear>>(),
    describe<Bits<Convolution>>(),
    describe<Bits<Linear>>(),
    describe<Fused<Convolution, false>>(),
    describe<Fused<Convolution, true>>(),
    describe<Fused<Linear, false>>(),
    describe<Fused<Linear, true>>(),
    describe<RoIAlign>(),
};

OrtCustomOpDomain* make_domain(const OrtApi& api) {
  OrtCustomOpDomain* domain = nullptr;
  check(api, api.CreateCustomOpDomain("mmcompress", &domain));
  for (const OrtCustomOp* op : kOperators)
    check(api, api.CustomOpDomain_Add(domain, op));
  return domain;
}

}  // namespace
}  // namespace ort
}  // namespace mmcompress

// What ONNX Runtime calls when the library is registered with a session.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
  using namespace mmcompress::ort;
  const OrtApi* api = base->GetApi(mmcompress::kOrtApiVersion);
  if (api == nullptr) {
    const std::string message =
        std::string("the operators of mmcompress need ONNX Runtime 1.17, "
                    "this is ") +
        base->GetVersionString();
    return base->GetApi(1)->CreateStatus(kOrtFail, message.c_str());
  }
  return guarded(*api, "RegisterCustomOps", [&] {
    // sessions refer to it for as long as the process lives
    static OrtCustomOpDomain* const domain = make_domain(*api);
    check(*api, api->AddCustomOpDomain(options, domain));
  });
}
