#include "integer_operand.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace mmcompress {
namespace {

// Pixels that are converted at once; their codes stay in the L1 cache.
constexpr int64_t kPixels = 64;
// Kernels may read so many bytes after the last pixel.
constexpr int64_t kSlack = 64;

using Bytes = std::vector<uint8_t>;

template <typename T>
T* sized(std::vector<T>& scratch, int64_t size) {
  if (int64_t(scratch.size()) < size) scratch.resize(size);
  return scratch.data();
}

// Memory that a thread keeps from call to call.
struct Workspace {
  Bytes operand;
  Bytes planes;
  Bytes codes;
  std::vector<float> values;
};

Workspace& workspace() {
  thread_local Workspace instance;
  return instance;
}

// (channels, count) with rows of `stride` -> (count, channels).
void interleave(const uint8_t* planes, int64_t stride, int64_t channels,
                int64_t count, uint8_t* out) {
  for (int64_t p = 0; p < count; ++p, out += channels)
    for (int64_t c = 0; c < channels; ++c) out[c] = planes[c * stride + p];
}

void widen(const uint8_t* codes, int64_t count, uint8_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t wide = codes[i];
    std::memcpy(out + 2 * i, &wide, sizeof wide);
  }
}

}  // namespace

IntegerOperand::IntegerOperand(const ConvShape& shape,
                               const IntegerInput& input,
                               const IntegerBlob& blob)
    : shape_(shape),
      input_(input),
      codes_(codes_by_name(blob.kernels->name)),
      grid_{input.scale, input.grid.zero_point, input.grid.low,
            input.grid.high},
      channels_(shape.weight.channels()),
      group_channels_(channels_ / blob.groups) {
  const WeightShape& w = shape.weight;
  const bool depthwise = blob.format == WeightFormat::kDepthwise;
  padded_ = depthwise ? group_channels_
                      : ceil_div(group_channels_, kQuad) * kQuad;
  element_bytes_ = blob.format == WeightFormat::kPairs ? 2 : 1;
  flip_ = blob.format == WeightFormat::kQuads ? blob.kernels->flip : 0;
  is_plain_ = padded_ == group_channels_ && element_bytes_ == 1 && flip_ == 0;
  width_ = (shape.out_width() - 1) * shape.stride_w +
           (w.kernel_w - 1) * shape.dilation_w + 1;
  left_ = std::min(shape.padding_w, width_);
  inside_ = std::max<int64_t>(0, std::min(width_ - left_, shape.width));
  const FloatImage& x = input.image;
  is_direct_ = is_plain_ && !depthwise && input.codes && x.stride_c == 1 &&
               shape.padding_h == 0 && shape.padding_w == 0;
  group_bytes_ = padded_ * element_bytes_;
  pixel_bytes_ = is_direct_ ? x.stride_w : group_bytes_ * blob.groups;
  row_bytes_ = is_direct_ ? x.stride_h : width_ * pixel_bytes_;
}

const uint8_t* IntegerOperand::make(int64_t image, int64_t top,
                                    int64_t rows) const {
  const FloatImage& x = input_.image;
  if (is_direct_)
    return input_.codes + image * x.stride_n + top * x.stride_h;
  uint8_t* operand =
      sized(workspace().operand, rows * row_bytes_ + kSlack);
  const auto halo = uint8_t(input_.grid.zero_point);
  const bool is_dense = inside_ == width_ && inside_ == shape_.width &&
                        x.stride_h == shape_.width * x.stride_w &&
                        shape_.stride_h == 1;
  const int64_t right = left_ + inside_;
  for (int64_t row = 0; row < rows;) {
    const int64_t y = top + row;
    uint8_t* out = operand + row * row_bytes_;
    if (y < 0 || y >= shape_.height) {
      fill(out, width_, halo);
      ++row;
    } else if (is_dense) {
      const int64_t run = std::min(rows - row, shape_.height - y);
      convert(image, y, run * width_, out);
      row += run;
    } else {
      if (is_read(row)) {
        fill(out, left_, halo);
        convert(image, y, inside_, out + left_ * pixel_bytes_);
        fill(out + right * pixel_bytes_, width_ - right, halo);
      }
      ++row;
    }
  }
  return operand;
}

// Whether a tap reads row `row` below the first one of a band: a 1x1 kernel of
// stride 2 skips every other one.
bool IntegerOperand::is_read(int64_t row) const {
  for (int64_t tap = 0; tap < shape_.weight.kernel_h; ++tap)
    if ((row - tap * shape_.dilation_h) % shape_.stride_h == 0) return true;
  return false;
}

void IntegerOperand::fill(uint8_t* out, int64_t count, uint8_t code) const {
  const int64_t bytes = count * pixel_bytes_;
  if (element_bytes_ == 1) {
    std::memset(out, code ^ flip_, bytes);
    return;
  }
  const uint16_t wide = code;
  for (int64_t i = 0; i < bytes; i += 2) std::memcpy(out + i, &wide, 2);
}

// Pixels at a constant distance, from the first one of an image row on.
void IntegerOperand::convert(int64_t image, int64_t y, int64_t count,
                             uint8_t* out) const {
  const FloatImage& x = input_.image;
  int64_t offset = image * x.stride_n + y * x.stride_h;
  const bool by_pixels = x.stride_c == 1 || channels_ == 1;
  for (; count > 0; count -= kPixels) {
    const int64_t now = std::min(count, kPixels);
    if (by_pixels)
      convert_pixels(offset, now, out);
    else
      convert_planes(offset, now, out);
    offset += now * x.stride_w;
    out += now * pixel_bytes_;
  }
}

void IntegerOperand::convert_pixels(int64_t offset, int64_t count,
                                    uint8_t* out) const {
  const int64_t stride = input_.image.stride_w;
  uint8_t* codes =
      is_plain_ ? out : sized(workspace().codes, kPixels * channels_);
  if (stride == channels_)
    take(offset, 1, count * channels_, codes);
  else
    for (int64_t p = 0; p < count; ++p)
      take(offset + p * stride, 1, channels_, codes + p * channels_);
  if (!is_plain_) spread(codes, count, out);
}

void IntegerOperand::convert_planes(int64_t offset, int64_t count,
                                    uint8_t* out) const {
  const FloatImage& x = input_.image;
  uint8_t* codes =
      is_plain_ ? out : sized(workspace().codes, kPixels * channels_);
  if (!input_.codes && x.stride_w == 1) {
    codes_.quantize_pixels(x.data + offset, x.stride_c, channels_, count,
                           grid_, codes);
  } else {
    uint8_t* planes = sized(workspace().planes, kPixels * channels_);
    for (int64_t c = 0; c < channels_; ++c)
      take(offset + c * x.stride_c, x.stride_w, count, planes + c * kPixels);
    interleave(planes, kPixels, channels_, count, codes);
  }
  if (!is_plain_) spread(codes, count, out);
}

// Codes of values at a constant distance.
void IntegerOperand::take(int64_t offset, int64_t stride, int64_t count,
                          uint8_t* codes) const {
  if (input_.codes) {
    const uint8_t* from = input_.codes + offset;
    if (stride == 1)
      std::memcpy(codes, from, count);
    else
      for (int64_t i = 0; i < count; ++i) codes[i] = from[i * stride];
    return;
  }
  const float* from = input_.image.data + offset;
  if (stride != 1) {
    float* values = sized(workspace().values, count);
    for (int64_t i = 0; i < count; ++i) values[i] = from[i * stride];
    from = values;
  }
  codes_.quantize(from, count, grid_, codes);
}

// (count, channels) codes -> the operand.
void IntegerOperand::spread(const uint8_t* codes, int64_t count,
                            uint8_t* out) const {
  const int64_t groups = count * (channels_ / group_channels_);
  if (group_channels_ == 3 && padded_ == kQuad && element_bytes_ == 1) {
    // images of three colours; the filler has weights of 0
    const uint32_t flip = flip_ * 0x01010101u;
    for (int64_t g = 0; g < groups; ++g, codes += 3, out += 4) {
      const uint32_t quad = codes[0] | codes[1] << 8 | codes[2] << 16;
      const uint32_t flipped = quad ^ flip;
      std::memcpy(out, &flipped, 4);
    }
    return;
  }
  if (element_bytes_ == 2) {
    // all groups at once where nothing lies between them
    const bool dense = padded_ == group_channels_;
    const int64_t run = dense ? groups * group_channels_ : group_channels_;
    for (int64_t left = dense ? 1 : groups; left > 0; --left, codes += run) {
      widen(codes, run, out);
      out += 2 * run;
      for (int64_t c = run; c < padded_; ++c, out += 2) std::memset(out, 0, 2);
    }
    return;
  }
  for (int64_t g = 0; g < groups; ++g, codes += group_channels_) {
    for (int64_t c = 0; c < group_channels_; ++c)
      out[c] = uint8_t(codes[c] ^ flip_);
    out += group_channels_;
    for (int64_t c = group_channels_; c < padded_; ++c) *out++ = 0;
  }
}

}  // namespace mmcompress
