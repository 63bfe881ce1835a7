// Fake quantization on a CUDA device, as cpu/fake_quantize.h describes it: raw
// pointers, sizes and a stream. See binary_ops.h.
#pragma once

#include "../quantized.h"

namespace mmcompress {
namespace cuda {

const char* fake_quantize(const QuantizedShape& shape,
                          const QuantizedRange& range, const float* x,
                          float* y, void* stream);

// Doubles that the gradient needs for sums.
int64_t fake_quantize_scratch(const QuantizedShape& shape);

// Gradients of the offsets may be null. Sums have an order that depends on the
// shape alone.
const char* fake_quantize_backward(const QuantizedShape& shape,
                                   const QuantizedRange& range, double factor,
                                   const float* x, const float* dy, float* dx,
                                   double* scratch, float* d_scale,
                                   float* d_beta, float* d_zero,
                                   void* stream);

}  // namespace cuda
}  // namespace mmcompress
