// The operators that merge tokens of CPU tensors, see binding.cpp.
#include <torch/csrc/stable/library.h>

#include "cpu/match_merge.h"
#include "cpu_tensors.h"
#include "token_arguments.h"

namespace {

using namespace mmcompress::binding;
using mmcompress::TokenKernels;

const TokenKernels& kernels() {
  static const TokenKernels& chosen =
      mmcompress::tokens_by_name(mmcompress::best_kernels().name);
  return chosen;
}

std::tuple<Tensor, Tensor, Tensor> match_merge(const Tensor& keys,
                                               const Tensor& x,
                                               const MaybeTensor& mass,
                                               int64_t r,
                                               const Ints& protected_tokens) {
  const auto shape = match_merge_shape(keys, x, mass, r, protected_tokens);
  const MatchMergeTensors tensors(shape, keys, x, mass);
  if (shape.batch > 0)
    mmcompress::match_merge(shape, protected_tokens, tensors.input(),
                            tensors.output(), kernels(), torch_threads());
  return {tensors.x, tensors.mass, tensors.slot};
}

STABLE_TORCH_LIBRARY_FRAGMENT(mmcompress, m) {
  m.def(
      "match_merge(Tensor keys, Tensor x, Tensor? mass, int r, int[] "
      "protected) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(mmcompress, CPU, m) {
  m.impl("match_merge", TORCH_BOX(&match_merge));
}

}  // namespace
