// What the tensor cores multiply, and what their sums stand for.
//
// Of a product, `multiply` is one instruction, `result` makes the wanted number
// of a channel's sums. `weights` is the sum of the weights in the taps that
// count, `all_weights` in all taps; `valid` is the number of products that
// count. Taps outside of the image are read as zeros, so that neither product
// has a special case in its loop.
#pragma once

#include "geometry.cuh"

namespace mmcompress {
namespace cuda {

// Signs, as bits. With bits a and w of a tap that counts their product is
//   (2a - 1)(2w - 1) = 4aw - 2a - 2w + 1,
// so k = 4 popc(a & w) - 2 popc(a) - 2 popc(w) + n over these taps. The tensor
// core gives popc(a & w), and popc(a) as its product with a column of ones;
// popc(w) is a table of the blob, and n is the taps times the channels.
struct SignProduct {
  static constexpr int kPacking = 1;
  // not needed for XOR
  static constexpr bool kCountsActivations = kProductIsAnd;

  __device__ static void multiply(int (&sums)[4], const uint32_t (&a)[4],
                                  uint32_t b0, uint32_t b1) {
    multiply_bits(sums, a, b0, b1);
  }

  __device__ int result(int product, int activations, int weights,
                        int all_weights, int valid) const {
    if (kProductIsAnd)
      return 4 * product - 2 * activations - 2 * weights + valid;
    // XOR against the zero bits of taps that don't count gave popc(w) too much
    return valid - 2 * (product - (all_weights - weights));
  }
};

// Unsigned codes with signed weights:
//   sum (x - zero) w = sum x w - zero sum w    over the taps in the image.
// Several packed weights share a byte's place; each is multiplied from the
// highest bits of a byte of its own, which makes the sums 16 or 64 times as
// large. Weights of 4 and 2 bits can be unpacked so with two operations per
// four of them, and no architecture after Ampere multiplies them faster.
template <int kWeightsPerByte>
struct CodeProduct {
  static constexpr int kPacking = kWeightsPerByte;
  static constexpr int kShift = 8 - 8 / kPacking;
  static constexpr bool kCountsActivations = false;

  int zero_point;

  __device__ static void multiply(int (&sums)[4], const uint32_t (&a)[4],
                                  uint32_t b0, uint32_t b1) {
    multiply_codes(sums, a, b0, b1);
  }

  __device__ int result(int product, int, int weights, int, int) const {
    return (product >> kShift) - zero_point * weights;
  }
};

}  // namespace cuda
}  // namespace mmcompress
