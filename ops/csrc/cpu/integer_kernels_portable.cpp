// Integer kernels for any little-endian processor.
#include "integer_loops.h"

namespace mmcompress {
namespace {

void sum_quads(const SumArgs& args) {
  for (int64_t p = 0; p < args.num_pixels; ++p) {
    int32_t* sums = args.sums + p * args.sums_stride;
    if (args.start)
      std::memcpy(sums, args.start, args.lanes * sizeof(int32_t));
    const auto* weights = reinterpret_cast<const int8_t*>(args.weights);
    for (int64_t i = 0; i < args.num_chunks; ++i) {
      const uint8_t* x = args.pixels[p] + args.chunks[i].offset + args.skip;
      for (int64_t step = 0; step < args.chunks[i].steps; ++step) {
        for (int64_t lane = 0; lane < args.lanes; ++lane)
          for (int64_t c = 0; c < kQuad; ++c)
            sums[lane] += int32_t(x[c]) * weights[lane * kQuad + c];
        x += kQuad;
        weights += kQuad * args.lanes;
      }
    }
  }
}

}  // namespace

const IntegerKernels& portable_integer_kernels() {
  static const IntegerKernels table = {
      "portable",    /*id=*/1,  /*tile=*/8,
      /*segment=*/16, /*granule=*/8,
      /*saturates=*/false,
      /*flip=*/0,
      sum_quads,
      nullptr,
      sum_depthwise_loop,
      finish_loop,
  };
  return table;
}

}  // namespace mmcompress
