// Threads, and how many of them a piece of work is worth.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

namespace mmcompress {

inline double microseconds_now() {
  using Microseconds = std::chrono::duration<double, std::micro>;
  return Microseconds(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Until when one thread does all: see `run_in`.
inline std::atomic<double>& serial_until() {
  static std::atomic<double> time{0.0};
  return time;
}

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

  // How many threads work pays for that takes one thread so long: estimate it
  // by rates.h, and rather too short.
  int64_t threads_for(double microseconds) const {
    if (least_microseconds <= 0) return num_threads;
    const double most = microseconds / least_microseconds;
    if (num_threads == 1 || most < 2 || microseconds_now() < serial_until())
      return 1;
    return most < double(num_threads) ? int64_t(most) : num_threads;
  }

  // The same as `run`, in at most `threads`. Where other programs keep the
  // processors busy, a thread waits 8 to 30 ms for one: after such a loss one
  // thread does all for twenty times as long, so that little is lost in all.
  void run_in(int64_t threads, int64_t size,
              const std::function<void(int64_t, int64_t)>& body) const {
    threads = std::min(threads, size);
    if (threads <= 1) return body(0, size);
    // the caller's own share says how long the others should have taken
    const std::thread::id caller = std::this_thread::get_id();
    const double start = microseconds_now();
    double own_end = start;
    run(threads, [&](int64_t begin, int64_t end) {
      body(size * begin / threads, size * end / threads);
      if (std::this_thread::get_id() == caller) own_end = microseconds_now();
    });
    const double end = microseconds_now();
    if (end - own_end > 4 * (own_end - start) + 2000)
      serial_until() = end + 20 * (end - own_end);
  }

  // In as many threads as the work pays for.
  void share(double microseconds, int64_t size,
             const std::function<void(int64_t, int64_t)>& body) const {
    run_in(threads_for(microseconds), size, body);
  }
};

}  // namespace mmcompress
