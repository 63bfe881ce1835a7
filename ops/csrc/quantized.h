// What fake quantization is told of values and codes, on CPUs and GPUs: see
// cpu/fake_quantize.h.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

namespace mmcompress {

// How values lie in memory: (outer, groups, inner), a scale for each group.
struct QuantizedShape {
  int64_t outer, groups, inner;

  int64_t size() const { return outer * groups * inner; }
};

// Of all groups. Null: there is none.
struct QuantizedRange {
  const float* scale;
  const float* beta;
  const float* zero_point;
  int64_t low, high;
  bool rounded;  // the mask asks whether round(u), not u, is in the range
};

// The number next to a limit, away from 0; those that are not normal count as
// 0, so that it does not matter whether they are flushed.
inline float beyond(int64_t limit, float towards) {
  if (limit == 0) return std::copysign(FLT_MIN, towards);
  return std::nextafter(float(limit), towards);
}

}  // namespace mmcompress
