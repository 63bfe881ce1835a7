// Floats to bits and back: bound by the memory's bandwidth.
#include "geometry.cuh"

namespace mmcompress {
namespace cuda {
namespace {

constexpr int kWordsPerWarp = 8;  // loads of a warp that are under way at once

struct Map {
  const float* x;
  int64_t stride_n, stride_c, stride_h, stride_w;
  const float* threshold;
  const bool* flip;
  int channels;
  int64_t pixels;
  FastDivisor by_height, by_width;

  __device__ const float* pixel_at(int64_t index) const {
    int column, y;
    const int row = by_width.divide(static_cast<int>(index), column);
    const int64_t image = by_height.divide(row, y);
    return x + image * stride_n + y * stride_h + column * stride_w;
  }

  __device__ bool bit(float value, int channel) const {
    const float t = threshold ? threshold[channel] : 0.0f;
    return flip && flip[channel] ? value < t : value > t;
  }
};

// Channels contiguous: 32 lanes read 32 channels, and vote. `halves` is the
// number of such words of a pixel. A warp takes kWordsPerWarp of them.
__global__ void pack_channels(const Map map, FastDivisor by_halves,
                              uint32_t* bits) {
  const int lane = threadIdx.x % kWarpSize;
  const int64_t warp =
      (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / kWarpSize;
  const int64_t first = warp * kWordsPerWarp;
  const int64_t words = map.pixels * by_halves.divisor;
  float values[kWordsPerWarp];
  int channels[kWordsPerWarp];
#pragma unroll
  for (int i = 0; i < kWordsPerWarp; ++i) {
    channels[i] = map.channels;
    if (first + i >= words) continue;
    int half;
    const int pixel =
        by_halves.divide(static_cast<int>(first + i), half);
    channels[i] = half * 32 + lane;
    if (channels[i] < map.channels)
      values[i] = map.pixel_at(pixel)[channels[i] * map.stride_c];
  }
  uint32_t mine = 0;
#pragma unroll
  for (int i = 0; i < kWordsPerWarp; ++i) {
    const bool bit =
        channels[i] < map.channels && map.bit(values[i], channels[i]);
    const uint32_t word = __ballot_sync(0xffffffffu, bit);
    if (lane == i) mine = word;
  }
  if (lane < kWordsPerWarp && first + lane < words) bits[first + lane] = mine;
}

// Pixels contiguous, or nothing: a thread collects 64 channels of a pixel, and
// neighbouring threads serve neighbouring pixels.
__global__ void pack_pixels(const Map map, int words, uint64_t* bits) {
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= map.pixels * words) return;
  const int word = static_cast<int>(index / map.pixels);
  const int64_t pixel = index % map.pixels;
  const float* from = map.pixel_at(pixel);
  const int last = min(64, map.channels - word * 64);
  uint64_t collected = 0;
#pragma unroll 16
  for (int i = 0; i < last; ++i) {
    const int channel = word * 64 + i;
    const float value = from[channel * map.stride_c];
    collected |= uint64_t(map.bit(value, channel)) << i;
  }
  bits[pixel * words + word] = collected;
}

__global__ void unpack_channels(const uint8_t* bits, int64_t count,
                                int channels, int pixel_bytes, float* x) {
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const int64_t pixel = index / channels;
  const int channel = static_cast<int>(index % channels);
  const int bit = bits[pixel * pixel_bytes + channel / 8] >> channel % 8 & 1;
  x[index] = static_cast<float>(2 * bit - 1);
}

}  // namespace

const char* pack(const float* x, const int64_t strides[4], int batch,
                 int channels, int height, int width, const float* threshold,
                 const bool* flip, uint8_t* bits, void* stream) {
  const int64_t pixels = int64_t(batch) * height * width;
  const int words = ceil_div(channels, 64);
  if (pixels * words == 0) return nullptr;
  if (pixels * words * 2 > INT32_MAX)
    return "more than 2**31 words of 32 channels; split the batch";
  const Map map = {x,
                   strides[0],
                   strides[1],
                   strides[2],
                   strides[3],
                   threshold,
                   flip,
                   channels,
                   pixels,
                   FastDivisor(height),
                   FastDivisor(width)};
  if (strides[1] != 1)
    return launch(&pack_pixels, blocks_for(pixels * words), kThreads, 0, stream,
                  map, words, reinterpret_cast<uint64_t*>(bits));
  const int64_t warps =
      (pixels * words * 2 + kWordsPerWarp - 1) / kWordsPerWarp;
  return launch(&pack_channels, blocks_for(warps * kWarpSize), kThreads, 0,
                stream, map, FastDivisor(words * 2),
                reinterpret_cast<uint32_t*>(bits));
}

const char* unpack(const uint8_t* bits, int64_t pixels, int channels, float* x,
                   void* stream) {
  const int64_t count = pixels * channels;
  return launch(&unpack_channels, blocks_for(count), kThreads, 0, stream, bits,
                count, channels, 8 * ceil_div(channels, 64), x);
}

}  // namespace cuda
}  // namespace mmcompress
