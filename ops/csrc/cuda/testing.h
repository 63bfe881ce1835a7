// What the self-tests share: memory of the device, random cases, comparisons.
// Every program has its own copy, hence the anonymous namespace.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "products.cuh"

namespace {

using namespace mmcompress::cuda;

std::mt19937 generator;
int failures = 0;

int pick(int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(generator);
}

template <class T>
T pick(std::initializer_list<T> values) {
  return values.begin()[pick(0, static_cast<int>(values.size()) - 1)];
}

float pick_float() {
  return std::normal_distribution<float>(0.0f, 1.0f)(generator);
}

void require(const char* error) {
  if (error == nullptr) return;
  std::printf("error: %s\n", error);
  std::exit(1);
}

// --- Memory of the device ----------------------------------------------------

#ifdef MMCOMPRESS_EMULATE
void* allocate(size_t bytes) {
  return std::aligned_alloc(16, (bytes + 15) / 16 * 16);
}
void release(void* pointer) { std::free(pointer); }
void copy_bytes(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
#else
void require(cudaError_t error) {
  if (error != cudaSuccess) require(cudaGetErrorString(error));
}
void* allocate(size_t bytes) {
  void* pointer = nullptr;
  require(cudaMalloc(&pointer, bytes + 1));
  return pointer;
}
void release(void* pointer) { cudaFree(pointer); }
void copy_bytes(void* to, const void* from, size_t bytes) {
  require(cudaMemcpy(to, from, bytes, cudaMemcpyDefault));
}
#endif

template <class T>
class Buffer {
 public:
  explicit Buffer(size_t count) : Buffer(noise(count)) {}
  explicit Buffer(const std::vector<T>& host)
      : count_(host.size()),
        data_(static_cast<T*>(allocate(count_ * sizeof(T)))) {
    copy_bytes(data_, host.data(), count_ * sizeof(T));
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { release(data_); }

  T* data() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    copy_bytes(values.data(), data_, count_ * sizeof(T));
    return values;
  }

 private:
  static std::vector<T> noise(size_t count) {
    std::vector<T> values(count);
    if (count > 0)
      std::memset(static_cast<void*>(values.data()), 0xa5, count * sizeof(T));
    return values;
  }

  size_t count_;
  T* data_;
};

// --- Comparisons ---------------------------------------------------------------

template <class T>
void expect_equal(const std::vector<T>& expected, const std::vector<T>& got,
                  const std::string& what) {
  if (expected.size() == got.size() &&
      (expected.empty() || std::memcmp(expected.data(), got.data(),
                                       expected.size() * sizeof(T)) == 0))
    return;
  ++failures;
  size_t wrong = 0, first = 0;
  for (size_t i = expected.size(); i-- > 0;)
    if (std::memcmp(&expected[i], &got[i], sizeof(T)) != 0) ++wrong, first = i;
  std::printf("FAILED %s: %zu of %zu differ; at %zu expected %g, got %g\n",
              what.c_str(), wrong, expected.size(), first,
              double(expected[first]), double(got[first]));
}

// --- Cases -----------------------------------------------------------------------

std::vector<float> random_floats(size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = pick_float();
  return values;
}

inline std::string describe(const ConvShape& s, const Plan& plan) {
  char text[256];
  std::snprintf(
      text, sizeof text,
      "N%d C%d %dx%d K%d kernel %dx%d stride %d,%d pad %d,%d (%s) dilation "
      "%d,%d groups %d, %s %d",
      s.batch, s.channels, s.height, s.width, s.out_channels, s.kernel_h,
      s.kernel_w, s.stride_h, s.stride_w, s.pad_h, s.pad_w,
      s.pad_minus_one ? "-1" : "0", s.dilation_h, s.dilation_w, s.groups,
      plan.kernel == Kernel::kGeneric ? "generic" : "tensor core",
      plan.block_channels);
  return text;
}

inline std::vector<Plan> plans_for(const ConvShape& s) {
  std::vector<Plan> plans = {{Kernel::kGeneric, 0}};
  if (!supports(s, Kernel::kTensorCore)) return plans;
  plans.push_back({Kernel::kTensorCore, 64});
  if (ceil_div(s.out_channels, 64) % 2 == 0)
    plans.push_back({Kernel::kTensorCore, 128});
  return plans;
}

inline ConvShape random_shape() {
  ConvShape s;
  for (;;) {
    s.batch = pick(1, 3);
    s.groups = pick(0, 5) == 0 ? pick({2, 3}) : 1;
    s.channels = s.groups * pick({1, 5, 32, 64, 64, 72, 128, 128, 192, 256});
    s.out_channels = s.groups * pick({1, 3, 32, 64, 80, 128, 128, 130});
    s.height = pick(1, 13);
    s.width = pick(1, 13);
    s.kernel_h = pick({1, 2, 3, 3, 3, 5, 7});
    s.kernel_w = pick(0, 3) ? s.kernel_h : pick({1, 3, 4});
    s.stride_h = pick(1, 3);
    s.stride_w = pick(0, 3) ? s.stride_h : pick(1, 3);
    s.pad_h = pick(0, 3);
    s.pad_w = pick(0, 3) ? s.pad_h : pick(0, 3);
    s.dilation_h = pick({1, 1, 1, 2, 3});
    s.dilation_w = pick(0, 3) ? s.dilation_h : pick({1, 2});
    if (s.height + 2 * s.pad_h > s.dilation_h * (s.kernel_h - 1) &&
        s.width + 2 * s.pad_w > s.dilation_w * (s.kernel_w - 1))
      return s;
  }
}

// --- One instruction -------------------------------------------------------------

template <class Product>
__global__ void multiply_once(const uint8_t* a, const uint32_t* b, int* sums) {
  uint8_t* shared = dynamic_shared();
  const int lane = threadIdx.x;
  for (int i = lane; i < kTilePixels * kStepBytes; i += kWarpSize)
    shared[i] = a[i];
  __syncwarp();
  uint32_t words[4];
  load_matrices(words,
                shared + matrix_row(lane) * kStepBytes + matrix_byte(lane));
  int mine[4] = {};
  const uint32_t* column = b + lane / 4 * 8;
  Product::multiply(mine, words, column[lane % 4], column[4 + lane % 4]);
  for (int half = 0; half < 2; ++half)
    for (int i = 0; i < 2; ++i)
      sums[sum_row(lane, half) * 8 + sum_column(lane) + i] = mine[2 * half + i];
}

// Rows of a (16 x 32 bytes) times rows of b (8 x 32 bytes).
template <class Product>
std::vector<int> multiplied(const std::vector<uint32_t>& a,
                            const std::vector<uint32_t>& b) {
  const Buffer<uint32_t> device_a(a), device_b(b);
  const Buffer<int> sums(16 * 8);
  require(launch(&multiply_once<Product>, 1, kWarpSize, 16 * kStepBytes,
                 nullptr, reinterpret_cast<const uint8_t*>(device_a.data()),
                 static_cast<const uint32_t*>(device_b.data()), sums.data()));
  return sums.host();
}

}  // namespace
