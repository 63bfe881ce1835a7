// Which integer kernels can run on this CPU, and which are chosen.
#include <stdexcept>

#include "integer_kernels.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace mmcompress {
namespace {

struct Candidate {
  const IntegerKernels& (*table)();
  // beyond what kernels of the same name for single bits need
  bool (*can_run)();
};

bool always() { return true; }

#ifdef __x86_64__
bool has_vnni() { return __builtin_cpu_supports("avx512vnni"); }
#endif

#ifdef __aarch64__
bool has_dot_product() {
#ifdef __linux__
  constexpr unsigned long kDotProduct = 1ul << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kDotProduct) != 0;
#else
  return true;  // every 64-bit processor of Apple's computers has it
#endif
}
#endif

// slowest first, as in dispatch.cpp
const Candidate kCandidates[] = {
    {portable_integer_kernels, always},
#ifdef __x86_64__
    {avx2_integer_kernels, always},
    {avx512_integer_kernels, has_vnni},
#endif
#ifdef __aarch64__
    {neon_integer_kernels, has_dot_product},
#endif
};

}  // namespace

const IntegerKernels& integer_kernels_by_name(const std::string& name) {
  kernels_by_name(name);  // throws if this CPU has no such instructions
  const IntegerKernels* best = nullptr;
  for (const Candidate& candidate : kCandidates) {
    if (candidate.can_run()) best = &candidate.table();
    if (candidate.table().name == name) break;
  }
  return *best;
}

const IntegerKernels& best_integer_kernels() {
  static const IntegerKernels& chosen =
      integer_kernels_by_name(best_kernels().name);
  return chosen;
}

const IntegerKernels& integer_kernels_by_id(uint32_t id) {
  for (const Candidate& candidate : kCandidates)
    if (candidate.table().id == id) {
      kernels_by_name(candidate.table().name);
      if (candidate.can_run()) return candidate.table();
    }
  throw std::runtime_error(
      "blob was made for kernels that this machine does not have: run "
      "integer_prepack on this machine");
}

}  // namespace mmcompress
