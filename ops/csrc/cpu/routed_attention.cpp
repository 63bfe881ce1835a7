#include "routed_attention.h"

#include <memory>
#include <vector>

#include "rates.h"

namespace mmcompress {
namespace {

// Calls visit(offset, token) for the tokens of a region of height x width.
template <typename Visit>
void visit_tokens(const TokenMap& map, int64_t grid_w, int64_t region,
                  int64_t height, int64_t width, const Visit& visit) {
  const int64_t top = region / grid_w * height, left = region % grid_w * width;
  int64_t token = 0;
  for (int64_t y = top; y < top + height; ++y)
    for (int64_t x = left; x < left + width; ++x)
      visit(y * map.stride_h + x * map.stride_w, token++);
}

// Keys of a region as the kernels read them: (heads, dims, keys).
void transpose_keys(const RoutedShape& s, const TokenMap& k, int64_t image,
                    int64_t region, float* blocks) {
  const int64_t channels = s.heads * s.dims, keys = s.keys();
  visit_tokens(k, s.grid_w, region, s.key_h, s.key_w,
               [&](int64_t offset, int64_t token) {
                 const float* source = k.data + image * k.stride_n + offset;
                 float* target = blocks + token;
                 for (int64_t c = 0; c < channels; ++c, target += keys)
                   *target = source[c];
               });
}

// Attends region after region, with memory for one.
class Regions {
 public:
  Regions(const RoutedShape& shape, const TokenMap& q, const TokenMap& v,
          const float* blocks, const int64_t* routes, float* out,
          const AttentionKernels& kernels)
      : s_(shape),
        q_(q),
        v_(v),
        blocks_(blocks),
        routes_(routes),
        kernels_(kernels),
        queries_(shape.queries()),
        outs_(shape.queries()),
        query_starts_(shape.queries()),
        out_starts_(shape.queries()),
        key_blocks_(shape.topk),
        value_offsets_(shape.topk * shape.keys()) {
    const int64_t row = s_.grid_w * s_.query_w * s_.heads * s_.value_dims;
    out_ = {out, s_.grid_h * s_.query_h * row, row, s_.heads * s_.value_dims};
    target_ = out;
    args_.dims = s_.dims;
    args_.scale = s_.scale;
    args_.num_queries = s_.queries();
    args_.num_blocks = s_.topk;
    args_.block_keys = s_.keys();
    args_.value_dims = s_.value_dims;
    args_.queries = queries_.data();
    args_.key_blocks = key_blocks_.data();
    args_.value_offsets = value_offsets_.data();
    args_.out = outs_.data();
    const int64_t stride = args_.key_stride();
    memory_.reset(new float[(s_.dims + kQueries) * stride +
                            kQueries * s_.dims]);
    scratch_.keys = memory_.get();
    scratch_.scores = scratch_.keys + s_.dims * stride;
    scratch_.queries = scratch_.scores + kQueries * stride;
  }

  void run(int64_t image, int64_t region) {
    visit_tokens(q_, s_.grid_w, region, s_.query_h, s_.query_w,
                 [&](int64_t offset, int64_t token) {
                   query_starts_[token] =
                       q_.data + image * q_.stride_n + offset;
                 });
    visit_tokens(out_, s_.grid_w, region, s_.query_h, s_.query_w,
                 [&](int64_t offset, int64_t token) {
                   out_starts_[token] =
                       target_ + image * out_.stride_n + offset;
                 });
    const int64_t* route =
        routes_ + (image * s_.regions() + region) * s_.topk;
    for (int64_t i = 0; i < s_.topk; ++i)
      visit_tokens(v_, s_.grid_w, route[i], s_.key_h, s_.key_w,
                   [&](int64_t offset, int64_t token) {
                     value_offsets_[i * s_.keys() + token] = offset;
                   });
    for (int64_t head = 0; head < s_.heads; ++head)
      run_head(image, head, route);
  }

 private:
  void run_head(int64_t image, int64_t head, const int64_t* route) {
    for (int64_t i = 0; i < s_.queries(); ++i) {
      queries_[i] = query_starts_[i] + head * s_.dims;
      outs_[i] = out_starts_[i] + head * s_.value_dims;
    }
    for (int64_t i = 0; i < s_.topk; ++i)
      key_blocks_[i] = blocks_ + ((image * s_.regions() + route[i]) *
                                      s_.heads + head) * s_.dims * s_.keys();
    args_.values = v_.data + image * v_.stride_n + head * s_.value_dims;
    kernels_.attend(args_, scratch_);
  }

  const RoutedShape& s_;
  const TokenMap& q_;
  const TokenMap& v_;
  TokenMap out_;
  float* target_;
  const float* blocks_;
  const int64_t* routes_;
  const AttentionKernels& kernels_;
  std::vector<const float*> queries_;
  std::vector<float*> outs_;
  std::vector<const float*> query_starts_;
  std::vector<float*> out_starts_;
  std::vector<const float*> key_blocks_;
  std::vector<int64_t> value_offsets_;
  std::unique_ptr<float[]> memory_;
  RegionAttention args_ = {};
  AttentionScratch scratch_ = {};
};

}  // namespace

void routed_attention(const RoutedShape& shape, const TokenMap& q,
                      const TokenMap& k, const TokenMap& v,
                      const int64_t* routes, float* out,
                      const AttentionKernels& kernels,
                      const Parallel& parallel) {
  const int64_t regions = shape.regions(), num = shape.batch * regions;
  const int64_t block = shape.keys() * shape.heads * shape.dims;
  const std::unique_ptr<float[]> blocks(new float[num * block]);
  parallel.share(double(num) * double(block) / kTransposed, num,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i)
                     transpose_keys(shape, k, i / regions, i % regions,
                                    blocks.get() + i * block);
                 });
  const double products =
      double(num) * double(shape.queries()) * double(shape.topk) *
      double(shape.keys()) * double(shape.heads) *
      double(shape.dims + shape.value_dims);
  parallel.share(products / rates_of(kernels.name).attention_products, num,
                 [&](int64_t begin, int64_t end) {
                   Regions worker(shape, q, v, blocks.get(), routes, out,
                                  kernels);
                   for (int64_t i = begin; i < end; ++i)
                     worker.run(i / regions, i % regions);
                 });
}

}  // namespace mmcompress
