// Speed of 1-bit convolutions on one thread, without any framework:
//
//     bench_binary [KERNELS ...]
//
// For each shape and instruction set: packed -> packed (integer limits) and
// float NCHW -> float, in GOP/s (2 operations per product) and in products
// per cycle, which doesn't depend on the clock. Sets take turns; the median
// of the rounds is printed.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <random>
#include <string>
#include <vector>

#include "../cpu/binary_conv.h"

namespace {

using namespace mmcompress;

constexpr int kRounds = 15;
constexpr double kRoundSeconds = 0.02;

double cpu_seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

// A chain of dependent additions runs at one per cycle.
double cycles_per_second() {
  constexpr int kSteps = 10000000;
  const double start = cpu_seconds();
  uint64_t x = 0;
  for (int i = 0; i < kSteps; ++i) {
    x += 1;
#if defined(__GNUC__)
    asm volatile("" : "+r"(x));
#endif
  }
  return kSteps / (cpu_seconds() - start);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Parallel serial() {
  return {1, [](int64_t size, const std::function<void(int64_t, int64_t)>& f) {
            f(0, size);
          }};
}

struct Case {
  const char* name;
  int64_t channels, outputs, height, width, kernel, stride;
};

const Case kCases[] = {
    {"224, C=64", 64, 64, 56, 56, 3, 1},
    {"224, C=128", 128, 128, 28, 28, 3, 1},
    {"224, C=256", 256, 256, 14, 14, 3, 1},
    {"224, C=512", 512, 512, 7, 7, 3, 1},
    {"224, C=64 -> 128 /2", 64, 128, 56, 56, 3, 2},
    {"224, C=256 1x1", 256, 256, 14, 14, 1, 1},
    {"800x608, C=64", 64, 64, 152, 200, 3, 1},
    {"800x608, C=128", 128, 128, 76, 100, 3, 1},
    {"800x608, C=256", 256, 256, 38, 50, 3, 1},
    {"800x608, C=512", 512, 512, 19, 25, 3, 1},
    {"800x608, C=256 at /8", 256, 256, 76, 100, 3, 1},
};

// One convolution with everything that it reads and writes.
class Workload {
 public:
  explicit Workload(const Case& test) {
    const int64_t padding = test.kernel / 2;
    shape_ = {1,
              test.height,
              test.width,
              {test.outputs, test.channels, test.kernel, test.kernel, 1},
              test.stride,
              test.stride,
              padding,
              padding,
              1,
              1,
              0};
    std::mt19937 random(0);
    std::normal_distribution<float> normal;
    x_.resize(test.channels * test.height * test.width);
    for (float& value : x_) value = normal(random);
    bits_.resize(test.height * test.width * packed_bytes(test.channels));
    for (uint8_t& byte : bits_) byte = uint8_t(random());
    weight_bits_.resize(test.outputs * test.kernel * test.kernel *
                        packed_bytes(test.channels));
    for (uint8_t& byte : weight_bits_) byte = uint8_t(random());
    scale_.assign(test.outputs, 0.01f);
    limit_.assign(test.outputs, 1);
    flip_.assign(test.outputs, 0);
    const int64_t pixels = shape_.out_height() * shape_.out_width();
    y_.resize(pixels * test.outputs);
    out_bits_.resize(pixels * packed_bytes(test.outputs));
  }

  void use(const Kernels& kernels) {
    const BlobLayout layout(shape_.weight, kernels);
    // torch aligns its memory to 64 bytes
    memory_.resize(layout.total_bytes + 64);
    uint8_t* bytes = memory_.data();
    bytes += (64 - reinterpret_cast<uintptr_t>(bytes) % 64) % 64;
    prepack(weight_bits_.data(), shape_.weight, kernels, bytes);
    blob_ = open_blob(bytes, layout.total_bytes, shape_.weight);
  }

  void packed() {
    ConvInput input = {};
    input.bits = bits_.data();
    conv_bits(shape_, input, blob_, limit_.data(),
              reinterpret_cast<const bool*>(flip_.data()), out_bits_.data(),
              serial());
  }

  void floats() {
    ConvInput input = {};
    input.image = {x_.data(), 0, shape_.height * shape_.width, shape_.width,
                   1};
    FloatOutput output = {};
    output.scale = scale_.data();
    output.shift = scale_.data();
    output.y = y_.data();
    conv_float(shape_, input, blob_, output, serial());
  }

  double products() const {
    return double(shape_.out_height() * shape_.out_width()) *
           double(shape_.weight.num_outputs) *
           double(shape_.weight.products());
  }

 private:
  ConvShape shape_;
  std::vector<float> x_, scale_, y_;
  std::vector<uint8_t> bits_, weight_bits_, out_bits_, memory_, flip_;
  std::vector<int32_t> limit_;
  Blob blob_;
};

double seconds_per_call(Workload& work, void (Workload::*call)()) {
  int calls = 0;
  const double start = cpu_seconds();
  double now = start;
  while (now - start < kRoundSeconds) {
    (work.*call)();
    ++calls;
    now = cpu_seconds();
  }
  return (now - start) / calls;
}

void run(const Case& test, const std::vector<std::string>& names) {
  std::vector<Workload> workloads(names.size(), Workload(test));
  for (size_t i = 0; i < names.size(); ++i)
    workloads[i].use(kernels_by_name(names[i]));
  std::vector<std::vector<double>> packed(names.size()), floats(names.size());
  std::vector<double> clock;
  for (int round = 0; round < kRounds; ++round) {
    clock.push_back(cycles_per_second());
    for (size_t i = 0; i < names.size(); ++i) {
      packed[i].push_back(seconds_per_call(workloads[i], &Workload::packed));
      floats[i].push_back(seconds_per_call(workloads[i], &Workload::floats));
    }
  }
  const double hertz = median(clock);
  for (size_t i = 0; i < names.size(); ++i) {
    const double products = workloads[i].products();
    const double a = median(packed[i]), b = median(floats[i]);
    std::printf("%-22s %-9s %9.1f %6.0f %5.0f   %9.1f %6.0f %5.0f\n",
                test.name, names[i].c_str(), a * 1e6, 2e-9 * products / a,
                products / a / hertz, b * 1e6, 2e-9 * products / b,
                products / b / hertz);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> names(argv + 1, argv + argc);
  if (names.empty()) names = runnable_kernels();
  std::printf("%.2f GHz\n", cycles_per_second() * 1e-9);
  std::printf("%-22s %-9s %9s %6s %5s   %9s %6s %5s\n", "", "",
              "packed us", "GOP/s", "/cyc", "float us", "GOP/s", "/cyc");
  for (const Case& test : kCases) run(test, names);
}
