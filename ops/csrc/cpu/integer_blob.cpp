#include "integer_blob.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "integer_row.h"

namespace mmcompress {
namespace {

constexpr char kMagic[8] = {'M', 'M', 'C', 'I', 'N', 'T', '0', '1'};
constexpr int64_t kAlignment = 64;
// no need to count further
constexpr int64_t kNever = int64_t(1) << 30;

struct Header {
  char magic[8];
  uint64_t kernels_id;
  int64_t total_bytes;
  IntegerWeight weight;
  int64_t format;
  int64_t high;
  int64_t flush;
  int64_t unused[4];
};
static_assert(sizeof(Header) == 128, "the header fills two cache lines");

int64_t align(int64_t bytes) { return ceil_div(bytes, kAlignment) * kAlignment; }

bool is_depthwise(const WeightShape& shape) {
  return shape.channels_per_group == 1 && shape.outputs_per_group() == 1 &&
         shape.groups > 1;
}

// Of the absolute weights of an output.
int64_t largest_sum(const std::vector<int8_t>& codes,
                    const WeightShape& shape) {
  const int64_t products = shape.products();
  int64_t largest = 0;
  for (int64_t o = 0; o < shape.num_outputs; ++o) {
    int64_t sum = 0;
    for (int64_t i = 0; i < products; ++i)
      sum += std::abs(int(codes[o * products + i]));
    largest = std::max(largest, sum);
  }
  return largest;
}

// Two weights that are multiplied and added together.
struct Pair {
  int64_t positive = 0, negative = 0;

  void add(int weight) { (weight > 0 ? positive : negative) += weight; }
};

// Steps after which sums of 16 bits may overflow: codes are 0 to `high`, so
// that a sum lies between those of the negative and of the positive weights.
int64_t steps_in_16_bits(const std::vector<Pair>& pairs, int64_t high) {
  const int64_t limit = INT16_MAX / std::max<int64_t>(high, 1);
  int64_t fewest = kNever;
  Pair sum;
  for (int64_t end = 0, begin = 0; end < int64_t(pairs.size()); ++end) {
    sum.positive += pairs[end].positive;
    sum.negative += pairs[end].negative;
    for (; sum.positive > limit || sum.negative < -limit; ++begin) {
      fewest = std::min(fewest, end - begin);
      sum.positive -= pairs[begin].positive;
      sum.negative -= pairs[begin].negative;
    }
  }
  return fewest;
}

// The same for all outputs and both pairs of a step, wherever one starts.
int64_t steps_in_16_bits(const std::vector<int8_t>& codes,
                         const WeightShape& shape, int64_t high) {
  const int64_t channels = shape.channels_per_group;
  const int64_t taps = shape.taps();
  const int64_t quads = ceil_div(channels, kQuad);
  int64_t fewest = kNever;
  for (int64_t o = 0; o < shape.num_outputs; ++o)
    for (int64_t first = 0; first < kQuad; first += 2) {
      std::vector<Pair> pairs(taps * quads);
      for (int64_t c = first; c < channels; c += c % 2 ? kQuad - 1 : 1)
        for (int64_t tap = 0; tap < taps; ++tap)
          pairs[tap * quads + c / kQuad].add(
              codes[(o * channels + c) * taps + tap]);
      fewest = std::min(fewest, steps_in_16_bits(pairs, high));
    }
  return fewest;
}

RowShape row_shape(const IntegerWeight& weight) {
  return {weight.shape.num_outputs, weight.shape.channels_per_group,
          int(weight.bits)};
}

// Whether one row waits for memory less with weights for it alone: bytes are
// no larger than those of kQuads.
bool has_rows(const IntegerWeight& weight, WeightFormat format) {
  return weight.shape.groups == 1 && weight.shape.taps() == 1 &&
         (weight.bits < 8 || format == WeightFormat::kPairs);
}

IntegerBlobPlan make_plan(const IntegerWeight& weight,
                          const IntegerKernels& kernels, WeightFormat format,
                          int64_t high, int64_t flush) {
  const WeightShape& shape = weight.shape;
  IntegerBlobPlan plan = {};
  IntegerBlob& blob = plan.blob;
  blob.kernels = &kernels;
  blob.format = format;
  blob.high = high;
  blob.flush = flush;
  const bool depthwise = format == WeightFormat::kDepthwise;
  blob.groups = depthwise ? 1 : shape.groups;
  blob.outputs_per_group = shape.num_outputs / blob.groups;
  blob.steps = depthwise
                   ? shape.taps()
                   : shape.taps() * ceil_div(shape.channels_per_group, kQuad);
  blob.lane_bytes = depthwise ? 1 : format == WeightFormat::kPairs ? 8 : 4;
  plan.weights_offset =
      align(sizeof(Header) + shape.num_outputs * int64_t(sizeof(int32_t)));
  plan.total_bytes =
      plan.weights_offset + blob.segment_offset(blob.groups, 0);
  if (has_rows(weight, format)) {
    plan.rows_offset = align(plan.total_bytes);
    plan.total_bytes = plan.rows_offset + row_shape(weight).total_bytes();
  }
  return plan;
}

// The weights of `lanes` output channels from `output` on.
void fill_segment(const std::vector<int8_t>& codes, const WeightShape& shape,
                  const IntegerBlob& blob, int64_t output, int64_t segment,
                  uint8_t* out) {
  const int64_t lanes = blob.lanes(segment);
  const int64_t channels = shape.channels_per_group;
  const int64_t taps = shape.taps();
  const int64_t quads = ceil_div(channels, kQuad);
  const int64_t count =
      std::min(lanes, blob.outputs_per_group - segment * blob.kernels->segment);
  for (int64_t lane = 0; lane < count; ++lane)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int code =
            codes[((output + lane) * channels + c) * taps + tap];
        const int64_t step = tap * quads + c / kQuad;
        if (blob.format == WeightFormat::kPairs) {
          const int16_t value = int16_t(code);
          const int64_t i =
              ((step * 2 + c % 4 / 2) * lanes + lane) * 2 + c % 2;
          std::memcpy(out + 2 * i, &value, sizeof value);
        } else if (blob.format == WeightFormat::kDepthwise) {
          out[tap * lanes + lane] = uint8_t(code);
        } else {
          out[(step * lanes + lane) * kQuad + c % kQuad] = uint8_t(code);
        }
      }
}

bool is_allowed(const IntegerWeight& weight, const IntegerKernels& kernels,
                const Header& header) {
  const bool depthwise = is_depthwise(weight.shape);
  const auto format = WeightFormat(header.format);
  return header.flush >= 1 && header.flush <= kNever && header.high >= 0 &&
         header.high <= 255 &&
         (depthwise ? format == WeightFormat::kDepthwise
                    : format == WeightFormat::kQuads ||
                          (format == WeightFormat::kPairs &&
                           kernels.saturates));
}

}  // namespace

int64_t IntegerBlob::lanes(int64_t segment) const {
  const int64_t left = outputs_per_group - segment * kernels->segment;
  return ceil_div(std::min(left, kernels->segment), kernels->granule) *
         kernels->granule;
}

int64_t IntegerBlob::segment_offset(int64_t group, int64_t segment) const {
  const int64_t granule = kernels->granule;
  const int64_t group_lanes = ceil_div(outputs_per_group, granule) * granule;
  const int64_t lanes_before = group * group_lanes + segment * kernels->segment;
  return lanes_before * steps * lane_bytes;
}

std::vector<int8_t> unpack_codes(const uint8_t* stored,
                                 const IntegerWeight& weight) {
  const int64_t bits = weight.bits;
  const int64_t per_byte = 8 / bits;
  std::vector<int8_t> codes(weight.shape.num_outputs *
                            weight.shape.products());
  for (int64_t i = 0; i < int64_t(codes.size()); ++i) {
    // the code in the highest bits of a byte, then its sign
    const int64_t up = 8 - bits - i % per_byte * bits;
    const auto top = uint8_t(stored[i / per_byte] << up);
    codes[i] = int8_t(int8_t(top) >> (8 - bits));
  }
  return codes;
}

IntegerBlobPlan plan_integer_blob(const std::vector<int8_t>& codes,
                                  const IntegerWeight& weight, int64_t high,
                                  const IntegerKernels& kernels) {
  const WeightShape& shape = weight.shape;
  const int64_t largest = largest_sum(codes, shape) * 255;
  if (largest > INT32_MAX)
    throw std::runtime_error("an output sums up to " +
                             std::to_string(largest) +
                             ", which is more than 32 bits hold");
  WeightFormat format = WeightFormat::kQuads;
  int64_t flush = kNever;
  if (is_depthwise(shape)) {
    format = WeightFormat::kDepthwise;
  } else if (kernels.saturates) {
    flush = steps_in_16_bits(codes, shape, high);
    if (flush == 0) {
      format = WeightFormat::kPairs;
      flush = kNever;
    }
  }
  return make_plan(weight, kernels, format, high, flush);
}

void integer_prepack(const std::vector<int8_t>& codes,
                     const IntegerWeight& weight, const IntegerBlobPlan& plan,
                     uint8_t* out) {
  const WeightShape& shape = weight.shape;
  const IntegerBlob& blob = plan.blob;
  std::memset(out, 0, plan.total_bytes);
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.kernels_id = blob.kernels->id;
  header.total_bytes = plan.total_bytes;
  header.weight = weight;
  header.format = int64_t(blob.format);
  header.high = blob.high;
  header.flush = blob.flush;
  std::memcpy(out, &header, sizeof header);

  const int64_t products = shape.products();
  for (int64_t o = 0; o < shape.num_outputs; ++o) {
    int32_t sum = 0;
    for (int64_t i = 0; i < products; ++i) sum += codes[o * products + i];
    std::memcpy(out + sizeof header + o * sizeof sum, &sum, sizeof sum);
  }
  for (int64_t group = 0; group < blob.groups; ++group)
    for (int64_t s = 0; s < blob.segments_per_group(); ++s)
      fill_segment(codes, shape, blob,
                   group * blob.outputs_per_group + s * blob.kernels->segment,
                   s, out + plan.weights_offset + blob.segment_offset(group, s));
  if (plan.rows_offset)
    prepack_rows(codes.data(), row_shape(weight), out + plan.rows_offset);
}

IntegerBlob open_integer_blob(const uint8_t* bytes, int64_t size,
                              const IntegerWeight& weight) {
  Header header;
  if (size >= int64_t(sizeof header)) std::memcpy(&header, bytes, sizeof header);
  if (size < int64_t(sizeof header) ||
      std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
    throw std::runtime_error("blob was not made by integer_prepack");
  if (std::memcmp(&header.weight, &weight, sizeof weight) != 0)
    throw std::runtime_error(
        "blob was made by integer_prepack for another weight_shape, groups or "
        "bits");
  const IntegerKernels& kernels =
      integer_kernels_by_id(uint32_t(header.kernels_id));
  if (!is_allowed(weight, kernels, header))
    throw std::runtime_error("blob is truncated or damaged");
  IntegerBlobPlan plan =
      make_plan(weight, kernels, WeightFormat(header.format), header.high,
                header.flush);
  if (header.total_bytes != size || plan.total_bytes != size)
    throw std::runtime_error("blob is truncated or damaged");
  plan.blob.weight_sums =
      reinterpret_cast<const int32_t*>(bytes + sizeof header);
  plan.blob.weights = bytes + plan.weights_offset;
  if (plan.rows_offset) plan.blob.rows = bytes + plan.rows_offset;
  return plan.blob;
}

}  // namespace mmcompress
