// What one instruction set provides for attention in float32: see kernels.h.
#pragma once

#include <cstdint>
#include <string>

namespace mmcompress {

// Rows of scratch memory have a multiple of so many floats.
constexpr int64_t kKeyGranule = 16;

// One head of the tokens of one region, and all that they attend to: keys lie
// together in blocks of equal size, (dims, block_keys) each.
struct RegionAttention {
  const float* const* queries;  // dims each
  int64_t num_queries;
  int64_t dims;
  float scale;
  const float* const* key_blocks;
  int64_t num_blocks, block_keys;
  const float* values;
  const int64_t* value_offsets;  // of each key, in floats
  int64_t value_dims;
  float* const* out;  // of each query, value_dims each

  int64_t num_keys() const { return num_blocks * block_keys; }
  int64_t key_stride() const {
    return (num_keys() + kKeyGranule - 1) / kKeyGranule * kKeyGranule;
  }
};

// Queries that are worked on at once.
constexpr int64_t kQueries = 4;

// What a thread needs for a region besides.
struct AttentionScratch {
  float* keys;     // dims * key_stride
  float* queries;  // kQueries * dims
  float* scores;   // kQueries * key_stride
};

struct AttentionKernels {
  const char* name;
  void (*attend)(const RegionAttention& args, const AttentionScratch& scratch);
};

const AttentionKernels& portable_attention();
const AttentionKernels& avx2_attention();
const AttentionKernels& avx512_attention();

// The table for kernels of this name, which this CPU can run.
const AttentionKernels& attention_by_name(const std::string& name);

}  // namespace mmcompress
