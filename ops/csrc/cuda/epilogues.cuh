// What becomes of k: a count, a bit, or a float map and its bits.
//
// A warp finishes 64 output channels of one pixel at a time, two per lane: the
// map is written in whole lines, and the bits are two votes. Of an epilogue,
// `load` fetches what belongs to a channel, `locate` what belongs to a pixel,
// and `apply` stores one result and returns the bit for the next layer.
// `packed` is where the bits go, or nullptr.
#pragma once

#include "binary_ops.h"
#include "geometry.cuh"

namespace mmcompress {
namespace cuda {

struct CountEpilogue {
  int32_t* counts;
  int channels;
  uint32_t* packed = nullptr;

  CountEpilogue(int32_t* out, int out_channels)
      : counts(out), channels(out_channels) {}

  struct Channel {};
  __device__ Channel load(int) const { return {}; }
  __device__ int64_t locate(const OutputPixel&) const { return 0; }

  __device__ bool apply(const Channel&, int64_t pixel, int64_t, int channel,
                        int k) const {
    counts[pixel * channels + channel] = k;
    return false;
  }
};

struct LimitEpilogue {
  const int32_t* limit;
  const bool* flip;
  int channels;
  uint32_t* packed;

  struct Channel {
    int limit;
    bool flip;
  };
  __device__ Channel load(int channel) const {
    return {limit[channel], flip[channel]};
  }
  __device__ int64_t locate(const OutputPixel&) const { return 0; }

  __device__ bool apply(const Channel& c, int64_t, int64_t, int, int k) const {
    return (k >= c.limit) != c.flip;
  }
};

// Equal to the reference bit for bit: every operation is rounded on its own,
// and an absent term is skipped, not added as zero (-0 + 0 is +0).
struct AffineEpilogue {
  AffineArguments a;
  int channels;
  uint32_t* packed;

  AffineEpilogue(const AffineArguments& arguments, int out_channels)
      : a(arguments),
        channels(out_channels),
        packed(reinterpret_cast<uint32_t*>(arguments.out_bits)) {}

  struct Channel {
    float scale, shift, pre, slope, post, threshold;
    bool flip;
  };
  __device__ Channel load(int channel) const {
    const auto at = [&](const float* values) {
      return values ? values[channel] : 0.0f;
    };
    return {at(a.scale), at(a.shift), at(a.pre),
            at(a.slope), at(a.post),  at(a.threshold),
            a.flip ? a.flip[channel] : false};
  }

  // Offset of the pixel's first channel in the residual.
  __device__ int64_t locate(const OutputPixel& pixel) const {
    return pixel.image * a.residual_strides[0] +
           pixel.y * a.residual_strides[2] + pixel.x * a.residual_strides[3];
  }

  __device__ bool apply(const Channel& c, int64_t pixel, int64_t located,
                        int channel, int k) const {
    float y = __fadd_rn(__fmul_rn(c.scale, __int2float_rn(k)), c.shift);
    if (a.residual)
      y = __fadd_rn(y, a.residual[located + channel * a.residual_strides[1]]);
    if (a.pre) y = __fadd_rn(y, c.pre);
    if (a.slope) y = y > 0 ? y : __fmul_rn(c.slope, y);
    if (a.post) y = __fadd_rn(y, c.post);
    if (a.y) a.y[pixel * channels + channel] = y;
    return c.flip ? y < c.threshold : y > c.threshold;
  }
};

// The two channels of a lane: they lie 32 apart, so that each vote of the warp
// gives 32 neighbouring bits.
template <class Epilogue>
struct LaneChannels {
  int first;
  bool exists[2];
  typename Epilogue::Channel values[2];

  __device__ LaneChannels(const Epilogue& epilogue, int group, int lane)
      : first(group * kGroupChannels + lane) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      exists[i] = first + i * kWarpSize < epilogue.channels;
      values[i] = {};
      if (exists[i]) values[i] = epilogue.load(first + i * kWarpSize);
    }
  }
};

// Finishes a pixel's channel group; all lanes of the warp must call it.
template <class Epilogue>
__device__ inline void finish(const Epilogue& epilogue,
                              const LaneChannels<Epilogue>& channels,
                              int64_t pixel, int64_t located,
                              int64_t group_index, int lane,
                              const int (&k)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    bool bit = false;  // the tail of the last word stays 0
    if (channels.exists[i])
      bit = epilogue.apply(channels.values[i], pixel, located,
                           channels.first + i * kWarpSize, k[i]);
    if (epilogue.packed == nullptr) continue;
    const uint32_t word = __ballot_sync(0xffffffffu, bit);
    if (lane == 0) epilogue.packed[group_index * 2 + i] = word;
  }
}

}  // namespace cuda
}  // namespace mmcompress
