#include "max_pool.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "rates.h"

namespace mmcompress {
namespace {

// Without special flags: every 64-bit processor has an instruction for it.
void take_larger(const uint8_t* x, int64_t count, uint8_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = std::max(out[i], x[i]);
}

// Positions of the image in a window.
struct Window {
  int64_t begin, end;

  Window(int64_t start, int64_t kernel, int64_t size)
      : begin(std::max<int64_t>(start, 0)),
        end(std::min(start + kernel, size)) {}
};

// One row of the output; `column` has memory for a row of the image.
void pool_row(const PoolShape& s, const uint8_t* image, int64_t row,
              uint8_t* column, uint8_t* out) {
  const int64_t row_bytes = s.width * s.channels;
  const Window rows(row * s.stride_h - s.padding_h, s.kernel_h, s.height);
  std::memcpy(column, image + rows.begin * row_bytes, row_bytes);
  for (int64_t y = rows.begin + 1; y < rows.end; ++y)
    take_larger(image + y * row_bytes, row_bytes, column);
  for (int64_t x = 0; x < s.out_width(); ++x, out += s.channels) {
    const Window pixels(x * s.stride_w - s.padding_w, s.kernel_w, s.width);
    std::memcpy(out, column + pixels.begin * s.channels, s.channels);
    for (int64_t p = pixels.begin + 1; p < pixels.end; ++p)
      take_larger(column + p * s.channels, s.channels, out);
  }
}

}  // namespace

void max_pool(const PoolShape& shape, const uint8_t* x, uint8_t* out,
              const Parallel& parallel) {
  const int64_t rows = shape.out_height();
  const int64_t image_bytes = shape.height * shape.width * shape.channels;
  const int64_t out_bytes = shape.out_width() * shape.channels;
  const auto body = [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> column(shape.width * shape.channels);
    for (int64_t i = begin; i < end; ++i)
      pool_row(shape, x + i / rows * image_bytes, i % rows, column.data(),
               out + i * out_bytes);
  };
  // what the rows of windows, and then windows have
  const double maxima =
      double(shape.kernel_h * shape.width + shape.kernel_w * shape.out_width());
  parallel.share(double(shape.batch * rows) * double(shape.channels) * maxima /
                     kMaxima,
                 shape.batch * rows, body);
}

}  // namespace mmcompress
