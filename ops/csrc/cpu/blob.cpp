#include "blob.h"

#include <cstring>
#include <stdexcept>
#include <vector>

namespace mmcompress {
namespace {

constexpr char kMagic[8] = {'M', 'M', 'C', '1', 'B', 'I', 'T', '1'};
constexpr int64_t kAlignment = 64;

struct Header {
  char magic[8];
  uint64_t kernels_id;
  int64_t total_bytes;
  WeightShape shape;
};
static_assert(sizeof(Header) == 64, "the header fills one cache line");

int64_t align(int64_t bytes) { return ceil_div(bytes, kAlignment) * kAlignment; }

bool same(const WeightShape& a, const WeightShape& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

int32_t count_ones(const uint8_t* bytes, int64_t num_bytes) {
  int32_t ones = 0;
  for (int64_t i = 0; i < num_bytes; ++i)
    for (uint8_t byte = bytes[i]; byte; byte &= byte - 1) ++ones;
  return ones;
}

// Prefix sums of C - 2 * popcount(weights of a tap): the dot product of the
// tap with a pixel of -1.
void make_border(const uint8_t* bits, const WeightShape& shape,
                 int32_t* border) {
  const int64_t num = shape.num_outputs;
  const int64_t row = (shape.kernel_w + 1) * num;
  const int64_t tap_bytes = packed_bytes(shape.channels_per_group);
  std::memset(border, 0, (shape.kernel_h + 1) * row * sizeof(int32_t));
  for (int64_t o = 0; o < num; ++o)
    for (int64_t y = 0; y < shape.kernel_h; ++y)
      for (int64_t x = 0; x < shape.kernel_w; ++x, bits += tap_bytes) {
        int32_t* entry = border + (y + 1) * row + (x + 1) * num + o;
        const int32_t tap = int32_t(shape.channels_per_group) -
                            2 * count_ones(bits, tap_bytes);
        *entry = tap + entry[-row] + entry[-num] - entry[-row - num];
      }
}

}  // namespace

BlobLayout::BlobLayout(const WeightShape& shape, const Kernels& kernels) {
  const int64_t granule = kernels.lane_granule;
  const int64_t widest =
      shape.outputs_per_group() < kSegment ? shape.outputs_per_group()
                                           : kSegment;
  lanes = ceil_div(widest, granule) * granule;
  const int64_t steps =
      shape.taps() * ceil_div(shape.channels_per_group, kernels.step_channels);
  segment_bytes = align(steps * lanes * kernels.lane_bytes);
  border_offset = sizeof(Header);
  weights_offset =
      align(border_offset + (shape.kernel_h + 1) * (shape.kernel_w + 1) *
                                shape.num_outputs * int64_t(sizeof(int32_t)));
  const int64_t segments = shape.groups * shape.segments_per_group();
  const bool has_dense =
      kernels.count_dense && shape.taps() == 1 && shape.groups == 1;
  dense_offset = weights_offset + segments * segment_bytes;
  dense_bytes =
      has_dense ? align(ceil_div(shape.channels_per_group, 8) * lanes) : 0;
  total_bytes = dense_offset + segments * dense_bytes;
}

void prepack(const uint8_t* bits, const WeightShape& shape,
             const Kernels& kernels, uint8_t* blob) {
  const BlobLayout layout(shape, kernels);
  std::memset(blob, 0, layout.total_bytes);
  Header header = {{}, kernels.id, layout.total_bytes, shape};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  std::memcpy(blob, &header, sizeof header);

  std::vector<int32_t> border((shape.kernel_h + 1) * (shape.kernel_w + 1) *
                              shape.num_outputs);
  make_border(bits, shape, border.data());
  std::memcpy(blob + layout.border_offset, border.data(),
              border.size() * sizeof(int32_t));

  const int64_t channels = shape.channels_per_group;
  const int64_t output_bytes = shape.taps() * packed_bytes(channels);
  uint8_t* weights = blob + layout.weights_offset;
  uint8_t* dense = blob + layout.dense_offset;
  for (int64_t group = 0; group < shape.groups; ++group) {
    int64_t left = shape.outputs_per_group();
    for (; left > 0; left -= kSegment) {
      const int64_t num_outputs = left < kSegment ? left : kSegment;
      kernels.prepack(bits, num_outputs, shape.taps(), channels, layout.lanes,
                      weights);
      if (layout.dense_bytes)
        kernels.prepack_dense(bits, num_outputs, channels, layout.lanes,
                              dense);
      dense += layout.dense_bytes;
      bits += num_outputs * output_bytes;
      weights += layout.segment_bytes;
    }
  }
}

Blob open_blob(const uint8_t* blob, int64_t size, const WeightShape& shape) {
  Header header;
  if (size < int64_t(sizeof header))
    throw std::runtime_error("blob was not made by binary_prepack");
  std::memcpy(&header, blob, sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
    throw std::runtime_error("blob was not made by binary_prepack");
  if (!same(header.shape, shape))
    throw std::runtime_error(
        "blob was made by binary_prepack for another weight_shape or groups");
  const Kernels& kernels = kernels_by_id(uint32_t(header.kernels_id));
  const BlobLayout layout(shape, kernels);
  if (header.total_bytes != size || layout.total_bytes != size)
    throw std::runtime_error("blob is truncated or damaged");
  return {&kernels, layout.lanes, layout.segment_bytes,
          reinterpret_cast<const int32_t*>(blob + layout.border_offset),
          blob + layout.weights_offset,
          layout.dense_bytes ? blob + layout.dense_offset : nullptr,
          layout.dense_bytes};
}

}  // namespace mmcompress
