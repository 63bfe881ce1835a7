// Which kernels exist in this build, can run on this CPU, and are chosen.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"

namespace mmcompress {
namespace {

struct Candidate {
  const Kernels& (*table)();
  bool (*can_run)();
};

bool always() { return true; }

#ifdef __x86_64__
bool has_avx2() { return __builtin_cpu_supports("avx2"); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

// slowest first: MMCOMPRESS_ISA names the last one that may be used
const Candidate kCandidates[] = {
    {portable_kernels, always},
#ifdef __x86_64__
    {avx2_kernels, has_avx2},
    {avx512_kernels, has_avx512},
#endif
#ifdef __aarch64__
    {neon_kernels, always},
#endif
};

const Candidate& find(const std::string& name) {
  std::string built;
  for (const Candidate& candidate : kCandidates) {
    if (candidate.table().name == name) return candidate;
    built += std::string(built.empty() ? "" : ", ") + candidate.table().name;
  }
  throw std::runtime_error("there are no '" + name +
                           "' kernels in this build, only " + built);
}

const Kernels& require_runnable(const Candidate& candidate) {
  const Kernels& table = candidate.table();
  if (!candidate.can_run())
    throw std::runtime_error(std::string("this CPU cannot run the '") +
                             table.name + "' kernels");
  return table;
}

const Kernels& fastest() {
  const Candidate* best = kCandidates;
  for (const Candidate& candidate : kCandidates)
    if (candidate.can_run()) best = &candidate;
  return best->table();
}

}  // namespace

const Kernels& best_kernels() {
  static const Kernels& chosen = []() -> const Kernels& {
    const char* name = std::getenv("MMCOMPRESS_ISA");
    if (!name || !*name) return fastest();
    // 'reference' keeps Python from calling the kernels at all
    if (std::strcmp(name, "reference") == 0) return portable_kernels();
    try {
      return kernels_by_name(name);
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(std::string("MMCOMPRESS_ISA: ") + error.what());
    }
  }();
  return chosen;
}

const Kernels& kernels_by_name(const std::string& name) {
  return require_runnable(find(name));
}

const Kernels& kernels_by_id(uint32_t id) {
  for (const Candidate& candidate : kCandidates)
    if (candidate.table().id == id) return require_runnable(candidate);
  throw std::runtime_error(
      "blob was made for kernels that are not in this build: run "
      "binary_prepack on this machine");
}

std::vector<std::string> built_kernels() {
  std::vector<std::string> names;
  for (const Candidate& candidate : kCandidates)
    names.push_back(candidate.table().name);
  return names;
}

std::vector<std::string> runnable_kernels() {
  std::vector<std::string> names;
  for (const Candidate& candidate : kCandidates)
    if (candidate.can_run()) names.push_back(candidate.table().name);
  return names;
}

}  // namespace mmcompress
