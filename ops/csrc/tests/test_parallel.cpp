// When work is shared among threads: by all drivers, and by the rule itself.
#include "../cpu/parallel.h"

#include <chrono>
#include <thread>

#include "../cpu/fake_quantize.h"
#include "../cpu/integer_conv.h"
#include "../cpu/integer_row.h"
#include "../cpu/match_merge.h"
#include "../cpu/max_pool.h"
#include "../cpu/quantize.h"
#include "../cpu/roi_align.h"
#include "testing.h"

using namespace mmcompress;

namespace {

// Two threads whose work the caller does, or which come late.
struct Counted {
  int calls = 0;
  int late_milliseconds = 0;

  Parallel get() {
    return {2, [this](int64_t size,
                      const std::function<void(int64_t, int64_t)>& body) {
              ++calls;
              body(0, size);
              std::this_thread::sleep_for(
                  std::chrono::milliseconds(late_milliseconds));
            }};
  }
};

// Work of `size` values, whatever that is of an operator.
using Operator =
    std::function<void(int64_t size, const Kernels&, const Parallel&)>;

const CodesKernels& codes_of(const Kernels& kernels) {
  return codes_by_name(kernels.name);
}

constexpr Grid kGrid = {0.1f, 3, 0, 255};
constexpr int64_t kChannels = 256;

void run_pack(int64_t size, const Kernels&, const Parallel& parallel) {
  const int64_t pixels = size / kChannels;
  Array<float> x(size);
  Array<uint8_t> bits(pixels * packed_bytes(kChannels));
  pack({x.get(), size, 1, kChannels, kChannels}, 1, kChannels, pixels, 1, {},
       bits.get(), parallel);
}

void run_quantize(int64_t size, const Kernels& kernels,
                  const Parallel& parallel) {
  Array<float> x(size);
  Array<uint8_t> codes(size);
  quantize_codes(x.get(), size, kGrid, codes.get(), codes_of(kernels),
                 parallel);
}

void run_planes(int64_t size, const Kernels& kernels,
                const Parallel& parallel) {
  const int64_t pixels = size / kChannels;
  Array<float> x(size);
  Array<uint8_t> codes(size);
  quantize_planes({x.get(), 1, kChannels, pixels, size, pixels}, kGrid,
                  codes.get(), codes_of(kernels), parallel);
}

void run_layer_norm(int64_t size, const Kernels& kernels,
                    const Parallel& parallel) {
  Array<float> x(size), weight(kChannels), bias(kChannels);
  Array<uint8_t> codes(size);
  layer_norm_codes({weight.get(), bias.get(), kChannels, 1e-5f}, x.get(),
                   size / kChannels, kGrid, codes.get(), codes_of(kernels),
                   parallel);
}

// 3x3 in steps of 2.
void run_max_pool(int64_t size, const Kernels&, const Parallel& parallel) {
  const int64_t height = size / 16 / kChannels;
  Array<uint8_t> x(size), codes(size);
  max_pool({1, height, 16, kChannels, 3, 3, 2, 2, 1, 1}, x.get(), codes.get(),
           parallel);
}

void run_fake_quantize(int64_t size, const Kernels& kernels,
                       const Parallel& parallel) {
  const float scale = 0.1f;
  Array<float> x(size), y(size);
  fake_quantize({1, 1, size}, {&scale, nullptr, nullptr, -128, 127, false},
                x.get(), y.get(), kernels, parallel);
}

void run_backward(int64_t size, const Kernels& kernels,
                  const Parallel& parallel) {
  const float scale = 0.1f;
  double sums[2] = {};
  Array<float> x(size), dy(size), dx(size);
  fake_quantize_backward({1, 1, size},
                         {&scale, nullptr, nullptr, -128, 127, false}, x.get(),
                         dy.get(), dx.get(), sums, sums + 1, kernels,
                         parallel);
}

void run_roi_align(int64_t size, const Kernels& kernels,
                   const Parallel& parallel) {
  const int64_t regions = size / kChannels;
  Array<float> x(kChannels), rois(5 * regions), out(size);
  roi_align({1, kChannels, 1, 1, regions, 1, 1, 1.0f, 1, true},
            {x.get(), kChannels, 1, kChannels, kChannels}, rois.get(),
            out.get(), kernels, parallel);
}

// An image for each 2^12 values.
void run_match_merge(int64_t size, const Kernels& kernels,
                     const Parallel& parallel) {
  const MatchMergeShape shape = {size >> 12, 1, 64, 64, 64, 60};
  Array<float> x(size), out(size), mass(size);
  Array<int64_t> slot(size);
  match_merge(shape, {0},
              {x.get(), 1 << 12, 64, 64, x.get(), 1 << 12, 64, nullptr},
              {out.get(), mass.get(), slot.get()},
              tokens_by_name(kernels.name), parallel);
}

// Weights of nothing but 0, `size` of them.
void run_rows(int64_t size, const Kernels& kernels, const Parallel& parallel) {
  const RowShape shape = {size / kChannels, kChannels, 8};
  Array<uint8_t> memory(shape.total_bytes() + 64), x(kChannels);
  uint8_t* blob = memory.get() + 64 - uintptr_t(memory.get()) % 64;
  Array<float> scale(shape.outputs), y(shape.outputs);
  linear_rows(shape, blob, {x.get(), nullptr, 1, kGrid}, scale.get(), nullptr,
              y.get(), codes_of(kernels), parallel);
}

// 1x1, `size` times 16 products.
void run_conv(int64_t size, const Kernels& kernels, const Parallel& parallel) {
  const int64_t channels = 16, pixels = size / channels;
  const ConvShape shape = {1, pixels, 1, {channels, channels, 1, 1, 1},
                           1, 1,      0, 0, 1, 1, 0};
  const IntegerWeight weight = {shape.weight, 8};
  const std::vector<int8_t> zeros(channels * channels);
  const IntegerBlobPlan plan = plan_integer_blob(
      zeros, weight, 255, integer_kernels_by_name(kernels.name));
  Array<uint8_t> memory(plan.total_bytes + 64), x(size);
  uint8_t* blob = memory.get() + 64 - uintptr_t(memory.get()) % 64;
  integer_prepack(zeros, weight, plan, blob);
  Array<float> scale(channels), y(size);
  IntegerInput input = {};
  input.codes = x.get();
  input.image = {nullptr, size, 1, channels, channels};
  input.grid = {0, 0, 255};
  IntegerOutput output = {};
  output.scale = scale.get();
  output.y = y.get();
  integer_conv(shape, input, open_integer_blob(blob, plan.total_bytes, weight),
               output, parallel);
}

// What takes 20 microseconds at most, or 200 and more.
void check_operators() {
  const struct {
    const char* name;
    Operator run;
    int64_t small, large;
  } operators[] = {
      {"pack", run_pack, 1 << 15, 1 << 23},
      {"quantize_codes", run_quantize, 1 << 15, 1 << 23},
      {"quantize_planes", run_planes, 1 << 15, 1 << 23},
      {"layer_norm_codes", run_layer_norm, 1 << 15, 1 << 21},
      {"max_pool", run_max_pool, 1 << 15, 1 << 23},
      {"fake_quantize", run_fake_quantize, 1 << 15, 1 << 23},
      {"fake_quantize_backward", run_backward, 1 << 15, 1 << 22},
      {"roi_align", run_roi_align, 1 << 14, 1 << 20},
      {"match_merge", run_match_merge, 1 << 12, 1 << 19},
      {"linear_rows", run_rows, 1 << 15, 1 << 25},
      {"integer_conv", run_conv, 1 << 12, 1 << 22},
  };
  for (const std::string& name : runnable_kernels())
    for (const auto& op : operators)
      for (bool large : {false, true}) {
        Counted threads;
        op.run(large ? op.large : op.small, kernels_by_name(name),
               threads.get());
        if (threads.calls != large)
          fail(std::string(op.name) + ", " + name + ": " +
               (large ? "much work in one thread" : "threads for little"));
      }
}

void check_rule() {
  Counted counted;
  Parallel parallel = counted.get();
  parallel.num_threads = 4;
  if (parallel.threads_for(99) != 1) fail("threads for 99 microseconds");
  if (parallel.threads_for(160) != 3) fail("threads for 160 microseconds");
  if (parallel.threads_for(1e6) != 4) fail("threads for a second");
  int64_t done = 0;
  const auto body = [&](int64_t begin, int64_t end) { done += end - begin; };
  parallel.share(1e6, 10, body);
  if (done != 10 || counted.calls != 1) fail("shares of 10");
}

// All is done in one thread for a while, however wrong the estimate was.
void check_late_threads() {
  Counted late;
  const auto body = [](int64_t, int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  };
  late.get().share(1e3, 2, body);
  if (late.get().threads_for(1e3) != 2) fail("threads that were not late");
  late.late_milliseconds = 300;
  late.get().share(1e3, 2, body);
  if (late.get().threads_for(1e3) != 1) fail("threads that were late");
}

}  // namespace

int main() {
  check_rule();
  check_operators();
  check_late_threads();
  std::printf("threads passed\n");
}
