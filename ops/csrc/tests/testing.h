// What the tests share: random choices, memory to the byte, threads, failure.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../cpu/binary_conv.h"

namespace {

using mmcompress::Parallel;

std::mt19937 generator;

inline int64_t choose(std::initializer_list<int64_t> values) {
  return values.begin()[generator() % values.size()];
}

inline bool coin() { return generator() % 2; }

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

// Exactly so many elements on the heap, so that the address sanitizer sees
// what is read or written too much.
template <typename T>
struct Array {
  explicit Array(int64_t size_) : size(size_), data(new T[size_]()) {}
  Array(Array&&) = default;
  T& operator[](int64_t i) { return data[i]; }
  const T& operator[](int64_t i) const { return data[i]; }
  T* get() const { return data.get(); }

  bool operator==(const Array& other) const {
    return size == other.size &&
           std::memcmp(get(), other.get(), size * sizeof(T)) == 0;
  }

  int64_t size;
  std::unique_ptr<T[]> data;
};

// Shares out any work, however small.
inline Parallel threads(int64_t count) {
  return {count, [count](int64_t size,
                         const std::function<void(int64_t, int64_t)>& body) {
            std::vector<std::thread> pool;
            for (int64_t i = 0; i < count; ++i)
              pool.emplace_back(body, size * i / count,
                                size * (i + 1) / count);
            for (std::thread& thread : pool) thread.join();
          },
          /*least_microseconds=*/0};
}

}  // namespace
