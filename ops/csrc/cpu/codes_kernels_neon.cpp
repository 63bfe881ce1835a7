// Codes on 64-bit Arm: the loops, compiled for NEON.
#include "codes_kernels.h"
#include "integer_row_loops.h"
#include "layer_norm_loops.h"

namespace mmcompress {

const CodesKernels& neon_codes() {
  static const CodesKernels table = {
      "neon",
      quantize,
      quantize_pixels,
      layer_norm,
      multiply_loop<2>,
      multiply_loop<4>,
      multiply_loop<8>,
      /*most_rows=*/4,
      finish,
  };
  return table;
}

}  // namespace mmcompress
