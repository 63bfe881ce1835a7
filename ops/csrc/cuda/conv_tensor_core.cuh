// Implicit GEMM on the tensor cores (mma.sync), any map and kernel size, for
// bits and for integers: a step multiplies 32 bytes of each row, whatever they
// hold (products.cuh). Taps outside of the image are read as zeros and add
// nothing; the epilogue knows which taps count.
#pragma once

#include "epilogues.cuh"
#include "products.cuh"

namespace mmcompress {
namespace cuda {

// One row of a tile of 16 pixels on its way from the accumulators, which are
// spread over the lanes, to the epilogue, which wants a pixel's channels side by
// side. 72 words: eight lanes' pairs of columns then fall into different banks.
struct StagedRow {
  int products[kGroupChannels];
  int activations;
  uint8_t y0, y1, x0, x1;  // Window; kernels are at most 255 wide
  int64_t located;
  int index;  // of the pixel, or -1
  int unused[3];

  __device__ Window window() const { return {y0, y1, x0, x1}; }
};
static_assert(sizeof(StagedRow) == 72 * sizeof(int), "see above");

template <int kBlockChannels, int kPacking>
struct Tiling {
  static constexpr int kGroups = kBlockChannels / kGroupChannels;
  static constexpr int kWarps = kBlockPixels / kWarpPixels * kGroups;
  static constexpr int kThreads = kWarps * kWarpSize;
  static constexpr int kActivationBytes = kBlockPixels * kStageBytes;
  static constexpr int kGroupStageBytes =
      kGroupChannels * kStageBytes / kPacking;
  static constexpr int kBufferBytes =
      kActivationBytes + kGroups * kGroupStageBytes;
  static constexpr int kOriginBytes = kBlockPixels * int(sizeof(int4));
  // the results are staged where the operands were
  static constexpr int kStagedBytes =
      kWarps * kTilePixels * int(sizeof(StagedRow));
  static constexpr int kOriginsAt =
      kPipelineStages * kBufferBytes > kStagedBytes
          ? kPipelineStages * kBufferBytes
          : kStagedBytes;
  static constexpr int kSharedBytes = kOriginsAt + kOriginBytes;
  static_assert(kThreads >= kBlockPixels, "find_origins has one thread each");
};

// For each of the block's pixels: image, y and x under the first tap. Rows
// beyond the last pixel lie far outside of the image.
__device__ inline void find_origins(const Geometry& g, int first_pixel,
                                    int4* origins) {
  const int row = threadIdx.x;
  if (row >= kBlockPixels) return;
  int4 origin = {0, INT32_MIN / 2, 0, 0};
  if (first_pixel + row < g.pixels) {
    const OutputPixel pixel = g.pixel_at(first_pixel + row);
    origin = {pixel.image, g.origin_y(pixel), g.origin_x(pixel), 0};
  }
  origins[row] = origin;
}

// Starts the copies of one stage of the activations. A thread serves the same
// bytes of several rows, hence one tap.
template <class Tile, int kCopyBytes>
__device__ inline void copy_activations(const Geometry& g, const uint8_t* map,
                                        const int4* origins, int stage,
                                        uint8_t* tile) {
  constexpr int kCopiesPerRow = kStageBytes / kCopyBytes;
  constexpr int kRowsPerPass = Tile::kThreads / kCopiesPerRow;
  const int byte = threadIdx.x % kCopiesPerRow * kCopyBytes;
  const int reduction_byte = stage * kStageBytes + byte;
  int pixel_byte, tap_x;
  const int tap = g.by_pixel_bytes.divide(reduction_byte, pixel_byte);
  const int tap_y = g.by_kernel_w.divide(tap, tap_x);
#pragma unroll
  for (int i = 0; i < kBlockPixels / kRowsPerPass; ++i) {
    const int row = threadIdx.x / kCopiesPerRow + i * kRowsPerPass;
    const int4 origin = origins[row];
    const int y = origin.y + tap_y * g.dilation_h;
    const int x = origin.z + tap_x * g.dilation_w;
    const bool inside = tap_y < g.kernel_h && g.contains(y, x);
    const uint8_t* from =
        inside ? g.input_at(map, origin.x, y, x) + pixel_byte : map;
    copy_or_zero<kCopyBytes>(tile + activation_offset(row, byte), from, inside);
  }
}

// Starts the copies of one stage of the weights, which lie in order.
template <class Tile>
__device__ inline void copy_weights(const Geometry& g, const uint8_t* blob,
                                    int first_group, int stage, uint8_t* tile) {
  constexpr int kBytes = Tile::kGroups * Tile::kGroupStageBytes;
  constexpr int kBytesPerPass = Tile::kThreads * 16;
#pragma unroll
  for (int i = 0; i < ceil_div(kBytes, kBytesPerPass); ++i) {
    const int byte = threadIdx.x * 16 + i * kBytesPerPass;
    if (kBytes % kBytesPerPass > 0 && byte >= kBytes) continue;
    const int group = first_group + byte / Tile::kGroupStageBytes;
    const uint8_t* from =
        blob + (int64_t(group) * g.stages + stage) * Tile::kGroupStageBytes;
    copy_or_zero<16>(tile + byte, from + byte % Tile::kGroupStageBytes, true);
  }
}

// The sums of a warp: 32 pixels x 64 channels, and the pixels' own bits (in
// every column of a ninth tile) for products that want them.
struct Sums {
  int products[kPixelTiles][kChannelTiles][4] = {};
  int activations[kPixelTiles][4] = {};
};

template <class Product>
__device__ inline void multiply_step(const uint8_t* activations,
                                     const uint8_t* weights, int step, int lane,
                                     Sums& sums) {
  uint32_t a[kPixelTiles][4];
#pragma unroll
  for (int i = 0; i < kPixelTiles; ++i)
    load_matrices(a[i], activations + activation_offset(
                                          i * kTilePixels + matrix_row(lane),
                                          step * kStepBytes +
                                              matrix_byte(lane)));
#pragma unroll
  for (int j = 0; j < kChannelTiles; ++j) {
    const uint2 b =
        WeightWords<Product::kPacking>::load(weights, step, j, lane);
#pragma unroll
    for (int i = 0; i < kPixelTiles; ++i)
      Product::multiply(sums.products[i][j], a[i], b.x, b.y);
  }
  if constexpr (Product::kCountsActivations) {
#pragma unroll
    for (int i = 0; i < kPixelTiles; ++i)
      Product::multiply(sums.activations[i], a[i], ~0u, ~0u);
  }
}

// Sum of a channel's weights in `window`; `column` points to the channel in the
// first row of the blob's table.
__device__ inline int weights_in(const Window& window, const int32_t* column,
                                 int kernel_w, int row_length) {
  const auto entry = [&](int y, int x) {
    return column[int64_t(y * (kernel_w + 1) + x) * row_length];
  };
  return entry(window.y1, window.x1) - entry(window.y0, window.x1) -
         entry(window.y1, window.x0) + entry(window.y0, window.x0);
}

// Writes tile `i` of the warp's sums to `rows`.
template <class Epilogue>
__device__ inline void stage_tile(const Geometry& g, const Epilogue& epilogue,
                                  int first_pixel, int lane, const Sums& sums,
                                  int i, StagedRow* rows) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    StagedRow& row = rows[sum_row(lane, half)];
#pragma unroll
    for (int j = 0; j < kChannelTiles; ++j) {
      const int* pair = sums.products[i][j] + 2 * half;
      *reinterpret_cast<int2*>(row.products + j * 8 + sum_column(lane)) =
          make_int2(pair[0], pair[1]);
    }
    if (lane % 4 == 0) row.activations = sums.activations[i][2 * half];
  }
  if (lane >= kTilePixels) return;
  StagedRow& row = rows[lane];
  const int index = first_pixel + lane;
  row.index = index < g.pixels ? index : -1;
  if (row.index < 0) return;
  const OutputPixel pixel = g.pixel_at(index);
  const Window window = g.window_at(pixel);
  row.y0 = static_cast<uint8_t>(window.y0);
  row.y1 = static_cast<uint8_t>(window.y1);
  row.x0 = static_cast<uint8_t>(window.x0);
  row.x1 = static_cast<uint8_t>(window.x1);
  row.located = epilogue.locate(pixel);
}

// From the sums of a warp to its results. `rows` is the warp's own.
template <class Product, class Epilogue>
__device__ inline void finish_pixels(const Geometry& g, const int32_t* table,
                                     const Product& product,
                                     const Epilogue& epilogue, int first_pixel,
                                     int group, int lane, const Sums& sums,
                                     StagedRow* rows) {
  const int32_t* columns[2] = {table + group * kGroupChannels + lane,
                               table + group * kGroupChannels + lane +
                                   kWarpSize};
  const int all_taps = g.kernel_h * g.kernel_w;
  int all_weights[2];
#pragma unroll
  for (int i = 0; i < 2; ++i)
    all_weights[i] = weights_in({0, g.kernel_h, 0, g.kernel_w}, columns[i],
                                g.kernel_w, g.table_row());
  const LaneChannels<Epilogue> channels(epilogue, group, lane);
#pragma unroll
  for (int tile = 0; tile < kPixelTiles; ++tile) {
    __syncwarp();  // the rows of the tile before have been read
    stage_tile(g, epilogue, first_pixel + tile * kTilePixels, lane, sums, tile,
               rows);
    __syncwarp();
    for (int r = 0; r < kTilePixels && rows[r].index >= 0; ++r) {
      const StagedRow& row = rows[r];
      const Window window = row.window();
      const int taps = window.taps();
      int k[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int weights =
            taps == all_taps
                ? all_weights[i]
                : weights_in(window, columns[i], g.kernel_w, g.table_row());
        k[i] = product.result(row.products[lane + i * kWarpSize],
                              row.activations, weights, all_weights[i],
                              taps * g.channels);
      }
      finish(epilogue, channels, row.index, row.located,
             int64_t(row.index) * g.channel_groups + group, lane, k);
    }
  }
}

template <int kBlockChannels, int kCopyBytes, class Product, class Epilogue>
__global__ void __launch_bounds__(
    Tiling<kBlockChannels, Product::kPacking>::kThreads,
    512 / Tiling<kBlockChannels, Product::kPacking>::kThreads)
    conv_tensor_core(const Geometry g, const uint8_t* map, const uint8_t* blob,
                     const Product product, const Epilogue epilogue) {
  using Tile = Tiling<kBlockChannels, Product::kPacking>;
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int warp_group = warp % Tile::kGroups;
  const int warp_pixel = warp / Tile::kGroups * kWarpPixels;
  // blocks of the same pixels are neighbours: they share the map in L2
  const int channel_blocks = g.channel_groups / Tile::kGroups;
  const int first_group = blockIdx.x % channel_blocks * Tile::kGroups;
  const int first_pixel = blockIdx.x / channel_blocks * kBlockPixels;

  uint8_t* shared = dynamic_shared();
  int4* origins = reinterpret_cast<int4*>(shared + Tile::kOriginsAt);
  find_origins(g, first_pixel, origins);
  __syncthreads();

  const auto copy_stage = [&](int stage) {
    uint8_t* buffer = shared + stage % kPipelineStages * Tile::kBufferBytes;
    if (stage < g.stages) {
      copy_activations<Tile, kCopyBytes>(g, map, origins, stage, buffer);
      copy_weights<Tile>(g, blob, first_group, stage,
                         buffer + Tile::kActivationBytes);
    }
    commit_copies();  // also when empty: the waits below count groups
  };
  for (int stage = 0; stage < kPipelineStages - 1; ++stage) copy_stage(stage);

  Sums sums;
  for (int stage = 0; stage < g.stages; ++stage) {
    wait_for_copies<kPipelineStages - 2>();
    // this stage has arrived, and nobody reads the buffer of the one before
    __syncthreads();
    copy_stage(stage + kPipelineStages - 1);
    const uint8_t* buffer =
        shared + stage % kPipelineStages * Tile::kBufferBytes;
    const uint8_t* activations = buffer + warp_pixel * kStageBytes;
    const uint8_t* weights =
        buffer + Tile::kActivationBytes + warp_group * Tile::kGroupStageBytes;
    const int steps = min(kStepsPerStage, g.steps - stage * kStepsPerStage);
    for (int step = 0; step < steps; ++step)
      multiply_step<Product>(activations, weights, step, lane, sums);
  }
  const int32_t* table =
      reinterpret_cast<const int32_t*>(blob + g.tile_bytes());
  __syncthreads();  // nobody reads the buffers any more
  finish_pixels(g, table, product, epilogue, first_pixel + warp_pixel,
                first_group + warp_group, lane, sums,
                reinterpret_cast<StagedRow*>(shared) + warp * kTilePixels);
}

}  // namespace cuda
}  // namespace mmcompress
