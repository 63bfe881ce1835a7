// Choice and launch of the convolution kernels.
#pragma once

#include "conv_generic.cuh"
#include "conv_tensor_core.cuh"

namespace mmcompress {
namespace cuda {

template <int kBlockChannels, int kCopyBytes, class Product, class Epilogue>
const char* launch_tiles(const Geometry& g, const uint8_t* map,
                         const uint8_t* blob, const Product& product,
                         const Epilogue& epilogue, void* stream) {
  using Tile = Tiling<kBlockChannels, Product::kPacking>;
  const int64_t blocks = int64_t(ceil_div(g.pixels, kBlockPixels)) *
                         (g.channel_groups / Tile::kGroups);
  return launch(
      &conv_tensor_core<kBlockChannels, kCopyBytes, Product, Epilogue>, blocks,
      Tile::kThreads, Tile::kSharedBytes, stream, g, map, blob, product,
      epilogue);
}

template <class Product, class Epilogue>
const char* run_conv(const ConvShape& shape, const Format& format, Plan plan,
                     const uint8_t* map, const uint8_t* blob,
                     const Product& product, const Epilogue& epilogue,
                     void* stream) {
  const int64_t pixels = shape.out_pixels();
  if (pixels == 0) return nullptr;
  if (pixels > INT32_MAX - kBlockPixels)
    return "more than 2**31 output pixels; split the batch";
  const Geometry g(shape, format);
  if (plan.kernel == Kernel::kGeneric)
    return launch(&conv_generic<Product, Epilogue>,
                  blocks_for(int64_t(g.pixels) * g.channel_groups * kWarpSize),
                  kThreads, 0, stream, g, map, blob, product, epilogue);
  const auto with = [&](auto launcher) {
    return launcher(g, map, blob, product, epilogue, stream);
  };
  const bool wide = g.pixel_bytes % 16 == 0;
  if (plan.block_channels == 128)
    return wide ? with(launch_tiles<128, 16, Product, Epilogue>)
                : with(launch_tiles<128, 8, Product, Epilogue>);
  return wide ? with(launch_tiles<64, 16, Product, Epilogue>)
              : with(launch_tiles<64, 8, Product, Epilogue>);
}

}  // namespace cuda
}  // namespace mmcompress
