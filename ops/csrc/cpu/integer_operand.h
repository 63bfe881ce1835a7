// The input of an integer convolution in the form that the kernels read.
//
// A pixel of the operand holds the codes of one group after the other, each
// padded to whole steps of the reduction; kernels that multiply 16-bit numbers
// get these. Around the image lie pixels of the zero point.
#pragma once

#include <cstdint>

#include "codes_kernels.h"
#include "integer_conv.h"

namespace mmcompress {

class IntegerOperand {
 public:
  IntegerOperand(const ConvShape& shape, const IntegerInput& input,
                 const IntegerBlob& blob);

  // The operand of input rows [top, top + rows) of an image, where top may be
  // negative: the input itself if it can be read as it is, else a copy in
  // memory of this thread, which is good until its next call.
  const uint8_t* make(int64_t image, int64_t top, int64_t rows) const;

  int64_t pixel_bytes() const { return pixel_bytes_; }
  int64_t row_bytes() const { return row_bytes_; }
  int64_t group_bytes() const { return group_bytes_; }
  bool is_copy() const { return !is_direct_; }

 private:
  bool is_read(int64_t row) const;
  void fill(uint8_t* out, int64_t count, uint8_t code) const;
  void convert(int64_t image, int64_t y, int64_t count, uint8_t* out) const;
  void convert_pixels(int64_t offset, int64_t count, uint8_t* out) const;
  void convert_planes(int64_t offset, int64_t count, uint8_t* out) const;
  void take(int64_t offset, int64_t stride, int64_t count,
            uint8_t* codes) const;
  void spread(const uint8_t* codes, int64_t count, uint8_t* out) const;

  const ConvShape& shape_;
  const IntegerInput& input_;
  const CodesKernels& codes_;
  Grid grid_;
  int64_t channels_;       // of all groups
  int64_t group_channels_;
  int64_t padded_;         // of a group, with filler
  int64_t element_bytes_;
  uint8_t flip_;
  bool is_plain_;  // the operand of a pixel is its codes, one after the other
  bool is_direct_;
  int64_t group_bytes_, pixel_bytes_, row_bytes_;
  // rows of `width_` pixels, of which `left_` are halo and `inside_` from the
  // image
  int64_t width_, left_, inside_;
};

}  // namespace mmcompress
