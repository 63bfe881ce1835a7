// The operators that merge tokens of CUDA tensors, see binding_cuda.cpp.
#include "../token_arguments.h"
#include "binding_cuda.h"
#include "token_ops.h"

namespace {

using namespace mmcompress::binding;
using mmcompress::cuda::kMostProtected;
using mmcompress::cuda::ProtectedTokens;

ProtectedTokens protected_of(const Ints& positions) {
  STD_TORCH_CHECK(positions.size() <= kMostProtected,
                  "protected must be at most ", kMostProtected,
                  " positions on CUDA devices, it is ", text(positions));
  ProtectedTokens fixed = {};
  for (int64_t position : positions)
    fixed.positions[fixed.count++] = static_cast<int>(position);
  return fixed;
}

std::tuple<Tensor, Tensor, Tensor> match_merge(const Tensor& keys,
                                               const Tensor& x,
                                               const MaybeTensor& mass,
                                               int64_t r,
                                               const Ints& protected_tokens) {
  const auto shape = match_merge_shape(keys, x, mass, r, protected_tokens);
  const ProtectedTokens fixed = protected_of(protected_tokens);
  narrow("the number of tokens", shape.tokens);
  const OnDeviceOf device(keys);
  const MatchMergeTensors tensors(shape, keys, x, mass);
  if (shape.batch > 0) {
    const size_t size = mmcompress::cuda::match_merge_scratch(shape);
    Tensor scratch =
        new_tensor({static_cast<int64_t>(size)}, ScalarType::Byte, x);
    check_launch(mmcompress::cuda::match_merge(
        shape, fixed, tensors.input(), tensors.output(), bytes(scratch),
        device.stream()));
  }
  return {tensors.x, tensors.mass, tensors.slot};
}

}  // namespace

#ifdef MMCOMPRESS_EMULATE
STABLE_TORCH_LIBRARY_IMPL(mmcompress_emulated, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(mmcompress, CUDA, m) {
#endif
  m.impl("match_merge", TORCH_BOX(&match_merge));
}
