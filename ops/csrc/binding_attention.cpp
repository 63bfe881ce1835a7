// Attention of CPU tensors, see binding.cpp.
#include <torch/csrc/stable/library.h>

#include <algorithm>

#include "cpu/kernels.h"
#include "cpu/routed_attention.h"
#include "cpu_tensors.h"

namespace {

using namespace mmcompress::binding;
using mmcompress::AttentionKernels;
using mmcompress::RoutedShape;
using mmcompress::TokenMap;

const AttentionKernels& kernels() {
  static const AttentionKernels& chosen =
      mmcompress::attention_by_name(mmcompress::best_kernels().name);
  return chosen;
}

void check_map(const char* name, const Tensor& x, const Tensor& q,
               const Ints& grid, int64_t num_heads) {
  check_like(name, x, ScalarType::Float, q);
  STD_TORCH_CHECK(x.dim() == 4, name, " must be (N, H, W, C), it has shape ",
                  text(shape_of(x)));
  check_sizes(name, x);
  STD_TORCH_CHECK(x.size(1) > 0 && x.size(2) > 0 &&
                      x.size(1) % grid[0] == 0 && x.size(2) % grid[1] == 0,
                  name, " of ", text({x.size(1), x.size(2)}),
                  " tokens must divide into a grid of ", text(grid),
                  " regions");
  STD_TORCH_CHECK(x.size(3) > 0 && x.size(3) % num_heads == 0, name, " has ",
                  x.size(3), " channels, num_heads ", num_heads,
                  " must divide them");
}

void check_routes(const Tensor& routes, const Tensor& q, int64_t regions) {
  check_like("routes", routes, ScalarType::Long, q);
  STD_TORCH_CHECK(routes.dim() == 3 && routes.size(0) == q.size(0) &&
                      routes.size(1) == regions && routes.size(2) > 0,
                  "routes must be (", q.size(0), ", ", regions,
                  ", topk), it has shape ", text(shape_of(routes)));
  check_sizes("routes", routes);
}

const int64_t* routes_of(const Tensor& routes, int64_t regions) {
  const int64_t* begin = static_cast<const int64_t*>(routes.data_ptr());
  const int64_t* end = begin + routes.numel();
  const int64_t* wrong = std::find_if(begin, end, [&](int64_t region) {
    return region < 0 || region >= regions;
  });
  STD_TORCH_CHECK(wrong == end, "routes must name regions, 0 to ", regions - 1,
                  ": ", wrong == end ? 0 : *wrong);
  return begin;
}

// Channels must lie next to each other; all else may be strided.
Tensor with_channels_together(const Tensor& x) {
  return x.size(3) == 1 || x.stride(3) == 1 ? x : torch::stable::contiguous(x);
}

TokenMap map_of(const Tensor& x) {
  return {floats(x), x.stride(0), x.stride(1), x.stride(2)};
}

Tensor routed_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& routes, const Ints& grid,
                        int64_t num_heads, double scale) {
  check_pair("grid", grid, 1);
  STD_TORCH_CHECK(num_heads >= 1 && num_heads <= kMaxGeometry,
                  "num_heads must be from 1 to ", kMaxGeometry, ", it is ",
                  num_heads);
  // false where it is not a number
  STD_TORCH_CHECK(scale >= -1e30 && scale <= 1e30,
                  "scale must be a number from -1e30 to 1e30, it is ", scale);
  check_map("q", q, q, grid, num_heads);
  check_map("k", k, q, grid, num_heads);
  check_map("v", v, q, grid, num_heads);
  STD_TORCH_CHECK(k.size(0) == q.size(0) && k.size(3) == q.size(3),
                  "k must have as many images and channels as q, ", q.size(0),
                  " and ", q.size(3), ", it has shape ", text(shape_of(k)));
  STD_TORCH_CHECK(v.size(0) == k.size(0) && v.size(1) == k.size(1) &&
                      v.size(2) == k.size(2),
                  "v must have the tokens of k, ",
                  text({k.size(0), k.size(1), k.size(2)}), ", it has shape ",
                  text(shape_of(v)));
  const int64_t regions = grid[0] * grid[1];
  check_routes(routes, q, regions);
  Tensor out = new_floats({q.size(0), q.size(1), q.size(2), v.size(3)});
  if (out.numel() == 0) return out;
  const Tensor table = as_contiguous(routes);
  const Tensor queries = with_channels_together(q);
  const Tensor keys = with_channels_together(k);
  const Tensor values = with_channels_together(v);
  const RoutedShape shape = {q.size(0),
                             grid[0],
                             grid[1],
                             q.size(1) / grid[0],
                             q.size(2) / grid[1],
                             k.size(1) / grid[0],
                             k.size(2) / grid[1],
                             routes.size(2),
                             num_heads,
                             q.size(3) / num_heads,
                             v.size(3) / num_heads,
                             float(scale)};
  mmcompress::routed_attention(shape, map_of(queries), map_of(keys),
                               map_of(values), routes_of(table, regions),
                               floats(out), kernels(), torch_threads());
  return out;
}

STABLE_TORCH_LIBRARY_FRAGMENT(mmcompress, m) {
  m.def(
      "routed_attention(Tensor q, Tensor k, Tensor v, Tensor routes, int[2] "
      "grid, int num_heads, float scale) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(mmcompress, CPU, m) {
  m.impl("routed_attention", TORCH_BOX(&routed_attention));
}

}  // namespace
