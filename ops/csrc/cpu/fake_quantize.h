// Fake quantization with learnt scales: LSQ, LSQ+ and relatives, forward and
// backward in one pass over memory each.
//
//     u = (x - beta) / scale      z = round(zero_point)
//     y = (clamp(round(u) + z, low, high) - z) * scale + beta
//
// Every operation is rounded to float32, ties of `round` go to even.
#pragma once

#include "../quantized.h"
#include "binary_conv.h"

namespace mmcompress {

void fake_quantize(const QuantizedShape& shape, const QuantizedRange& range,
                   const float* x, float* y, const Kernels& kernels,
                   const Parallel& parallel);

// dx = dy where u + z is in the range, 0 elsewhere and where x is not a number.
// For each group,
//
//     scale_sums = sum of (clamp(round(u), low - z, high - z) - (u or 0)) dy
//     outside_sums = sum of dy outside of the range
//
// in float32 over some values and in float64 over these sums, in an order
// that depends on the shape alone. Without offsets `outside_sums` are not
// computed.
void fake_quantize_backward(const QuantizedShape& shape,
                            const QuantizedRange& range, const float* x,
                            const float* dy, float* dx, double* scale_sums,
                            double* outside_sums, const Kernels& kernels,
                            const Parallel& parallel);

}  // namespace mmcompress
