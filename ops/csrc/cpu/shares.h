// Work in shares that are worth a thread each.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "binary_conv.h"

namespace mmcompress {

// Runs `body(begin, end)` on parts of [0, size), in no more threads than give
// each of them `grain` or more. Starting threads takes microseconds, even on
// an idle machine.
inline void run_shares(
    int64_t size, int64_t grain, const Parallel& parallel,
    const std::function<void(int64_t begin, int64_t end)>& body) {
  const int64_t shares =
      std::min(parallel.num_threads, size / std::max<int64_t>(grain, 1));
  if (shares <= 1) {
    body(0, size);
    return;
  }
  parallel.run(shares, [&](int64_t begin, int64_t end) {
    body(size * begin / shares, size * end / shares);
  });
}

}  // namespace mmcompress
