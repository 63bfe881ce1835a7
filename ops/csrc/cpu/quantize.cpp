#include "quantize.h"

#include <algorithm>

#include "rates.h"

namespace mmcompress {

void quantize_codes(const float* x, int64_t count, const Grid& grid,
                    uint8_t* codes, const CodesKernels& kernels,
                    const Parallel& parallel) {
  parallel.share(double(count) / rates_of(kernels.name).codes, count,
                 [&](int64_t begin, int64_t end) {
                   kernels.quantize(x + begin, end - begin, grid,
                                    codes + begin);
                 });
}

void quantize_planes(const Planes& x, const Grid& grid, uint8_t* codes,
                     const CodesKernels& kernels, const Parallel& parallel) {
  const auto body = [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t image = begin / x.num_pixels;
      const int64_t pixel = begin % x.num_pixels;
      const int64_t size = std::min(end - begin, x.num_pixels - pixel);
      kernels.quantize_pixels(x.data + image * x.image_stride + pixel,
                              x.channel_stride, x.channels, size, grid,
                              codes + begin * x.channels);
      begin += size;
    }
  };
  const int64_t pixels = x.batch * x.num_pixels;
  const double values = double(pixels) * double(x.channels);
  parallel.share(values / rates_of(kernels.name).codes, pixels, body);
}

void layer_norm_codes(const LayerNorm& norm, const float* x, int64_t rows,
                      const Grid& grid, uint8_t* codes,
                      const CodesKernels& kernels, const Parallel& parallel) {
  const double values = double(rows) * double(norm.channels);
  parallel.share(values / rates_of(kernels.name).normalized_values, rows,
                 [&](int64_t begin, int64_t end) {
                   kernels.layer_norm(norm, x + begin * norm.channels,
                                      end - begin, grid,
                                      codes + begin * norm.channels);
                 });
}

}  // namespace mmcompress
