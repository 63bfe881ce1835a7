// Fake quantization and its gradient: bound by the memory's bandwidth.
//
// A block of the gradient writes the sums of its values; a second kernel adds
// them up for each group. No atomics: the order is always the same.
#include <algorithm>

#include "primitives.cuh"
#include "quantize_ops.h"

namespace mmcompress {
namespace cuda {
namespace {

constexpr int kThreads = 256;
// Neighbours of a group that a block sums up.
constexpr int kChunk = 4096;
// Groups with less neighbours are summed by columns: of so many, in so many
// rows at a time, up to so many rows.
constexpr int kFewNeighbours = 32;
constexpr int kColumns = 32;
constexpr int kRows = kThreads / kColumns;
constexpr int kMostRows = 64 * kRows;

struct Codes {
  QuantizedRange range;
  float low, high, below, above;

  explicit Codes(const QuantizedRange& range_)
      : range(range_),
        low(float(range.low)),
        high(float(range.high)),
        below(beyond(range.low, -INFINITY)),
        above(beyond(range.high, INFINITY)) {}
};

// One value. Sums and products are never fused.
struct Quantized {
  float scale, beta, zero, u, code;

  __device__ Quantized(const Codes& codes, int64_t group, float x) {
    const QuantizedRange& range = codes.range;
    scale = range.scale[group];
    beta = range.beta ? range.beta[group] : 0.0f;
    zero = range.zero_point ? rintf(range.zero_point[group]) : 0.0f;
    u = __fadd_rn(x, -beta) / scale;
    code = rintf(u);
  }

  // What is not a number stays so.
  __device__ static float clamp(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
  }

  __device__ float y(const Codes& codes) const {
    // sums with 0 could change the sign of 0
    const bool has_zero = codes.range.zero_point;
    float shifted = has_zero ? __fadd_rn(code, zero) : code;
    shifted = clamp(shifted, codes.low, codes.high);
    if (has_zero) shifted = __fadd_rn(shifted, -zero);
    const float product = __fmul_rn(shifted, scale);
    return codes.range.beta ? __fadd_rn(product, beta) : product;
  }

  __device__ bool inside(const Codes& codes) const {
    const float seen = __fadd_rn(codes.range.rounded ? code : u, zero);
    return seen > codes.below && seen < codes.above;
  }

  // How y changes with the scale.
  __device__ float step(const Codes& codes, bool is_inside) const {
    const float clamped = clamp(code, __fadd_rn(codes.low, -zero),
                                __fadd_rn(codes.high, -zero));
    return __fadd_rn(clamped, is_inside ? -u : 0.0f);
  }
};

struct Sums {
  double scale = 0.0, outside = 0.0;
};

// Writes dx and adds to the sums.
__device__ void differentiate(const Codes& codes, int64_t group, float x,
                              float dy, float* dx, Sums& sums) {
  const Quantized value(codes, group, x);
  const bool is_inside = value.inside(codes);
  const float passed = is_inside ? dy : 0.0f;
  *dx = passed;
  sums.scale += __fmul_rn(value.step(codes, is_inside), dy);
  sums.outside += __fadd_rn(dy, -passed);
}

// Adds the sums of threads whose numbers differ by a multiple of `apart`, to
// those of the first ones. All threads of the block call it.
__device__ Sums add_up(Sums sums, int apart) {
  Sums* shared = reinterpret_cast<Sums*>(dynamic_shared());
  const int thread = threadIdx.x;
  shared[thread] = sums;
  __syncthreads();
  for (int distance = kThreads / 2; distance >= apart; distance /= 2) {
    if (thread < distance) {
      shared[thread].scale += shared[thread + distance].scale;
      shared[thread].outside += shared[thread + distance].outside;
    }
    __syncthreads();
  }
  return shared[thread];
}

__global__ void quantize(QuantizedShape shape, Codes codes, int64_t size,
                         const float* x, float* y) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= size) return;
  const int64_t group = i / shape.inner % shape.groups;
  y[i] = Quantized(codes, group, x[i]).y(codes);
}

// A block: a chunk of the neighbours of one group.
__global__ void differentiate_rows(QuantizedShape shape, Codes codes,
                                   int64_t parts, const float* x,
                                   const float* dy, float* dx, Sums* partial) {
  const int64_t row = blockIdx.x / parts;
  const int64_t first = blockIdx.x % parts * kChunk;
  const int64_t last = min(first + kChunk, shape.inner);
  Sums sums;
  for (int64_t i = first + threadIdx.x; i < last; i += kThreads) {
    const int64_t at = row * shape.inner + i;
    differentiate(codes, row % shape.groups, x[at], dy[at], dx + at, sums);
  }
  sums = add_up(sums, 1);
  if (threadIdx.x == 0) partial[blockIdx.x] = sums;
}

// A block: neighbouring columns of (outer, groups * inner).
__global__ void differentiate_columns(QuantizedShape shape, Codes codes,
                                      int64_t columns, int64_t blocks,
                                      const float* x, const float* dy,
                                      float* dx, Sums* partial) {
  const int64_t column =
      blockIdx.x % blocks * kColumns + threadIdx.x % kColumns;
  const int64_t first = blockIdx.x / blocks * kMostRows;
  const int64_t last = min(first + kMostRows, shape.outer);
  Sums sums;
  if (column < columns)
    for (int64_t row = first + threadIdx.x / kColumns; row < last;
         row += kRows) {
      const int64_t at = row * columns + column;
      differentiate(codes, column / shape.inner, x[at], dy[at], dx + at, sums);
    }
  sums = add_up(sums, kColumns);
  if (threadIdx.x < kColumns && column < columns)
    partial[blockIdx.x / blocks * columns + column] = sums;
}

// Where the sums of a group lie: `rows` runs of `count`.
struct Partial {
  int64_t rows, row_stride, count;
};

__global__ void finish(Codes codes, Partial partial, double factor,
                       const Sums* all, float* d_scale, float* d_beta,
                       float* d_zero) {
  const int64_t group = blockIdx.x;
  Sums sums;
  for (int64_t i = threadIdx.x; i < partial.rows * partial.count;
       i += kThreads) {
    const Sums& one = all[i / partial.count * partial.row_stride +
                          group * partial.count + i % partial.count];
    sums.scale += one.scale;
    sums.outside += one.outside;
  }
  sums = add_up(sums, 1);
  if (threadIdx.x > 0) return;
  d_scale[group] = static_cast<float>(sums.scale * factor);
  if (d_beta) d_beta[group] = static_cast<float>(sums.outside * factor);
  if (d_zero)
    d_zero[group] = static_cast<float>(
        sums.outside * codes.range.scale[group] * -factor);
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool by_columns(const QuantizedShape& shape) {
  return shape.groups > 1 && shape.inner < kFewNeighbours;
}

Partial partial_of(const QuantizedShape& shape) {
  if (by_columns(shape))
    return {ceil_div(shape.outer, kMostRows), shape.groups * shape.inner,
            shape.inner};
  const int64_t parts = ceil_div(shape.inner, kChunk);
  return {shape.outer, shape.groups * parts, parts};
}

}  // namespace

const char* fake_quantize(const QuantizedShape& shape,
                          const QuantizedRange& range, const float* x,
                          float* y, void* stream) {
  return launch(&quantize, ceil_div(shape.size(), kThreads), kThreads, 0,
                stream, shape, Codes(range), shape.size(), x, y);
}

int64_t fake_quantize_scratch(const QuantizedShape& shape) {
  const Partial partial = partial_of(shape);
  return partial.rows * partial.row_stride * 2;
}

const char* fake_quantize_backward(const QuantizedShape& shape,
                                   const QuantizedRange& range, double factor,
                                   const float* x, const float* dy, float* dx,
                                   double* scratch, float* d_scale,
                                   float* d_beta, float* d_zero,
                                   void* stream) {
  const Codes codes(range);
  const Partial partial = partial_of(shape);
  Sums* sums = reinterpret_cast<Sums*>(scratch);
  const int shared = kThreads * static_cast<int>(sizeof(Sums));
  const char* error;
  if (by_columns(shape)) {
    const int64_t columns = shape.groups * shape.inner;
    const int64_t blocks = ceil_div(columns, kColumns);
    error = launch(&differentiate_columns, partial.rows * blocks, kThreads,
                   shared, stream, shape, codes, columns, blocks, x, dy, dx,
                   sums);
  } else {
    error = launch(&differentiate_rows, partial.rows * partial.row_stride,
                   kThreads, shared, stream, shape, codes, partial.count, x,
                   dy, dx, sums);
  }
  if (error) return error;
  return launch(&finish, shape.groups, kThreads, shared, stream, codes,
                partial, factor, static_cast<const Sums*>(sums), d_scale,
                d_beta, d_zero);
}

}  // namespace cuda
}  // namespace mmcompress
