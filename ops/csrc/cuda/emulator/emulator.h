// Runs the kernels on the CPU, for tests on machines without a GPU.
//
// Every CUDA thread is a fiber (ucontext). A warp runs until all of its lanes
// wait for each other or for the block; then the instruction they meet in is
// executed for the whole warp, on the registers as the PTX manual lays them
// out. So the addresses, the layouts and the control flow under test are those
// of the real kernels. What the hardware leaves open is made as nasty as
// allowed: shared memory starts as noise, warps run in random order and as far
// ahead of each other as barriers permit, and asynchronous copies arrive either
// at once or at the last moment.
//
// Not covered: the hardware itself. test_binary.cu runs the same checks there.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cassert>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

using std::max;
using std::min;

struct int4 {
  int x, y, z, w;
};
struct int2 {
  int x, y;
};
struct uint2 {
  uint32_t x, y;
};
struct float4 {
  float x, y, z, w;
};
inline int2 make_int2(int x, int y) { return {x, y}; }
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }

inline int __popcll(uint64_t bits) { return __builtin_popcountll(bits); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(uint64_t(a) * b >> 32);
}
// compile with -ffp-contract=off, or these two become one FMA
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __int2float_rn(int a) { return static_cast<float>(a); }

namespace emulator {

struct Index {
  unsigned x;
};

constexpr int kLanes = 32;
constexpr size_t kStackBytes = 128 * 1024;

struct Copy {
  void* to;
  uint8_t data[16];
  int bytes;
};

// What a lane brings to, and takes from, an instruction of the whole warp.
struct Operands {
  const void* address = nullptr;
  uint32_t a[4], b[2], result[4];
  bool vote;
};
using WarpInstruction = void (*)(Operands*);  // of kLanes

struct Fiber {
  enum State { kReady, kAtWarp, kAtBlock, kDone } state;
  ucontext_t context;
  std::vector<char> stack;
  unsigned index;
  WarpInstruction instruction;
  Operands operands;
  std::vector<Copy> open_group;
  std::vector<std::vector<Copy>> groups;
};

struct Device {
  bool late_copies = false;
  std::mt19937 random{1};
  std::vector<Fiber> fibers;
  std::vector<uint8_t> shared;
  ucontext_t scheduler;
  Fiber* current = nullptr;
  unsigned block_index = 0, block_size = 0;
  const std::function<void()>* kernel = nullptr;
};

inline Device& device() {
  static Device instance;
  return instance;
}

inline void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "emulator: %s\n", what);
  std::abort();
}

inline void require_aligned(const void* pointer, size_t bytes) {
  require(reinterpret_cast<uintptr_t>(pointer) % bytes == 0,
          "misaligned address");
}

inline void wait_in(Fiber::State state) {
  Fiber* self = device().current;
  self->state = state;
  swapcontext(&self->context, &device().scheduler);
}

inline Operands& execute(WarpInstruction instruction) {
  Fiber* self = device().current;
  self->instruction = instruction;
  wait_in(Fiber::kAtWarp);
  return self->operands;
}

inline void fiber_main() {
  (*device().kernel)();
  device().current->state = Fiber::kDone;
  // the context returns to the scheduler through uc_link
}

inline void start_fiber(Fiber& fiber, unsigned index) {
  fiber.stack.resize(kStackBytes);
  fiber.index = index;
  fiber.state = Fiber::kReady;
  fiber.open_group.clear();
  fiber.groups.clear();
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  fiber.context.uc_link = &device().scheduler;
  makecontext(&fiber.context, fiber_main, 0);
}

inline bool all_in(const Fiber* first, size_t count, Fiber::State state) {
  return std::all_of(first, first + count,
                     [=](const Fiber& f) { return f.state == state; });
}

// Runs a warp until its lanes wait for the block, or are done.
inline void run_warp(Fiber* lanes) {
  for (;;) {
    for (int i = 0; i < kLanes; ++i) {
      if (lanes[i].state != Fiber::kReady) continue;
      device().current = &lanes[i];
      swapcontext(&device().scheduler, &lanes[i].context);
    }
    if (!all_in(lanes, kLanes, Fiber::kAtWarp)) break;
    Operands operands[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      require(lanes[i].instruction == lanes[0].instruction,
              "lanes of a warp meet in different instructions");
      operands[i] = lanes[i].operands;
    }
    lanes[0].instruction(operands);
    for (int i = 0; i < kLanes; ++i) {
      lanes[i].operands = operands[i];
      lanes[i].state = Fiber::kReady;
    }
  }
  require(all_in(lanes, kLanes, Fiber::kAtBlock) ||
              all_in(lanes, kLanes, Fiber::kDone),
          "lanes of a warp wait for different things");
}

inline void run_block(int threads, int shared_bytes) {
  Device& d = device();
  d.shared.resize(shared_bytes + 16);
  for (uint8_t& byte : d.shared) byte = static_cast<uint8_t>(d.random());
  if (d.fibers.size() < static_cast<size_t>(threads)) d.fibers.resize(threads);
  for (int i = 0; i < threads; ++i) start_fiber(d.fibers[i], i);
  std::vector<int> warps(threads / kLanes);
  for (size_t i = 0; i < warps.size(); ++i) warps[i] = static_cast<int>(i);
  while (!all_in(d.fibers.data(), threads, Fiber::kDone)) {
    std::shuffle(warps.begin(), warps.end(), d.random);
    for (int warp : warps) run_warp(&d.fibers[warp * kLanes]);
    if (!all_in(d.fibers.data(), threads, Fiber::kAtBlock)) {
      require(all_in(d.fibers.data(), threads, Fiber::kDone),
              "a warp ended before a barrier of the block");
      break;
    }
    for (int i = 0; i < threads; ++i) d.fibers[i].state = Fiber::kReady;
  }
}

inline void deliver(const std::vector<Copy>& group) {
  for (const Copy& copy : group) std::memcpy(copy.to, copy.data, copy.bytes);
}

}  // namespace emulator

#define threadIdx (emulator::Index{emulator::device().current->index})
#define blockIdx (emulator::Index{emulator::device().block_index})
#define blockDim (emulator::Index{emulator::device().block_size})

inline void __syncthreads() { emulator::wait_in(emulator::Fiber::kAtBlock); }

inline void __syncwarp() {
  emulator::execute([](emulator::Operands*) {});
}

inline uint32_t __ballot_sync(uint32_t, bool vote) {
  emulator::device().current->operands.vote = vote;
  return emulator::execute([](emulator::Operands* lanes) {
           uint32_t votes = 0;
           for (int i = 0; i < emulator::kLanes; ++i)
             votes |= uint32_t(lanes[i].vote) << i;
           for (int i = 0; i < emulator::kLanes; ++i)
             lanes[i].result[0] = votes;
         })
      .result[0];
}

namespace mmcompress {
namespace cuda {

#ifdef MMCOMPRESS_EMULATE_XOR
constexpr bool kProductIsAnd = false;
#else
constexpr bool kProductIsAnd = true;
#endif

inline uint8_t* dynamic_shared() {
  const uintptr_t start =
      reinterpret_cast<uintptr_t>(emulator::device().shared.data());
  return reinterpret_cast<uint8_t*>((start + 15) / 16 * 16);
}

template <int kBytes>
void copy_or_zero(void* to, const void* from, bool inside) {
  emulator::require_aligned(to, kBytes);
  emulator::require_aligned(from, kBytes);
  emulator::Copy copy = {to, {}, kBytes};
  if (inside) std::memcpy(copy.data, from, kBytes);
  if (emulator::device().late_copies)
    emulator::device().current->open_group.push_back(copy);
  else
    emulator::deliver({copy});
}

inline void commit_copies() {
  emulator::Fiber* self = emulator::device().current;
  self->groups.push_back(std::move(self->open_group));
  self->open_group.clear();
}

template <int kPending>
void wait_for_copies() {
  auto& groups = emulator::device().current->groups;
  while (groups.size() > kPending) {
    emulator::deliver(groups.front());
    groups.erase(groups.begin());
  }
}

inline void load_matrices(uint32_t (&words)[4], const void* row) {
  emulator::require_aligned(row, 16);
  emulator::device().current->operands.address = row;
  const emulator::Operands& mine =
      emulator::execute([](emulator::Operands* lanes) {
        for (int i = 0; i < emulator::kLanes; ++i)
          for (int matrix = 0; matrix < 4; ++matrix)
            std::memcpy(&lanes[i].result[matrix],
                        static_cast<const uint8_t*>(
                            lanes[matrix * 8 + i / 4].address) +
                            i % 4 * 4,
                        4);
      });
  std::copy(mine.result, mine.result + 4, words);
}

inline int multiply_words(uint32_t a, uint32_t b, bool) {
  return __builtin_popcount(kProductIsAnd ? a & b : a ^ b);
}

inline int multiply_words(uint32_t a, uint32_t b, int) {
  int sum = 0;
  for (int i = 0; i < 32; i += 8)
    sum += static_cast<int>(a >> i & 255) * static_cast<int8_t>(b >> i & 255);
  return sum;
}

// mma.m16n8k256.b1 (Element = bool) and mma.m16n8k32.u8.s8 (int) on the
// fragments of the PTX manual, in words of 32 bits: register i of A is row
// lane / 4, plus 8 for odd i, and word lane % 4, plus 4 for i >= 2; register i
// of B is column lane / 4, word lane % 4 + 4 i.
template <class Element>
void multiply_fragments(emulator::Operands* lanes) {
  uint32_t a[16][8], b[8][8];
  for (int lane = 0; lane < emulator::kLanes; ++lane) {
    for (int i = 0; i < 4; ++i)
      a[lane / 4 + i % 2 * 8][lane % 4 + i / 2 * 4] = lanes[lane].a[i];
    for (int i = 0; i < 2; ++i)
      b[lane / 4][lane % 4 + i * 4] = lanes[lane].b[i];
  }
  for (int lane = 0; lane < emulator::kLanes; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8;
      const int column = lane % 4 * 2 + i % 2;
      lanes[lane].result[i] = 0;
      for (int word = 0; word < 8; ++word)
        lanes[lane].result[i] +=
            multiply_words(a[row][word], b[column][word], Element());
    }
  }
}

template <class Element>
void multiply_accumulate(int (&sums)[4], const uint32_t (&a)[4], uint32_t b0,
                         uint32_t b1) {
  emulator::Operands& mine = emulator::device().current->operands;
  std::copy(a, a + 4, mine.a);
  mine.b[0] = b0;
  mine.b[1] = b1;
  emulator::execute(multiply_fragments<Element>);
  // the hardware's sums wrap around
  for (int i = 0; i < 4; ++i)
    sums[i] = static_cast<int>(static_cast<uint32_t>(sums[i]) +
                               mine.result[i]);
}

inline void multiply_bits(int (&sums)[4], const uint32_t (&a)[4], uint32_t b0,
                          uint32_t b1) {
  multiply_accumulate<bool>(sums, a, b0, b1);
}

inline void multiply_codes(int (&sums)[4], const uint32_t (&a)[4], uint32_t b0,
                           uint32_t b1) {
  multiply_accumulate<int>(sums, a, b0, b1);
}

template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), int64_t grid, int threads,
                   int shared, void*, const Arguments&... arguments) {
  emulator::Device& d = emulator::device();
  const std::function<void()> call = [&] { kernel(arguments...); };
  d.kernel = &call;
  d.block_size = threads;
  for (int64_t block = 0; block < grid; ++block) {
    d.block_index = static_cast<unsigned>(block);
    emulator::run_block(threads, shared);
  }
  return nullptr;
}

inline int multiprocessor_count() { return 4; }

}  // namespace cuda
}  // namespace mmcompress
