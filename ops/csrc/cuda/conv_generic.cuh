// Any convolution on the CUDA cores: groups, odd widths, and the check of the
// tensor-core kernel.
#pragma once

#include "epilogues.cuh"
#include "products.cuh"

namespace mmcompress {
namespace cuda {

// Bits [first, first + 64) of a row of `bits` bits, zeros beyond `last`.
__device__ inline uint64_t bits_from(const uint64_t* row, int first, int last) {
  if (first >= last) return 0;
  const int word = first / 64;
  const int shift = first % 64;
  uint64_t bits = row[word] >> shift;
  if (shift > 0 && last > (word + 1) * 64)
    bits |= row[word + 1] << (64 - shift);
  if (last - first < 64) bits &= (uint64_t(1) << (last - first)) - 1;
  return bits;
}

// k = n - 2 * mismatches over the taps that count. The blob is the public packed
// weight.
__device__ inline int sum_channel(const SignProduct&, const Geometry& g,
                                  const uint8_t* bits,
                                  const uint8_t* weight_bits,
                                  const OutputPixel& pixel, int channel) {
  const int group_channels = g.channels / g.groups;
  const int group = channel / (g.out_channels / g.groups);
  const int first = group * group_channels;
  const int words = ceil_div(group_channels, 64);
  const uint64_t* weights = reinterpret_cast<const uint64_t*>(weight_bits) +
                            int64_t(channel) * g.kernel_h * g.kernel_w * words;
  int mismatches = 0;
  int taps = 0;
  for (int tap_y = 0; tap_y < g.kernel_h; ++tap_y) {
    for (int tap_x = 0; tap_x < g.kernel_w; ++tap_x, weights += words) {
      const int y = g.origin_y(pixel) + tap_y * g.dilation_h;
      const int x = g.origin_x(pixel) + tap_x * g.dilation_w;
      const bool inside = g.contains(y, x);
      if (!inside && !g.pad_minus_one) continue;
      ++taps;
      const uint64_t* row = reinterpret_cast<const uint64_t*>(
          inside ? g.input_at(bits, pixel.image, y, x) : nullptr);
      for (int word = 0; word < words; ++word) {
        const uint64_t activations =
            inside
                ? bits_from(row, first + word * 64, first + group_channels)
                : 0;
        mismatches += __popcll(activations ^ weights[word]);
      }
    }
  }
  return taps * group_channels - 2 * mismatches;
}

// Signed code `index` of a vector of 8 / kPacking bits each.
template <int kPacking>
__device__ inline int code_at(const uint8_t* codes, int64_t index) {
  constexpr int kBits = 8 / kPacking;
  const int place = static_cast<int>(index % kPacking) * kBits;
  const int byte = codes[index / kPacking] << (8 - kBits - place);
  return static_cast<int8_t>(byte & 0xff) >> (8 - kBits);
}

// The sum of (x - zero) w over the taps in the image. The blob is the codes,
// [tap][channel of the group][output channel]: the lanes' weights are
// neighbours.
template <int kPacking>
__device__ inline int sum_channel(const CodeProduct<kPacking>& product,
                                  const Geometry& g, const uint8_t* map,
                                  const uint8_t* codes,
                                  const OutputPixel& pixel, int channel) {
  const int group_channels = g.channels / g.groups;
  const int group = channel / (g.out_channels / g.groups);
  int sum = 0;
  for (int tap_y = 0; tap_y < g.kernel_h; ++tap_y) {
    for (int tap_x = 0; tap_x < g.kernel_w; ++tap_x) {
      const int y = g.origin_y(pixel) + tap_y * g.dilation_h;
      const int x = g.origin_x(pixel) + tap_x * g.dilation_w;
      if (!g.contains(y, x)) continue;
      const uint8_t* row =
          g.input_at(map, pixel.image, y, x) + group * group_channels;
      int64_t index =
          int64_t(tap_y * g.kernel_w + tap_x) * group_channels *
              g.out_channels +
          channel;
      for (int c = 0; c < group_channels; ++c, index += g.out_channels)
        sum += (row[c] - product.zero_point) * code_at<kPacking>(codes, index);
    }
  }
  return sum;
}

// One warp per pixel and 64 output channels.
template <class Product, class Epilogue>
__global__ void conv_generic(const Geometry g, const uint8_t* map,
                             const uint8_t* blob, const Product product,
                             const Epilogue epilogue) {
  const int lane = threadIdx.x % kWarpSize;
  const int64_t warp =
      (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / kWarpSize;
  const int64_t index = warp / g.channel_groups;
  const int group = static_cast<int>(warp % g.channel_groups);
  if (index >= g.pixels) return;  // the whole warp
  const OutputPixel pixel = g.pixel_at(static_cast<int>(index));
  const LaneChannels<Epilogue> channels(epilogue, group, lane);
  int k[2] = {0, 0};
#pragma unroll
  for (int i = 0; i < 2; ++i)
    if (channels.exists[i])
      k[i] = sum_channel(product, g, map, blob, pixel,
                         channels.first + i * kWarpSize);
  finish(epilogue, channels, index, epilogue.locate(pixel), warp, lane, k);
}

}  // namespace cuda
}  // namespace mmcompress
