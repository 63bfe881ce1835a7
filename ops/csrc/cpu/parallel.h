// Threads, and how many of them a piece of work is worth.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

namespace mmcompress {

// Runs `body(begin, end)` on parts of [0, size) in up to `num_threads`.
struct Parallel {
  int64_t num_threads;
  std::function<void(int64_t size,
                     const std::function<void(int64_t, int64_t)>& body)>
      run;
  // A thread's share must take so long. One that sleeps needs 40 to 60 us to
  // wake up (libgomp on a virtual machine), so that two threads would be
  // slower than one; while they still spin it is 3 us.
  double least_microseconds = 50;

  // How many threads work pays for that takes one thread so long.
  int64_t threads_for(double microseconds) const {
    if (least_microseconds <= 0) return num_threads;
    const double most = microseconds / least_microseconds;
    return most < double(num_threads) ? std::max(int64_t(most), int64_t(1))
                                      : num_threads;
  }

  // The same as `run`, in at most `threads`.
  void run_in(int64_t threads, int64_t size,
              const std::function<void(int64_t, int64_t)>& body) const {
    threads = std::min(threads, size);
    if (threads <= 1) return body(0, size);
    run(threads, [&](int64_t begin, int64_t end) {
      body(size * begin / threads, size * end / threads);
    });
  }
};

}  // namespace mmcompress
