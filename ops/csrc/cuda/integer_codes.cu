// Codes of real values, and codes in the order that convolutions read: bound by
// the memory's bandwidth.
#include "codes.cuh"
#include "geometry.cuh"

namespace mmcompress {
namespace cuda {
namespace {

constexpr int kCodesPerThread = 8;  // of the strided kernel: 8 channels

__global__ void quantize_fours(const float* x, int64_t count,
                               const float* scale, const Grid grid,
                               uint8_t* codes) {
  const int64_t first =
      4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
  if (first >= count) return;
  const float s = *scale;
  if (first + 4 > count) {
    for (int64_t i = first; i < count; ++i) codes[i] = quantize(x[i], s, grid);
    return;
  }
  const float4 values = *reinterpret_cast<const float4*>(x + first);
  *reinterpret_cast<uint32_t*>(codes + first) =
      quantize(values.x, s, grid) | quantize(values.y, s, grid) << 8 |
      quantize(values.z, s, grid) << 16 |
      uint32_t(quantize(values.w, s, grid)) << 24;
}

// What becomes of an element.
struct Quantize {
  const float* scale;
  Grid grid;

  __device__ uint8_t code(float x) const { return quantize(x, *scale, grid); }
};

struct Keep {
  __device__ uint8_t code(uint8_t x) const { return x; }
};

// A thread makes 8 channels of a pixel, and neighbouring threads serve
// neighbouring pixels: whole sectors are read whether pixels or channels are
// contiguous.
template <class T, class Make>
__global__ void make_codes(const T* x, const StridedMap map, int64_t pixels,
                           FastDivisor by_height, FastDivisor by_width,
                           int row_bytes, const Make make, uint8_t* codes) {
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int first = static_cast<int>(index / pixels) * kCodesPerThread;
  if (first >= row_bytes) return;
  const int64_t pixel = index % pixels;
  int column, y;
  const int row = by_width.divide(static_cast<int>(pixel), column);
  const int64_t image = by_height.divide(row, y);
  const T* from = x + image * map.strides[0] + y * map.strides[2] +
                  column * map.strides[3];
  uint64_t eight = 0;
#pragma unroll
  for (int i = 0; i < kCodesPerThread; ++i)
    if (first + i < map.channels)
      eight |= uint64_t(make.code(from[(first + i) * map.strides[1]]))
               << (8 * i);
  uint8_t* to = codes + pixel * row_bytes + first;
  if (row_bytes % kCodesPerThread == 0) {
    *reinterpret_cast<uint64_t*>(to) = eight;
    return;
  }
  for (int i = 0; i < kCodesPerThread && first + i < row_bytes; ++i)
    to[i] = static_cast<uint8_t>(eight >> (8 * i));
}

template <class T, class Make>
const char* run(const T* x, const StridedMap& map, int row_bytes,
                const Make& make, uint8_t* codes, void* stream) {
  const int64_t pixels = int64_t(map.batch) * map.height * map.width;
  if (pixels == 0) return nullptr;
  if (pixels > INT32_MAX) return "more than 2**31 pixels; split the batch";
  const int64_t threads = pixels * ceil_div(row_bytes, kCodesPerThread);
  return launch(&make_codes<T, Make>, blocks_for(threads), kThreads, 0, stream,
                x, map, pixels, FastDivisor(map.height), FastDivisor(map.width),
                row_bytes, make, codes);
}

}  // namespace

const char* quantize_vector(const float* x, int64_t count, const float* scale,
                            const Grid& grid, uint8_t* codes, void* stream) {
  return launch(&quantize_fours, blocks_for((count + 3) / 4), kThreads, 0,
                stream, x, count, scale, grid, codes);
}

const char* quantize_map(const float* x, const StridedMap& map,
                         const float* scale, const Grid& grid, int row_bytes,
                         uint8_t* codes, void* stream) {
  return run(x, map, row_bytes, Quantize{scale, grid}, codes, stream);
}

const char* arrange_codes(const uint8_t* x, const StridedMap& map,
                          int row_bytes, uint8_t* codes, void* stream) {
  return run(x, map, row_bytes, Keep(), codes, stream);
}

}  // namespace cuda
}  // namespace mmcompress
