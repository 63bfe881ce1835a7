#include "match_merge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "rates.h"

namespace mmcompress {
namespace {

// So many tokens ahead keys are fetched into the cache.
constexpr int64_t kAhead = 2;

// Who may leave, and where to: the same for all images.
struct Roles {
  std::vector<int32_t> sources, destinations;  // positions, ascending
  std::vector<int32_t> place;  // of a position in its list; -1: protected

  Roles(int64_t tokens, const std::vector<int64_t>& protected_tokens)
      : place(tokens) {
    for (int64_t position : protected_tokens) place[position] = -1;
    for (int64_t i = 0; i < tokens; ++i) {
      if (place[i] < 0) continue;
      std::vector<int32_t>& list = i % 2 ? destinations : sources;
      place[i] = int32_t(list.size());
      list.push_back(int32_t(i));
    }
  }
};

struct FreeFloats {
  void operator()(float* p) const { std::free(p); }
};
using Floats = std::unique_ptr<float[], FreeFloats>;

// Not initialized, at the beginning of a cache line.
Floats new_floats(int64_t count) {
  const size_t bytes = size_t(ceil_div(std::max<int64_t>(count, 1), 16)) * 64;
  void* memory = std::aligned_alloc(64, bytes);
  if (!memory) throw std::bad_alloc();
  return Floats(static_cast<float*>(memory));
}

// The vectors of some tokens as Similarities want them.
struct Panels {
  int64_t tile, dims, count;
  Floats data;

  // Behind the last token is `filling`.
  Panels(int64_t tile_, int64_t dims_, int64_t tokens, float filling)
      : tile(tile_),
        dims(dims_),
        count(ceil_div(tokens, tile_)),
        data(new_floats(count * tile_ * dims_)) {
    if (tokens % tile)
      std::fill(panel(count - 1), panel(count - 1) + tile * dims, filling);
  }

  float* panel(int64_t i) const { return data.get() + i * tile * dims; }
  float* token(int64_t i) const { return panel(i / tile) + i % tile; }
};

// Similarities in descending order, then places in ascending order, as
// integers in ascending order.
uint64_t rank_of(float similarity, int64_t place) {
  similarity += 0.0f;  // -0 is 0
  uint32_t bits;
  std::memcpy(&bits, &similarity, sizeof bits);
  const uint32_t ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t(~ascending) << 32 | uint64_t(place);
}

// Matches and merges one image after the other.
class Merger {
 public:
  Merger(const MatchMergeShape& shape, const Roles& roles,
         int64_t num_protected, const MatchMergeInput& input,
         const MatchMergeOutput& output, const TokenKernels& kernels)
      : shape_(shape),
        roles_(roles),
        num_protected_(num_protected),
        num_sources_(int64_t(roles.sources.size())),
        num_destinations_(int64_t(roles.destinations.size())),
        input_(input),
        output_(output),
        kernels_(kernels),
        rows_(kernels.tile_rows, shape.dims, num_sources_, 0.0f),
        columns_(kernels.tile_columns, shape.dims, num_destinations_,
                 std::numeric_limits<float>::quiet_NaN()),
        best_(rows_.count * rows_.tile),
        column_(rows_.count * rows_.tile),
        ranks_(num_sources_),
        next_(num_sources_),
        token_(shape.num_new),
        first_(shape.num_new) {}

  // Runs each of the parts by `run(size, part)`.
  template <typename Run>
  void merge(int64_t image, const Run& run) {
    run(shape_.tokens, [&](int64_t begin, int64_t end) {
      make_panels(image, begin, end);
    });
    run(rows_.count,
        [&](int64_t begin, int64_t end) { find_best(begin, end); });
    number(output_.slot + image * shape_.tokens);
    run(shape_.num_new, [&](int64_t begin, int64_t end) {
      merge_rows(image, begin, end);
    });
  }

 private:
  void make_panels(int64_t image, int64_t begin, int64_t end) const {
    const Floats scratch = new_floats(shape_.dims);
    TokenKeys keys = {input_.keys + image * input_.key_batch_stride,
                      input_.key_head_stride, shape_.heads, shape_.dims, 0};
    const float* first = keys.data;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t place = roles_.place[i];
      if (place < 0) continue;
      const Panels& panels = i % 2 ? columns_ : rows_;
      keys.data = first + i * input_.key_token_stride;
      keys.next = i + kAhead < end ? kAhead * input_.key_token_stride : 0;
      kernels_.unit_key(keys, scratch.get(), panels.tile,
                        panels.token(place));
    }
  }

  void find_best(int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      kernels_.find_best({rows_.panel(i), columns_.data.get(),
                          num_destinations_, shape_.dims,
                          best_.data() + i * rows_.tile,
                          column_.data() + i * rows_.tile});
  }

  // Where each token goes, and for each new one a token that stays and a list
  // of those that come to it.
  void number(int64_t* slot) {
    const int64_t leaving = shape_.tokens - shape_.num_new;
    for (int64_t i = 0; i < num_sources_; ++i)
      ranks_[i] = rank_of(best_[i], i);
    // they stay in the order of their positions, unless nothing is protected
    if (num_protected_ == 0)
      std::sort(ranks_.begin(), ranks_.end());
    else if (leaving > 0 && leaving < num_sources_)
      std::nth_element(ranks_.begin(), ranks_.begin() + leaving,
                       ranks_.end());
    const auto place_of = [&](int64_t i) {
      return int64_t(uint32_t(ranks_[i]));
    };
    if (num_protected_ > 0)
      std::sort(ranks_.begin() + leaving, ranks_.end(),
                [](uint64_t a, uint64_t b) {
                  return uint32_t(a) < uint32_t(b);
                });
    std::fill(first_.begin(), first_.end(), -1);
    int64_t next_slot = 0;
    for (int64_t i = 0; i < shape_.tokens && next_slot < num_protected_; ++i)
      if (roles_.place[i] < 0) stay(i, next_slot++, slot);
    for (int64_t i = leaving; i < num_sources_; ++i)
      stay(roles_.sources[place_of(i)], next_slot++, slot);
    const int64_t first_destination = next_slot;
    for (int64_t position : roles_.destinations)
      stay(position, next_slot++, slot);
    std::sort(ranks_.begin(), ranks_.begin() + leaving,
              [](uint64_t a, uint64_t b) { return uint32_t(a) > uint32_t(b); });
    for (int64_t i = 0; i < leaving; ++i) {
      const int64_t place = place_of(i);
      const int64_t target = first_destination + column_[place];
      slot[roles_.sources[place]] = target;
      next_[place] = first_[target];
      first_[target] = int32_t(place);
    }
  }

  void stay(int64_t position, int64_t target, int64_t* slot) {
    slot[position] = target;
    token_[target] = int32_t(position);
  }

  void merge_rows(int64_t image, int64_t begin, int64_t end) const {
    const float* x = input_.x + image * input_.x_batch_stride;
    const float* masses =
        input_.mass ? input_.mass + image * shape_.tokens : nullptr;
    const size_t row_bytes = size_t(shape_.channels) * sizeof(float);
    std::vector<const float*> rows;
    std::vector<float> weights;
    for (int64_t i = begin; i < end; ++i) {
      float* out = output_.x + (image * shape_.num_new + i) * shape_.channels;
      const float* row = x + token_[i] * input_.x_token_stride;
      float mass = masses ? masses[token_[i]] : 1.0f;
      if (first_[i] < 0) {
        std::memcpy(out, row, row_bytes);
      } else {
        rows.assign(1, row);
        weights.assign(1, mass);
        for (int32_t s = first_[i]; s >= 0; s = next_[s]) {
          const int64_t position = roles_.sources[s];
          rows.push_back(x + position * input_.x_token_stride);
          weights.push_back(masses ? masses[position] : 1.0f);
          mass += weights.back();
        }
        kernels_.average({rows.data(), weights.data(), int64_t(rows.size()),
                          mass, shape_.channels, out});
      }
      if (mass == 0.0f) std::memset(out, 0, row_bytes);
      output_.mass[image * shape_.num_new + i] = mass;
    }
  }

  const MatchMergeShape& shape_;
  const Roles& roles_;
  int64_t num_protected_, num_sources_, num_destinations_;
  const MatchMergeInput& input_;
  const MatchMergeOutput& output_;
  const TokenKernels& kernels_;
  Panels rows_, columns_;
  std::vector<float> best_;
  std::vector<int32_t> column_;
  std::vector<uint64_t> ranks_;
  std::vector<int32_t> next_;   // source that goes where this one does
  std::vector<int32_t> token_;  // of a new one
  std::vector<int32_t> first_;  // source that comes to a new one
};

double microseconds(const MatchMergeShape& shape, const TokenKernels& kernels) {
  const Rates& rates = rates_of(kernels.name);
  const double pairs = 0.25 * double(shape.tokens) * double(shape.tokens);
  const double values = double(shape.heads * shape.dims + shape.channels);
  return pairs * double(shape.dims) / rates.similarity_products +
         double(shape.tokens) * values / rates.token_values;
}

}  // namespace

void match_merge(const MatchMergeShape& shape,
                 const std::vector<int64_t>& protected_tokens,
                 const MatchMergeInput& input, const MatchMergeOutput& output,
                 const TokenKernels& kernels, const Parallel& parallel) {
  const Roles roles(shape.tokens, protected_tokens);
  const auto merger = [&] {
    return Merger(shape, roles, int64_t(protected_tokens.size()), input,
                  output, kernels);
  };
  const int64_t threads = parallel.threads_for(
      double(shape.batch) * microseconds(shape, kernels));
  if (shape.batch >= threads)
    return parallel.run_in(
        threads, shape.batch, [&](int64_t begin, int64_t end) {
          Merger images = merger();
          const auto alone = [](int64_t size, const auto& part) {
            part(0, size);
          };
          for (int64_t i = begin; i < end; ++i) images.merge(i, alone);
        });
  Merger images = merger();
  const auto together = [&](int64_t size, const auto& part) {
    parallel.run_in(threads, size, part);
  };
  for (int64_t i = 0; i < shape.batch; ++i) images.merge(i, together);
}

}  // namespace mmcompress
