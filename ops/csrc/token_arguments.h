// Arguments of match_merge: what the bindings for CPU and CUDA check of them
// in the words of mmcompress/ops/match_merge.py.
#pragma once

#include <algorithm>

#include "arguments.h"
#include "match_merge_shape.h"

namespace mmcompress {
namespace binding {

// How many tokens leave; `protected_tokens` are checked.
inline int64_t num_leaving(int64_t tokens, int64_t r,
                           const Ints& protected_tokens) {
  int64_t sources = tokens - tokens / 2, destinations = tokens / 2;
  for (int64_t position : protected_tokens)
    --(position % 2 ? destinations : sources);
  if (destinations == 0) return 0;
  return std::min({r, (sources + destinations) / 2, sources});
}

inline MatchMergeShape match_merge_shape(const Tensor& keys, const Tensor& x,
                                         const MaybeTensor& mass, int64_t r,
                                         const Ints& protected_tokens) {
  check_type("keys", keys, ScalarType::Float);
  STD_TORCH_CHECK(keys.dim() == 4 && keys.size(1) > 0 && keys.size(2) > 0 &&
                      keys.size(3) > 0,
                  "keys must be (B, H, N, D), it has shape ",
                  text(shape_of(keys)));
  check_sizes("keys", keys);
  check_like("x", x, ScalarType::Float, keys);
  STD_TORCH_CHECK(x.dim() == 3 && x.size(0) == keys.size(0) &&
                      x.size(1) == keys.size(2),
                  "x must be (", keys.size(0), ", ", keys.size(2),
                  ", C) as keys are ", text(shape_of(keys)),
                  ", it has shape ", text(shape_of(x)));
  check_sizes("x", x);
  const int64_t tokens = x.size(1);
  if (mass) {
    check_like("mass", *mass, ScalarType::Float, keys);
    check_shape("mass", *mass, {x.size(0), tokens, 1});
  }
  STD_TORCH_CHECK(r >= 0, "r must be at least 0, it is ", r);
  int64_t last = -1;
  for (int64_t position : protected_tokens) {
    STD_TORCH_CHECK(position > last && position < tokens,
                    "protected must be positions of the ", tokens,
                    " tokens in ascending order, it is ",
                    text(protected_tokens));
    last = position;
  }
  return {x.size(0),    keys.size(1), tokens,
          keys.size(3), x.size(2),
          tokens - num_leaving(tokens, r, protected_tokens)};
}

// The tensor itself where neighbours in its last dimension lie together.
inline Tensor with_rows(const Tensor& x) {
  const int64_t last = x.dim() - 1;
  return x.size(last) == 1 || x.stride(last) == 1
             ? x
             : torch::stable::contiguous(x);
}

// Inputs and results, kept alive.
struct __attribute__((visibility("hidden"))) MatchMergeTensors {
  Tensor keys, source;
  MaybeTensor source_mass;
  Tensor x, mass, slot;

  MatchMergeTensors(const MatchMergeShape& shape, const Tensor& keys_,
                    const Tensor& x_, const MaybeTensor& mass_)
      : keys(with_rows(keys_)),
        source(with_rows(x_)),
        x(torch::stable::new_empty(x_,
                                   {shape.batch, shape.num_new,
                                    shape.channels})),
        mass(torch::stable::new_empty(x_, {shape.batch, shape.num_new, 1})),
        slot(torch::stable::new_empty(x_, {shape.batch, shape.tokens},
                                      ScalarType::Long)) {
    if (mass_) source_mass = as_contiguous(*mass_);
  }

  MatchMergeInput input() const {
    return {floats(keys),      keys.stride(0),   keys.stride(1),
            keys.stride(2),    floats(source),   source.stride(0),
            source.stride(1),  source_mass ? floats(*source_mass) : nullptr};
  }
  MatchMergeOutput output() const {
    return {floats(x), floats(mass), static_cast<int64_t*>(slot.data_ptr())};
  }
};

}  // namespace binding
}  // namespace mmcompress
