// How fast the tensor cores are without memory: the bounds of the 1-bit and of
// the integer kernels. Prints operations per second, 2 per multiply-accumulate.
#include <cstdio>
#include <cstdlib>

#include "primitives.cuh"

using namespace mmcompress::cuda;

namespace {

constexpr int kChains = 8;  // independent instructions under way per warp
constexpr int kRepeats = 4096;
constexpr int kThreads = 256;

struct OneBit {
  static constexpr double kOperations = 2.0 * 16 * 8 * 256;
  __device__ static void run(int (&sums)[4], const uint32_t (&a)[4],
                             uint32_t b0, uint32_t b1) {
    multiply_bits(sums, a, b0, b1);
  }
};

struct Int8 {
  static constexpr double kOperations = 2.0 * 16 * 8 * 32;
  __device__ static void run(int (&sums)[4], const uint32_t (&a)[4],
                             uint32_t b0, uint32_t b1) {
    multiply_codes(sums, a, b0, b1);
  }
};

template <class Instruction>
__global__ void repeat(uint32_t seed, int* out) {
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; ++i) a[i] = (seed + threadIdx.x) * (2 * i + 77777u);
  for (int i = 0; i < 2; ++i) b[i] = (seed ^ threadIdx.x) * (2 * i + 99991u);
  int sums[kChains][4] = {};
  for (int repeat = 0; repeat < kRepeats; ++repeat)
#pragma unroll
    for (int chain = 0; chain < kChains; ++chain)
      Instruction::run(sums[chain], a, b[0], b[1]);
  int total = 0;
#pragma unroll
  for (int chain = 0; chain < kChains; ++chain)
    for (int i = 0; i < 4; ++i) total += sums[chain][i];
  out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}

void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("%s\n", cudaGetErrorString(error));
  std::exit(1);
}

template <class Instruction>
double rate(int blocks, int* out) {
  cudaEvent_t start, end;
  check(cudaEventCreate(&start));
  check(cudaEventCreate(&end));
  float best = 0;
  for (int round = 0; round < 20; ++round) {  // the first ones warm up
    check(cudaEventRecord(start));
    repeat<Instruction><<<blocks, kThreads>>>(round, out);
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start, end));
    if (best == 0 || milliseconds < best) best = milliseconds;
  }
  return Instruction::kOperations * kChains * kRepeats * blocks *
         (kThreads / 32) / (best * 1e-3);
}

}  // namespace

int main() {
  const int blocks = 4 * multiprocessor_count();
  int* out = nullptr;
  check(cudaMalloc(&out, sizeof(int) * blocks * kThreads));
  const double one_bit = rate<OneBit>(blocks, out);
  const double int8 = rate<Int8>(blocks, out);
  std::printf("mma.sync b1: %.0f TOPS, u8 x s8: %.0f TOPS, ratio %.2f\n",
              one_bit / 1e12, int8 / 1e12, one_bit / int8);
  return 0;
}
