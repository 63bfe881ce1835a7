// ToMe's matching and merge: keys of length 1, the best destination of each
// source without the matrix of all products, numbers, averages. No atomics:
// the order of sums is always the same, so that equal keys tie.
#include <cmath>

#include "primitives.cuh"
#include "token_ops.h"

namespace mmcompress {
namespace cuda {
namespace {

constexpr int kThreads = 256;
// Keys and rows of tokens.
constexpr int kRowThreads = 128;
// Sources and destinations of a tile; a thread multiplies 4 by 4 of them.
constexpr int kTile = 64;
constexpr int kEach = 4;
constexpr int kSide = kTile / kEach;
// Dimensions in shared memory at a time.
constexpr int kDims = 16;

// Who may leave, and where to.
struct Roles {
  ProtectedTokens fixed;
  int tokens, sources, destinations, leaving;

  Roles(const MatchMergeShape& shape, const ProtectedTokens& fixed_)
      : fixed(fixed_),
        tokens(static_cast<int>(shape.tokens)),
        sources((tokens + 1) / 2),
        destinations(tokens / 2),
        leaving(static_cast<int>(shape.tokens - shape.num_new)) {
    for (int i = 0; i < fixed.count; ++i)
      --(fixed.positions[i] % 2 ? destinations : sources);
  }

  __device__ int first_destination() const {
    return fixed.count + sources - leaving;
  }
  // Of the source (parity 0) or destination (1) at a place of its list.
  __device__ int position(int place, int parity) const {
    int position = 2 * place + parity;
    for (int i = 0; i < fixed.count; ++i)
      if (fixed.positions[i] % 2 == parity && fixed.positions[i] <= position)
        position += 2;
    return position;
  }
};

// What the kernels hand to each other, for all images.
struct Scratch {
  float* keys;   // (batch, tokens, dims), of length 1
  float* best;   // (batch, sources)
  int* column;   // the same: place of the best destination
  int* rank;     // the same
  int* next;     // the same: source that goes where this one does, or -1
  int* token;    // (batch, num_new): one that stays
  int* first;    // the same: source that comes to it, or -1

  Scratch(const MatchMergeShape& shape, void* memory) {
    const int64_t sources = shape.batch * ((shape.tokens + 1) / 2);
    const int64_t news = shape.batch * shape.num_new;
    keys = static_cast<float*>(memory);
    best = keys + shape.batch * shape.tokens * shape.dims;
    column = reinterpret_cast<int*>(best + sources);
    rank = column + sources;
    next = rank + sources;
    token = next + sources;
    first = token + news;
  }
};

// The sum over the block's threads; all of them call it.
__device__ float add_up(float value) {
  float* shared = reinterpret_cast<float*>(dynamic_shared());
  shared[threadIdx.x] = value;
  __syncthreads();
  for (int distance = kRowThreads / 2; distance > 0; distance /= 2) {
    if (static_cast<int>(threadIdx.x) < distance)
      shared[threadIdx.x] += shared[threadIdx.x + distance];
    __syncthreads();
  }
  return shared[0];
}

// A block: one token.
__global__ void make_keys(MatchMergeShape shape, MatchMergeInput input,
                          float* keys) {
  const int64_t image = blockIdx.x / shape.tokens;
  const int64_t token = blockIdx.x % shape.tokens;
  const float* source = input.keys + image * input.key_batch_stride +
                        token * input.key_token_stride;
  float* out = keys + int64_t(blockIdx.x) * shape.dims;
  float squares = 0.0f;
  for (int64_t d = threadIdx.x; d < shape.dims; d += kRowThreads) {
    float sum = source[d];
    for (int64_t h = 1; h < shape.heads; ++h)
      sum += source[h * input.key_head_stride + d];
    out[d] = sum;
    squares += sum * sum;
  }
  squares = add_up(squares);
  const float factor = squares == 0.0f ? 1.0f : 1.0f / sqrtf(squares);
  for (int64_t d = threadIdx.x; d < shape.dims; d += kRowThreads)
    out[d] *= factor;
}

// A block: some sources of an image, with all destinations.
__global__ void find_best(MatchMergeShape shape, Roles roles, int tiles,
                          Scratch scratch) {
  const int64_t image = blockIdx.x / tiles;
  const int first_row = static_cast<int>(blockIdx.x % tiles) * kTile;
  const float* keys = scratch.keys + image * shape.tokens * shape.dims;
  float* rows = reinterpret_cast<float*>(dynamic_shared());
  float* columns = rows + kDims * kTile;
  const int thread = threadIdx.x;
  const int row = thread / kSide, column = thread % kSide;
  float best[kEach];
  int where[kEach];
  for (int i = 0; i < kEach; ++i) {
    best[i] = -INFINITY;
    where[i] = 0;
  }
  for (int first = 0; first < roles.destinations; first += kTile) {
    float sums[kEach][kEach] = {};
    for (int64_t from = 0; from < shape.dims; from += kDims) {
      __syncthreads();
      for (int i = thread; i < kTile * kDims; i += kThreads) {
        const int64_t d = from + i % kDims;
        const int a = first_row + i / kDims, b = first + i / kDims;
        const int at = i % kDims * kTile + i / kDims;
        rows[at] = a < roles.sources && d < shape.dims
                       ? keys[roles.position(a, 0) * shape.dims + d]
                       : 0.0f;
        columns[at] = b < roles.destinations && d < shape.dims
                          ? keys[roles.position(b, 1) * shape.dims + d]
                          : 0.0f;
      }
      __syncthreads();
      for (int d = 0; d < kDims; ++d)
        for (int i = 0; i < kEach; ++i)
          for (int j = 0; j < kEach; ++j)
            sums[i][j] += rows[d * kTile + row + i * kSide] *
                          columns[d * kTile + column + j * kSide];
    }
    for (int i = 0; i < kEach; ++i)
      for (int j = 0; j < kEach; ++j) {
        const int place = first + column + j * kSide;
        const float sum =
            sums[i][j] > kMostSimilar ? kMostSimilar : sums[i][j];
        if (place < roles.destinations && sum > best[i]) {
          best[i] = sum;
          where[i] = place;
        }
      }
  }
  // the first of the threads' largest
  float* values = rows;
  int* places = reinterpret_cast<int*>(columns);
  __syncthreads();
  for (int i = 0; i < kEach; ++i) {
    values[(row + i * kSide) * kSide + column] = best[i];
    places[(row + i * kSide) * kSide + column] = where[i];
  }
  __syncthreads();
  if (thread >= kTile || first_row + thread >= roles.sources) return;
  values += thread * kSide;
  places += thread * kSide;
  int most = 0;
  for (int i = 1; i < kSide; ++i)
    if (values[i] > values[most] ||
        (values[i] == values[most] && places[i] < places[most]))
      most = i;
  const int64_t at = image * roles.sources + first_row + thread;
  scratch.best[at] = values[most];
  scratch.column[at] = places[most];
}

// A block: one image.
__global__ void number(MatchMergeShape shape, Roles roles, Scratch scratch,
                       int64_t* slot) {
  const int64_t image = blockIdx.x;
  const float* best = scratch.best + image * roles.sources;
  const int* column = scratch.column + image * roles.sources;
  int* rank = scratch.rank + image * roles.sources;
  int* next = scratch.next + image * roles.sources;
  int* token = scratch.token + image * shape.num_new;
  int* first = scratch.first + image * shape.num_new;
  slot += image * shape.tokens;
  const int thread = threadIdx.x;
  for (int i = thread; i < roles.sources; i += kThreads) {
    int before = 0;
    for (int j = 0; j < roles.sources; ++j)
      before += best[j] > best[i] || (best[j] == best[i] && j < i);
    rank[i] = before;
  }
  __syncthreads();
  for (int i = thread; i < roles.fixed.count; i += kThreads) {
    slot[roles.fixed.positions[i]] = i;
    token[i] = roles.fixed.positions[i];
    first[i] = -1;
  }
  for (int i = thread; i < roles.sources; i += kThreads) {
    int target = rank[i] - roles.leaving;
    const int position = roles.position(i, 0);
    if (target < 0) {
      slot[position] = roles.first_destination() + column[i];
      continue;
    }
    if (roles.fixed.count > 0) {
      target = roles.fixed.count;
      for (int j = 0; j < i; ++j) target += rank[j] >= roles.leaving;
    }
    slot[position] = target;
    token[target] = position;
    first[target] = -1;
  }
  for (int i = thread; i < roles.destinations; i += kThreads) {
    const int target = roles.first_destination() + i;
    slot[roles.position(i, 1)] = target;
    token[target] = roles.position(i, 1);
    int* last = first + target;
    for (int j = 0; j < roles.sources; ++j)
      if (rank[j] < roles.leaving && column[j] == i) {
        *last = j;
        last = next + j;
      }
    *last = -1;
  }
}

// A block: one new token.
__global__ void merge_rows(MatchMergeShape shape, Roles roles,
                           MatchMergeInput input, Scratch scratch,
                           MatchMergeOutput output) {
  const int64_t image = blockIdx.x / shape.num_new;
  const float* x = input.x + image * input.x_batch_stride;
  const float* mass =
      input.mass ? input.mass + image * shape.tokens : nullptr;
  const int* next = scratch.next + image * roles.sources;
  const int token = scratch.token[blockIdx.x];
  const int first = scratch.first[blockIdx.x];
  const float own = mass ? mass[token] : 1.0f;
  float total = own;
  for (int i = first; i >= 0; i = next[i])
    total += mass ? mass[roles.position(i, 0)] : 1.0f;
  if (threadIdx.x == 0) output.mass[blockIdx.x] = total;
  float* out = output.x + int64_t(blockIdx.x) * shape.channels;
  for (int64_t c = threadIdx.x; c < shape.channels; c += kRowThreads) {
    float value = x[token * input.x_token_stride + c];
    if (first >= 0) {
      value *= own;
      for (int i = first; i >= 0; i = next[i]) {
        const int other = roles.position(i, 0);
        const float factor = mass ? mass[other] : 1.0f;
        value += factor * x[other * input.x_token_stride + c];
      }
      value /= total;
    }
    out[c] = total == 0.0f ? 0.0f : value;
  }
}

}  // namespace

size_t match_merge_scratch(const MatchMergeShape& shape) {
  const int64_t sources = shape.batch * ((shape.tokens + 1) / 2);
  const int64_t news = shape.batch * shape.num_new;
  return 4 * (shape.batch * shape.tokens * shape.dims + 4 * sources + 2 * news);
}

const char* match_merge(const MatchMergeShape& shape,
                        const ProtectedTokens& protected_tokens,
                        const MatchMergeInput& input,
                        const MatchMergeOutput& output, void* memory,
                        void* stream) {
  const Roles roles(shape, protected_tokens);
  const Scratch scratch(shape, memory);
  const char* error =
      launch(&make_keys, shape.batch * shape.tokens, kRowThreads,
             kRowThreads * static_cast<int>(sizeof(float)), stream, shape,
             input, scratch.keys);
  const int tiles = (roles.sources + kTile - 1) / kTile;
  if (!error)
    error = launch(&find_best, shape.batch * tiles, kThreads,
                   2 * kDims * kTile * static_cast<int>(sizeof(float)), stream,
                   shape, roles, tiles, scratch);
  if (!error)
    error = launch(&number, shape.batch, kThreads, 0, stream, shape, roles,
                   scratch, output.slot);
  if (error) return error;
  return launch(&merge_rows, shape.batch * shape.num_new, kRowThreads, 0,
                stream, shape, roles, input, scratch, output);
}

}  // namespace cuda
}  // namespace mmcompress
