// Packing of weights, and the choice and launch of convolution kernels.
#include "conv_generic.cuh"
#include "conv_tensor_core.cuh"

namespace mmcompress {
namespace cuda {
namespace {

constexpr int kThreads = 256;

// One thread per 4 bytes of the weight tiles.
__global__ void prepack_weights(const WeightLayout g, const uint8_t* weight_bits,
                                uint32_t* tiles) {
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index * 4 >= g.tile_bytes()) return;
  const int operand = static_cast<int>(index % 2);
  const int lane = static_cast<int>(index / 2 % kWarpSize);
  // over [channel group][step][tile]
  const int64_t tile = index / (2 * kWarpSize);
  const int64_t step = tile / kChannelTiles % (g.stages * kStepsPerStage);
  const int64_t group = tile / kChannelTiles / (g.stages * kStepsPerStage);
  const WeightWord from = weight_word(lane, operand);
  const int64_t channel =
      group * kGroupChannels + tile % kChannelTiles * 8 + from.channel;
  const int64_t byte = step * kStepBytes + from.step_byte;
  uint32_t bits = 0;
  if (channel < g.out_channels && byte < g.reduction_bytes)
    bits = *reinterpret_cast<const uint32_t*>(
        weight_bits + channel * g.reduction_bytes + byte);
  tiles[index] = bits;
}

// One thread per entry of the table: weight bits in the taps [0, y) x [0, x).
__global__ void prepack_table(const WeightLayout g, const uint8_t* weight_bits,
                              int32_t* table) {
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= g.table_size()) return;
  const int64_t channel = index % g.table_row();
  const int entry = static_cast<int>(index / g.table_row());
  int count = 0;
  if (channel < g.out_channels) {
    for (int y = 0; y < entry / (g.kernel_w + 1); ++y) {
      for (int x = 0; x < entry % (g.kernel_w + 1); ++x) {
        const uint64_t* words = reinterpret_cast<const uint64_t*>(
            weight_bits + channel * g.reduction_bytes +
            int64_t(y * g.kernel_w + x) * g.pixel_bytes);
        for (int i = 0; i < g.pixel_bytes / 8; ++i)
          count += __popcll(words[i]);
      }
    }
  }
  table[index] = count;
}

__global__ void copy_words(const uint64_t* from, uint64_t* to, int64_t count) {
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index < count) to[index] = from[index];
}

int64_t blocks_for(int64_t threads) {
  return (threads + kThreads - 1) / kThreads;
}

template <int kBlockChannels, int kCopyBytes, class Epilogue>
const char* launch_tiles(const Geometry& g, const uint8_t* bits,
                         const uint8_t* blob, const Epilogue& epilogue,
                         void* stream) {
  using Tile = Tiling<kBlockChannels, kCopyBytes>;
  const int64_t blocks = int64_t(ceil_div(g.pixels, kBlockPixels)) *
                         (g.channel_groups / Tile::kGroups);
  return launch(&conv_tensor_core<kBlockChannels, kCopyBytes, Epilogue>, blocks,
                Tile::kThreads, Tile::kSharedBytes, stream, g, bits, blob,
                epilogue);
}

template <class Epilogue>
const char* run(const ConvShape& shape, Plan plan, const uint8_t* bits,
                const uint8_t* blob, const Epilogue& epilogue, void* stream) {
  const int64_t pixels = shape.out_pixels();
  if (pixels == 0) return nullptr;
  if (pixels > INT32_MAX - kBlockPixels)
    return "more than 2**31 output pixels; split the batch";
  const Geometry g(shape);
  if (plan.kernel == Kernel::kGeneric)
    return launch(&conv_generic<Epilogue>,
                  blocks_for(int64_t(g.pixels) * g.channel_groups * kWarpSize),
                  kThreads, 0, stream, g, bits, blob, epilogue);
  const bool wide = g.pixel_bytes % 16 == 0;
  if (plan.block_channels == 128)
    return wide ? launch_tiles<128, 16>(g, bits, blob, epilogue, stream)
                : launch_tiles<128, 8>(g, bits, blob, epilogue, stream);
  return wide ? launch_tiles<64, 16>(g, bits, blob, epilogue, stream)
              : launch_tiles<64, 8>(g, bits, blob, epilogue, stream);
}

}  // namespace

bool supports(const ConvShape& shape, Kernel kernel) {
  return kernel == Kernel::kGeneric ||
         (shape.groups == 1 && shape.kernel_h <= 255 && shape.kernel_w <= 255);
}

size_t blob_bytes(const ConvShape& shape, Kernel kernel) {
  const WeightLayout g(shape);
  if (kernel == Kernel::kTensorCore)
    return g.tile_bytes() + g.table_size() * sizeof(int32_t);
  const int group_bytes = 8 * ceil_div(shape.channels / shape.groups, 64);
  return size_t(g.out_channels) * g.kernel_h * g.kernel_w * group_bytes;
}

const char* prepack(const ConvShape& shape, Kernel kernel,
                    const uint8_t* weight_bits, uint8_t* blob, void* stream) {
  if (kernel == Kernel::kGeneric) {
    const int64_t words = blob_bytes(shape, kernel) / sizeof(uint64_t);
    return launch(&copy_words, blocks_for(words), kThreads, 0, stream,
                  reinterpret_cast<const uint64_t*>(weight_bits),
                  reinterpret_cast<uint64_t*>(blob), words);
  }
  const WeightLayout g(shape);
  const char* error =
      launch(&prepack_weights, blocks_for(g.tile_bytes() / 4), kThreads, 0,
             stream, g, weight_bits, reinterpret_cast<uint32_t*>(blob));
  if (error) return error;
  return launch(&prepack_table, blocks_for(g.table_size()), kThreads, 0, stream,
                g, weight_bits,
                reinterpret_cast<int32_t*>(blob + g.tile_bytes()));
}

Plan plan_conv(const ConvShape& shape, Kernel kernel) {
  if (kernel == Kernel::kGeneric) return {kernel, 0};
  const int groups = ceil_div(shape.out_channels, kGroupChannels);
  const int64_t wide_blocks =
      (shape.out_pixels() + kBlockPixels - 1) / kBlockPixels * (groups / 2);
  const bool wide = groups % 2 == 0 && wide_blocks >= multiprocessor_count();
  return {kernel, wide ? 128 : 64};
}

const char* conv_counts(const ConvShape& shape, Plan plan, const uint8_t* bits,
                        const uint8_t* blob, int32_t* counts, void* stream) {
  return run(shape, plan, bits, blob, CountEpilogue(counts, shape.out_channels),
             stream);
}

const char* conv_bits(const ConvShape& shape, Plan plan, const uint8_t* bits,
                      const uint8_t* blob, const int32_t* limit,
                      const bool* flip, uint8_t* out_bits, void* stream) {
  const LimitEpilogue epilogue = {limit, flip, shape.out_channels,
                                  reinterpret_cast<uint32_t*>(out_bits)};
  return run(shape, plan, bits, blob, epilogue, stream);
}

const char* conv_affine(const ConvShape& shape, Plan plan, const uint8_t* bits,
                        const uint8_t* blob, const AffineArguments& arguments,
                        void* stream) {
  return run(shape, plan, bits, blob,
             AffineEpilogue(arguments, shape.out_channels), stream);
}

}  // namespace cuda
}  // namespace mmcompress
