// ToMe's bipartite matching and its merge, see mmcompress/ops/match_merge.py.
//
// The products of sources and destinations are reduced to the best of each
// source while they are in registers. Equal products come from equal keys,
// wherever these lie; the lower position is first.
#pragma once

#include <vector>

#include "../match_merge_shape.h"
#include "binary_conv.h"
#include "token_kernels.h"

namespace mmcompress {

// `protected_tokens` are positions in ascending order. At most as many tokens
// leave as there are sources that are not protected, and none where there is
// no such destination.
void match_merge(const MatchMergeShape& shape,
                 const std::vector<int64_t>& protected_tokens,
                 const MatchMergeInput& input, const MatchMergeOutput& output,
                 const TokenKernels& kernels, const Parallel& parallel);

}  // namespace mmcompress
