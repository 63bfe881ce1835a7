// The instructions that have no C++ spelling, each under its own name.
//
// With MMCOMPRESS_EMULATE the same names come from emulator/emulator.h, and an
// ordinary C++ compiler builds the kernels for the CPU.
#pragma once

#ifdef MMCOMPRESS_EMULATE
#include "emulator/emulator.h"
#else

#include <cuda_runtime.h>

#include <cstdint>

namespace mmcompress {
namespace cuda {

// Turing has only the XOR form of the 1-bit product. Hopper has only the AND
// form in hardware (its XOR is a subroutine), and everything between has both.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool kProductIsAnd = false;
#else
constexpr bool kProductIsAnd = true;
#endif

extern __shared__ uint4 shared_memory[];
__device__ inline uint8_t* dynamic_shared() {
  return reinterpret_cast<uint8_t*>(shared_memory);
}

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies kBytes (8 or 16) from global to shared memory, or zeros if not
// `inside`; asynchronously where the hardware can. `from` must be a valid
// address in both cases.
template <int kBytes>
__device__ inline void copy_or_zero(void* to, const void* from, bool inside) {
#if __CUDA_ARCH__ >= 800
  const int size = inside ? kBytes : 0;
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(size)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;\n" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(size)
                 : "memory");
  }
#else
  if constexpr (kBytes == 16) {
    *static_cast<uint4*>(to) = inside ? *static_cast<const uint4*>(from)
                                      : make_uint4(0, 0, 0, 0);
  } else {
    *static_cast<uint2*>(to) =
        inside ? *static_cast<const uint2*>(from) : make_uint2(0, 0);
  }
#endif
}

// Closes this thread's current group of copies.
__device__ inline void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits until at most kPending groups of this thread are under way.
template <int kPending>
__device__ inline void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
#endif
}

// ldmatrix: four 8x8 matrices of 16-bit elements. Lane i gives the address of
// row i % 8 of matrix i / 8; lane i gets word i % 4 of row i / 4 of each.
__device__ inline void load_matrices(uint32_t (&words)[4], const void* row) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
      : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
      : "r"(shared_address(row))
      : "memory");
}

// sums[16][8] += popcount(a[16][256 bits] OP b[8][256 bits]), OP by
// kProductIsAnd. With g = lane / 4 and t = lane % 4 a lane holds
//   a: words t of rows g and g + 8, then words 4 + t of these rows,
//   b: words t and 4 + t of column g,
//   sums: columns 2t and 2t + 1 of row g, then of row g + 8.
__device__ inline void multiply_bits(int (&sums)[4], const uint32_t (&a)[4],
                                     uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const auto quarter = [](int& s0, int& s1, uint32_t rows, uint32_t columns) {
    asm volatile(
        "mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc "
        "{%0, %1}, {%2}, {%3}, {%0, %1};\n"
        : "+r"(s0), "+r"(s1)
        : "r"(rows), "r"(columns));
  };
  quarter(sums[0], sums[1], a[0], b0);
  quarter(sums[0], sums[1], a[2], b1);
  quarter(sums[2], sums[3], a[1], b0);
  quarter(sums[2], sums[3], a[3], b1);
#endif
}

// sums[16][8] += a[16][32] b[8][32], unsigned bytes times signed ones. A lane
// holds the same words as for multiply_bits.
__device__ inline void multiply_codes(int (&sums)[4], const uint32_t (&a)[4],
                                      uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const auto quarter = [](int& s0, int& s1, uint32_t rows, uint32_t columns) {
    asm volatile(
        "mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 "
        "{%0, %1}, {%2}, {%3}, {%0, %1};\n"
        : "+r"(s0), "+r"(s1)
        : "r"(rows), "r"(columns));
  };
  quarter(sums[0], sums[1], a[0], b0);
  quarter(sums[0], sums[1], a[2], b1);
  quarter(sums[2], sums[3], a[1], b0);
  quarter(sums[2], sums[3], a[3], b1);
#endif
}

// Kernel<<<grid, threads, shared, stream>>>(arguments...), checked.
template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), int64_t grid, int threads,
                   int shared, void* stream, const Arguments&... arguments) {
  if (grid == 0) return nullptr;
  if (grid > INT32_MAX) return "the output is too large for one kernel launch";
  cudaError_t error = cudaSuccess;
  if (shared > 48 * 1024)  // beyond this, CUDA wants to be asked
    error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (error == cudaSuccess) {
    kernel<<<static_cast<unsigned>(grid), threads, shared,
             static_cast<cudaStream_t>(stream)>>>(arguments...);
    error = cudaGetLastError();
  }
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

inline int multiprocessor_count() {
  int device = 0;
  int count = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count;
}

}  // namespace cuda
}  // namespace mmcompress

#endif  // MMCOMPRESS_EMULATE
