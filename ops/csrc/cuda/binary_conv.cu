// Packing of 1-bit weights, and the 1-bit convolutions.
#include "conv_launch.cuh"

namespace mmcompress {
namespace cuda {
namespace {

Format format_of(const ConvShape& s) { return {8 * ceil_div(s.channels, 64)}; }

// One thread per 4 bytes of the weight tiles.
__global__ void prepack_weights(const WeightLayout g, const uint8_t* weight_bits,
                                uint32_t* tiles) {
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index * 4 >= g.tile_bytes()) return;
  const auto from = WeightWords<1>::place(g, index, 0);
  uint32_t bits = 0;
  if (from.channel < g.out_channels && from.byte < g.reduction_bytes)
    bits = *reinterpret_cast<const uint32_t*>(
        weight_bits + from.channel * g.reduction_bytes + from.byte);
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

}  // namespace

size_t blob_bytes(const ConvShape& shape, Kernel kernel) {
  const WeightLayout g(shape, format_of(shape));
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
  const WeightLayout g(shape, format_of(shape));
  const char* error =
      launch(&prepack_weights, blocks_for(g.tile_bytes() / 4), kThreads, 0,
             stream, g, weight_bits, reinterpret_cast<uint32_t*>(blob));
  if (error) return error;
  return launch(&prepack_table, blocks_for(g.table_size()), kThreads, 0, stream,
                g, weight_bits,
                reinterpret_cast<int32_t*>(blob + g.tile_bytes()));
}

const char* conv_counts(const ConvShape& shape, Plan plan, const uint8_t* bits,
                        const uint8_t* blob, int32_t* counts, void* stream) {
  return run_conv(shape, format_of(shape), plan, bits, blob, SignProduct(),
                  CountEpilogue(counts, shape.out_channels), stream);
}

const char* conv_bits(const ConvShape& shape, Plan plan, const uint8_t* bits,
                      const uint8_t* blob, const int32_t* limit,
                      const bool* flip, uint8_t* out_bits, void* stream) {
  const LimitEpilogue epilogue = {limit, flip, shape.out_channels,
                                  reinterpret_cast<uint32_t*>(out_bits)};
  return run_conv(shape, format_of(shape), plan, bits, blob, SignProduct(),
                  epilogue, stream);
}

const char* conv_affine(const ConvShape& shape, Plan plan, const uint8_t* bits,
                        const uint8_t* blob, const AffineArguments& arguments,
                        void* stream) {
  return run_conv(shape, format_of(shape), plan, bits, blob, SignProduct(),
                  AffineEpilogue(arguments, shape.out_channels), stream);
}

}  // namespace cuda
}  // namespace mmcompress
