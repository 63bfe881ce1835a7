// Merging tokens on a CUDA device, as cpu/match_merge.h describes it: raw
// pointers, sizes and a stream. See binary_ops.h.
#pragma once

#include <cstddef>

#include "../match_merge_shape.h"

namespace mmcompress {
namespace cuda {

// Positions of tokens that stay, ascending: handed to kernels by value.
constexpr int kMostProtected = 32;
struct ProtectedTokens {
  int count;
  int positions[kMostProtected];
};

// Bytes for what the kernels hand to each other.
size_t match_merge_scratch(const MatchMergeShape& shape);

const char* match_merge(const MatchMergeShape& shape,
                        const ProtectedTokens& protected_tokens,
                        const MatchMergeInput& input,
                        const MatchMergeOutput& output, void* scratch,
                        void* stream);

}  // namespace cuda
}  // namespace mmcompress
