// Choice and launch of the convolution kernels.
#pragma once

#include "conv_generic.cuh"
#include "conv_tensor_core.cuh"

namespace mmcompress {
namespace cuda {

constexpr int kThreads = 256;

inline int64_t blocks_for(int64_t threads) {
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
const char* run_conv(const ConvShape& shape, Plan plan, const uint8_t* bits,
                     const uint8_t* blob, const Epilogue& epilogue,
                     void* stream) {
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

}  // namespace cuda
}  // namespace mmcompress
