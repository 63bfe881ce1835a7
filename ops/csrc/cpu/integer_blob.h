// Integer weights in the private layout of one instruction set.
//
// A blob is one block of bytes: a header that says what it is, the sum of each
// output channel's weights, and the weights of each group and segment of
// output channels. Weights that a linear layer may have follow once more, as
// integer_row.h reads them, where that is worth the memory. It is made at load
// time and never stored.
#pragma once

#include <cstdint>
#include <vector>

#include "blob.h"
#include "integer_kernels.h"

namespace mmcompress {

// A stored weight: codes (K, C / groups, kh, kw) of `bits` each in two's
// complement, the first one in the lowest bits.
struct IntegerWeight {
  WeightShape shape;
  int64_t bits;  // 2, 4 or 8
};

struct IntegerBlob {
  const IntegerKernels* kernels;
  WeightFormat format;
  int64_t high;   // largest input code that it was made for
  int64_t flush;  // see SumArgs
  const int32_t* weight_sums;  // (K, )
  const uint8_t* weights;
  const uint8_t* rows;  // the same weights for linear_rows; null: there are none

  int64_t groups;            // 1 if kDepthwise, else those of the weight
  int64_t outputs_per_group;
  int64_t steps;             // of the reduction
  int64_t lane_bytes;        // of the weights of one lane and step

  int64_t lanes(int64_t segment) const;
  int64_t segments_per_group() const {
    return ceil_div(outputs_per_group, kernels->segment);
  }
  // Of its weights, in bytes.
  int64_t segment_offset(int64_t group, int64_t segment) const;
};

// Where the parts lie, in bytes.
struct IntegerBlobPlan {
  IntegerBlob blob;  // without its pointers to data
  int64_t weights_offset;
  int64_t rows_offset;  // 0: there are none
  int64_t total_bytes;
};

// One code per element.
std::vector<int8_t> unpack_codes(const uint8_t* stored,
                                 const IntegerWeight& weight);

// Throws std::runtime_error if a sum of products may exceed 32 bits.
IntegerBlobPlan plan_integer_blob(const std::vector<int8_t>& codes,
                                  const IntegerWeight& weight, int64_t high,
                                  const IntegerKernels& kernels);

void integer_prepack(const std::vector<int8_t>& codes,
                     const IntegerWeight& weight, const IntegerBlobPlan& plan,
                     uint8_t* out);

// Throws std::runtime_error if these bytes are no blob, or one of another
// weight, or for a CPU other than this.
IntegerBlob open_integer_blob(const uint8_t* bytes, int64_t size,
                              const IntegerWeight& weight);

}  // namespace mmcompress
