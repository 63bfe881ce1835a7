// The driver: cuts a convolution into tasks, and a task into calls of the
// kernels that sum up products and finish the sums.
#include "integer_conv.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "integer_operand.h"
#include "rates.h"

namespace mmcompress {
namespace {

// A task's share of the input stays in the L2 cache beside the weights, but is
// large enough that weights are read from farther away seldom.
constexpr int64_t kOperandBytes = 256 * 1024;
constexpr int64_t kFewestPixels = 96;
// Weights that are read again and again for some pixels.
constexpr int64_t kWeightBytes = 128 * 1024;
// Pixels whose sums are kept meanwhile.
constexpr int64_t kBlockPixels = 96;
constexpr int64_t kMaxSegment = 64;

int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return std::max(low, std::min(value, high));
}

// The first of parts of about the same size, none larger than `most`.
int64_t even_part(int64_t size, int64_t most) {
  return ceil_div(size, ceil_div(size, most));
}

// A part of the output that one thread computes on its own.
struct Task {
  int64_t image;
  int64_t row_begin, row_end;
  int64_t segment_begin, segment_end;  // of every group
};

// Chunks of the reduction whose weights stay in a cache.
struct Block {
  int64_t first_chunk, num_chunks;
  int64_t first_step;
};

class IntegerConv {
 public:
  IntegerConv(const ConvShape& shape, const IntegerInput& input,
              const IntegerBlob& blob, const IntegerOutput& output)
      : shape_(shape),
        input_(input),
        blob_(blob),
        kernels_(*blob.kernels),
        output_(output),
        operand_(shape, input, blob),
        out_h_(shape.out_height()),
        out_w_(shape.out_width()),
        num_outputs_(shape.weight.num_outputs) {
    sum_ = blob.format == WeightFormat::kQuads   ? kernels_.sum_quads
           : blob.format == WeightFormat::kPairs ? kernels_.sum_pairs
                                                 : kernels_.sum_depthwise;
    make_chunks();
    pad_vectors(input.grid.zero_point);
    const FloatImage& r = output.residual;
    residual_in_place_ = r.stride_c == 1 &&
                         (out_h_ == 1 || r.stride_h == out_w_ * r.stride_w);
  }

  void run(const Parallel& parallel) const {
    const int64_t threads = parallel.threads_for(microseconds());
    const int64_t bands = num_bands(threads);
    // parts of a band that doesn't fill the threads: each repeats the
    // conversion of the input
    const int64_t splits = clamp(ceil_div(threads, shape_.batch * bands), 1,
                                 blob_.segments_per_group());
    const auto body = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) run(make_task(i, bands, splits));
    };
    parallel.run_in(threads, shape_.batch * bands * splits, body);
  }

 private:
  // About how long one thread takes.
  double microseconds() const {
    const Rates& rates = rates_of(kernels_.name);
    const bool depthwise = blob_.format == WeightFormat::kDepthwise;
    const double speed = depthwise ? rates.depthwise_products
                         : blob_.format == WeightFormat::kPairs
                             ? rates.pair_products
                             : rates.quad_products;
    const auto pixels = double(shape_.batch * out_h_ * out_w_);
    // with what fills vectors and steps
    const int64_t lanes =
        ceil_div(blob_.outputs_per_group, kernels_.granule) * kernels_.granule;
    const double per_pixel = double(blob_.groups * lanes) *
                             double(blob_.steps * (depthwise ? 1 : kQuad));
    const double values =
        input_.codes ? 0.0
                     : double(shape_.batch * shape_.height * shape_.width) *
                           double(shape_.weight.channels());
    return pixels * per_pixel / speed +
           pixels * double(num_outputs_) / rates.sums + values / rates.codes;
  }

  // Runs of contiguous operand, kernel rows or single taps, cut into blocks.
  void make_chunks() {
    const WeightShape& w = shape_.weight;
    const bool whole_rows =
        shape_.dilation_w == 1 && blob_.groups == 1 &&
        operand_.pixel_bytes() == operand_.group_bytes() &&
        blob_.format != WeightFormat::kDepthwise;
    const int64_t run_taps = whole_rows ? w.kernel_w : 1;
    const int64_t run_steps = blob_.steps / w.taps() * run_taps;
    const int64_t step_bytes = run_taps * operand_.group_bytes() / run_steps;
    const int64_t most =
        std::max<int64_t>(1, kWeightBytes / (blob_.lanes(0) *
                                             blob_.lane_bytes));
    const int64_t num_blocks = ceil_div(blob_.steps, most);
    const int64_t steps = ceil_div(blob_.steps, num_blocks);
    int64_t step = 0;
    for (int64_t y = 0; y < w.kernel_h; ++y)
      for (int64_t x = 0; x < w.kernel_w; x += run_taps) {
        int64_t offset =
            y * shape_.dilation_h * operand_.row_bytes() +
            x * shape_.dilation_w * operand_.pixel_bytes();
        for (int64_t left = run_steps; left > 0;) {
          if (step % steps == 0)
            blocks_.push_back({int64_t(chunks_.size()), 0, step});
          const int64_t now = std::min(left, steps - step % steps);
          chunks_.push_back({offset, now});
          ++blocks_.back().num_chunks;
          offset += now * step_bytes;
          step += now;
          left -= now;
        }
      }
  }

  // Vectors that the kernels may read to the end of a vector register.
  void pad_vectors(int32_t zero_point) {
    const bool flips = blob_.format == WeightFormat::kQuads;
    // of codes that are read as signed
    const int32_t zero = zero_point - (flips ? kernels_.flip : 0);
    const int64_t size = num_outputs_ + kMaxSegment;
    start_.resize(size);
    scale_.resize(size);
    bias_.resize(size, -0.0f);
    for (int64_t o = 0; o < num_outputs_; ++o) {
      start_[o] = -zero * blob_.weight_sums[o];
      scale_[o] = output_.scale[o];
      if (output_.bias) bias_[o] = output_.bias[o];
    }
  }

  int64_t num_bands(int64_t threads) const {
    const int64_t kernel_rows =
        (shape_.weight.kernel_h - 1) * shape_.dilation_h + 1;
    const int64_t input_rows = (out_h_ - 1) * shape_.stride_h + kernel_rows;
    const int64_t overlap =
        std::max<int64_t>(0, kernel_rows - shape_.stride_h);
    // rows that a band must have so that at most a third is converted twice,
    // and weights are used often
    const int64_t fewest =
        clamp(std::max(ceil_div(2 * overlap, shape_.stride_h),
                       kFewestPixels / out_w_),
              1, out_h_);
    const int64_t for_cache =
        ceil_div(input_rows * operand_.row_bytes(), kOperandBytes);
    const int64_t for_threads = ceil_div(threads, shape_.batch);
    return std::max(clamp(for_cache, 1, out_h_ / fewest),
                    clamp(for_threads, 1, out_h_));
  }

  Task make_task(int64_t index, int64_t bands, int64_t splits) const {
    const int64_t split = index % splits;
    const int64_t band = index / splits % bands;
    const int64_t segments = blob_.segments_per_group();
    return {index / splits / bands,
            out_h_ * band / bands,
            out_h_ * (band + 1) / bands,
            segments * split / splits,
            segments * (split + 1) / splits};
  }

  void run(const Task& task) const {
    const int64_t rows =
        (task.row_end - 1 - task.row_begin) * shape_.stride_h +
        (shape_.weight.kernel_h - 1) * shape_.dilation_h + 1;
    const uint8_t* operand = operand_.make(
        task.image, task.row_begin * shape_.stride_h - shape_.padding_h, rows);
    thread_local std::vector<const uint8_t*> pixels;
    find_pixels(task, operand, pixels);
    for (int64_t group = 0; group < blob_.groups; ++group)
      for (int64_t s = task.segment_begin; s < task.segment_end; ++s)
        run_segment(task, pixels, group, s);
  }

  // The operand at the first tap of each output pixel.
  void find_pixels(const Task& task, const uint8_t* operand,
                   std::vector<const uint8_t*>& pixels) const {
    const int64_t right = shape_.stride_w * operand_.pixel_bytes();
    const int64_t down = shape_.stride_h * operand_.row_bytes();
    int64_t rows = task.row_end - task.row_begin, columns = out_w_;
    pixels.resize(rows * columns);
    if (columns == 1) std::swap(rows, columns);
    const int64_t step = columns == out_w_ ? right : down;
    const uint8_t** pixel = pixels.data();
    for (int64_t y = 0; y < rows; ++y, operand += down, pixel += columns)
      for (int64_t x = 0; x < columns; ++x) pixel[x] = operand + x * step;
  }

  int64_t channel(int64_t group, int64_t segment) const {
    return group * blob_.outputs_per_group + segment * kernels_.segment;
  }

  void run_segment(const Task& task, const std::vector<const uint8_t*>& pixels,
                   int64_t group, int64_t segment) const {
    alignas(64) int32_t sums[kBlockPixels * kMaxSegment];
    SumArgs args = sum_args(group, segment);
    IntegerEpilogue epilogue = epilogue_args(task, group, segment);
    epilogue.sums = sums;
    epilogue.sums_stride = args.sums_stride = args.lanes;
    const auto count = int64_t(pixels.size());
    const int64_t most = blocks_.size() == 1 ? kernels_.tile : kBlockPixels;
    for (int64_t first = 0; first < count;) {
      epilogue.num_pixels = even_part(count - first, most);
      for (const Block& block : blocks_)
        sum(pixels.data() + first, epilogue.num_pixels, block, args, sums);
      finish(task, first, epilogue);
      first += epilogue.num_pixels;
      if (epilogue.y) epilogue.y += epilogue.num_pixels * num_outputs_;
      if (epilogue.codes) epilogue.codes += epilogue.num_pixels * num_outputs_;
    }
  }

  // What all pixels of a segment have in common.
  SumArgs sum_args(int64_t group, int64_t segment) const {
    SumArgs args = {};
    args.weights = blob_.weights + blob_.segment_offset(group, segment);
    args.lanes = blob_.lanes(segment);
    args.skip = blob_.format == WeightFormat::kDepthwise
                    ? segment * kernels_.segment
                    : group * operand_.group_bytes();
    args.flush = blob_.flush;
    args.start = start_.data() + channel(group, segment);
    return args;
  }

  // One block of the reduction for some pixels; changes parts of `args` that
  // the next call sets. They are not copied: that would wait for the stores.
  void sum(const uint8_t* const* pixels, int64_t count, const Block& block,
           SumArgs& args, int32_t* sums) const {
    const uint8_t* weights = args.weights;
    const int32_t* start = args.start;
    args.weights += block.first_step * args.lanes * blob_.lane_bytes;
    args.chunks = chunks_.data() + block.first_chunk;
    args.num_chunks = block.num_chunks;
    if (block.first_step > 0) args.start = nullptr;
    for (int64_t first = 0; first < count; first += args.num_pixels) {
      args.num_pixels = even_part(count - first, kernels_.tile);
      args.pixels = pixels + first;
      args.sums = sums + first * args.sums_stride;
      sum_(args);
    }
    args.weights = weights;
    args.start = start;
  }

  IntegerEpilogue epilogue_args(const Task& task, int64_t group,
                                int64_t segment) const {
    const int64_t first = channel(group, segment);
    const int64_t offset =
        (task.image * out_h_ + task.row_begin) * out_w_ * num_outputs_ + first;
    IntegerEpilogue args = {};
    args.scale = scale_.data() + first;
    args.bias = bias_.data() + first;
    args.input_scale = output_.input_scale;
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    args.lowest = output_.act == Activation::kNone ? -kInfinity : 0.0f;
    args.highest = output_.act == Activation::kRelu6 ? 6.0f : kInfinity;
    args.channels =
        std::min(kernels_.segment,
                 blob_.outputs_per_group - segment * kernels_.segment);
    args.result = output_.result;
    if (output_.y) args.y = output_.y + offset;
    if (output_.codes) args.codes = output_.codes + offset;
    args.y_stride = args.codes_stride = num_outputs_;
    args.next_scale = output_.next_scale;
    args.grid = output_.grid;
    return args;
  }

  // The pixels of a task from `first` on.
  void finish(const Task& task, int64_t first, IntegerEpilogue& args) const {
    const FloatImage& r = output_.residual;
    if (!r.data) return kernels_.finish(args);
    const int64_t pixel = task.row_begin * out_w_ + first;
    const float* origin = r.data + task.image * r.stride_n +
                          (args.scale - scale_.data()) * r.stride_c;
    if (residual_in_place_) {
      args.residual = origin + pixel * r.stride_w;
      args.residual_stride = r.stride_w;
      return kernels_.finish(args);
    }
    alignas(64) float gathered[kBlockPixels * kMaxSegment];
    gather(origin, pixel, args, gathered);
    args.residual = gathered;
    args.residual_stride = kMaxSegment;
    kernels_.finish(args);
  }

  // Copies a residual whose channels are not contiguous.
  void gather(const float* origin, int64_t pixel, const IntegerEpilogue& args,
              float* gathered) const {
    const FloatImage& r = output_.residual;
    for (int64_t p = 0; p < args.num_pixels; ++p) {
      const int64_t row = (pixel + p) / out_w_;
      const int64_t column = (pixel + p) % out_w_;
      const float* from = origin + row * r.stride_h + column * r.stride_w;
      for (int64_t c = 0; c < args.channels; ++c)
        gathered[p * kMaxSegment + c] = from[c * r.stride_c];
    }
  }

  const ConvShape& shape_;
  const IntegerInput& input_;
  const IntegerBlob& blob_;
  const IntegerKernels& kernels_;
  const IntegerOutput& output_;
  const IntegerOperand operand_;
  int64_t out_h_, out_w_, num_outputs_;
  void (*sum_)(const SumArgs& args);
  std::vector<Chunk> chunks_;
  std::vector<Block> blocks_;
  std::vector<int32_t> start_;  // of the sums: what the zero point adds
  std::vector<float> scale_, bias_;
  bool residual_in_place_;
};

bool is_uniform(const FloatImage& x, const ConvShape& shape) {
  return x.stride_h == shape.width * x.stride_w &&
         (shape.batch == 1 || x.stride_n == shape.height * x.stride_h);
}

// A 1x1 convolution sees neither rows nor images: as one column it can be cut
// anywhere.
void flatten(ConvShape& shape, FloatImage& image, FloatImage& residual) {
  const WeightShape& w = shape.weight;
  if (w.taps() != 1 || shape.stride_h != 1 || shape.stride_w != 1 ||
      shape.padding_h != 0 || shape.padding_w != 0 ||
      !is_uniform(image, shape) ||
      (residual.data && !is_uniform(residual, shape)))
    return;
  shape.height *= shape.batch * shape.width;
  shape.batch = shape.width = 1;
  image.stride_h = image.stride_w;
  residual.stride_h = residual.stride_w;
}

}  // namespace

void integer_conv(const ConvShape& shape, const IntegerInput& input,
                  const IntegerBlob& blob, const IntegerOutput& output,
                  const Parallel& parallel) {
  if (shape.batch == 0) return;
  ConvShape flat = shape;
  IntegerInput source = input;
  IntegerOutput target = output;
  flatten(flat, source.image, target.residual);
  IntegerConv(flat, source, blob, target).run(parallel);
}

}  // namespace mmcompress
