// Arranging of integer weights, and the integer convolutions.
#include "conv_launch.cuh"
#include "integer_epilogue.cuh"

namespace mmcompress {
namespace cuda {
namespace {

// Most products of an output whose sum holds 32 bits when packed weights are
// multiplied from the highest bits of a byte: 255 * 128 * 2**16 < 2**31.
constexpr int kMostScaledProducts = 1 << 16;

// Stored codes, (K, C / groups, kh, kw).
struct Codes {
  const uint8_t* data;
  int bits, taps, group_channels;

  Codes(const ConvShape& s, int code_bits, const uint8_t* codes)
      : data(codes),
        bits(code_bits),
        taps(s.kernel_h * s.kernel_w),
        group_channels(s.channels / s.groups) {}

  __device__ int at(int64_t channel, int c, int tap) const {
    const int64_t index = (channel * group_channels + c) * taps + tap;
    if (bits == 8) return code_at<1>(data, index);
    return bits == 4 ? code_at<2>(data, index) : code_at<4>(data, index);
  }
};

int packing_of(const ConvShape& s, Kernel kernel, int bits) {
  const int64_t products =
      int64_t(s.channels / s.groups) * s.kernel_h * s.kernel_w;
  const bool fits =
      kernel == Kernel::kGeneric || products <= kMostScaledProducts;
  return fits ? 8 / bits : 1;
}

Format format_of(const ConvShape& s, Kernel kernel, int bits) {
  return {static_cast<int>(code_bytes(s.channels)),
          packing_of(s, kernel, bits)};
}

// One thread per 4 bytes of the weight tiles.
template <int kPacking>
__global__ void prepack_tiles(const WeightLayout g, const Codes codes,
                              uint32_t* tiles) {
  constexpr int kBits = 8 / kPacking;
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index * 4 >= g.tile_bytes()) return;
  uint32_t word = 0;
  for (int part = 0; part < kPacking; ++part) {
    const auto from = WeightWords<kPacking>::place(g, index, part);
    if (from.channel >= g.out_channels) continue;
    for (int i = 0; i < 4; ++i) {
      const int tap = static_cast<int>((from.byte + i) / g.pixel_bytes);
      const int c = static_cast<int>((from.byte + i) % g.pixel_bytes);
      if (tap >= codes.taps || c >= codes.group_channels) continue;
      const uint32_t code = codes.at(from.channel, c, tap);
      const uint32_t highest = code << (8 - kBits) & 0xff;
      word |= highest >> (kBits * part) << (8 * i);
    }
  }
  tiles[index] = word;
}

// One thread per entry of the table: the sum of the weights in the taps
// [0, y) x [0, x).
__global__ void prepack_sums(const WeightLayout g, const Codes codes,
                             int32_t* table) {
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= g.table_size()) return;
  const int64_t channel = index % g.table_row();
  const int entry = static_cast<int>(index / g.table_row());
  int sum = 0;
  if (channel < g.out_channels)
    for (int y = 0; y < entry / (g.kernel_w + 1); ++y)
      for (int x = 0; x < entry % (g.kernel_w + 1); ++x)
        for (int c = 0; c < codes.group_channels; ++c)
          sum += codes.at(channel, c, y * g.kernel_w + x);
  table[index] = sum;
}

// One thread per byte: [tap][channel of the group][output channel].
__global__ void prepack_generic(const Codes codes, int out_channels,
                                int64_t bytes, uint8_t* blob) {
  const int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= bytes) return;
  const int packing = 8 / codes.bits;
  int byte = 0;
  for (int i = 0; i < packing; ++i) {
    const int64_t code = index * packing + i;
    const int64_t row = code / out_channels;  // tap and channel of the group
    const int tap = static_cast<int>(row / codes.group_channels);
    if (tap >= codes.taps) break;
    const int value =
        codes.at(code % out_channels,
                 static_cast<int>(row % codes.group_channels), tap);
    byte |= (value & ((1 << codes.bits) - 1)) << (i * codes.bits);
  }
  blob[index] = static_cast<uint8_t>(byte);
}

// One block: every thread takes some of the outputs.
__global__ void sum_weights(const Codes codes, int out_channels,
                            int64_t* largest) {
  int64_t* sums = reinterpret_cast<int64_t*>(dynamic_shared());
  int64_t most = 0;
  for (int channel = threadIdx.x; channel < out_channels;
       channel += blockDim.x) {
    int64_t sum = 0;
    for (int c = 0; c < codes.group_channels; ++c)
      for (int tap = 0; tap < codes.taps; ++tap)
        sum += abs(codes.at(channel, c, tap));
    most = max(most, sum);
  }
  sums[threadIdx.x] = most;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 0; i < kThreads; ++i) most = max(most, sums[i]);
  *largest = most;
}

template <int kPacking>
const char* run(const ConvShape& shape, const Format& format, Plan plan,
                const uint8_t* map, const uint8_t* blob,
                const IntegerArguments& arguments, void* stream) {
  return run_conv(shape, format, plan, map, blob,
                  CodeProduct<kPacking>{arguments.zero_point},
                  IntegerEpilogue(arguments, shape.out_channels), stream);
}

}  // namespace

size_t integer_blob_bytes(const ConvShape& shape, Kernel kernel, int bits) {
  const WeightLayout g(shape, format_of(shape, kernel, bits));
  if (kernel == Kernel::kTensorCore)
    return g.tile_bytes() + g.table_size() * sizeof(int32_t);
  const size_t count = size_t(shape.out_channels) * shape.kernel_h *
                       shape.kernel_w * (shape.channels / shape.groups);
  return (count * bits + 7) / 8;
}

const char* integer_prepack(const ConvShape& shape, Kernel kernel, int bits,
                            const uint8_t* codes, uint8_t* blob,
                            void* stream) {
  const Codes from(shape, bits, codes);
  if (kernel == Kernel::kGeneric) {
    const int64_t bytes = integer_blob_bytes(shape, kernel, bits);
    return launch(&prepack_generic, blocks_for(bytes), kThreads, 0, stream,
                  from, shape.out_channels, bytes, blob);
  }
  const Format format = format_of(shape, kernel, bits);
  const WeightLayout g(shape, format);
  const auto prepack = format.packing == 1   ? prepack_tiles<1>
                       : format.packing == 2 ? prepack_tiles<2>
                                             : prepack_tiles<4>;
  const char* error =
      launch(prepack, blocks_for(g.tile_bytes() / 4), kThreads, 0, stream, g,
             from, reinterpret_cast<uint32_t*>(blob));
  if (error) return error;
  return launch(&prepack_sums, blocks_for(g.table_size()), kThreads, 0, stream,
                g, from, reinterpret_cast<int32_t*>(blob + g.tile_bytes()));
}

const char* largest_weights(const ConvShape& shape, int bits,
                            const uint8_t* codes, int64_t* largest,
                            void* stream) {
  return launch(&sum_weights, 1, kThreads, kThreads * sizeof(int64_t), stream,
                Codes(shape, bits, codes), shape.out_channels, largest);
}

const char* integer_conv(const ConvShape& shape, Plan plan, int bits,
                         const uint8_t* map, const uint8_t* blob,
                         const IntegerArguments& arguments, void* stream) {
  const Format format = format_of(shape, plan.kernel, bits);
  const auto run_packed = format.packing == 1   ? run<1>
                          : format.packing == 2 ? run<2>
                                                : run<4>;
  return run_packed(shape, format, plan, map, blob, arguments, stream);
}

}  // namespace cuda
}  // namespace mmcompress
