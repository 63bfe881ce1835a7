// The driver: cuts a convolution into tasks, brings the input into the form
// that the counting kernel reads, and hands its sums to an epilogue.
#include "binary_conv.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "rates.h"

namespace mmcompress {
namespace {

// A task's share of the input stays in the L2 cache beside the weights.
constexpr int64_t kOperandBytes = 192 * 1024;
// Pixels that are packed at once; their bits stay in the L1 cache.
constexpr int64_t kPackPixels = 256;
constexpr int64_t kMaxTile = 32;

int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return std::max(low, std::min(value, high));
}

// Memory that a thread keeps from call to call.
template <typename T>
class Scratch {
 public:
  T* get(int64_t size) {
    if (int64_t(storage_.size()) < size) storage_.resize(size);
    return storage_.data();
  }

 private:
  std::vector<T> storage_;
};

struct Workspace {
  Scratch<uint8_t> operand;
  Scratch<uint8_t> bits;
  Scratch<uint8_t> regrouped;
  Scratch<const uint8_t*> pixels;
  Scratch<int64_t> places;
  Scratch<int32_t> corrections;
  Scratch<int32_t> k;
};

Workspace& workspace() {
  thread_local Workspace instance;
  return instance;
}

// Owns what a Comparison points at.
class PaddedComparison {
 public:
  PaddedComparison(const Thresholds& source, int64_t channels)
      : threshold_(ceil_div(channels, 64) * 64, 0.0f) {
    if (source.threshold)
      std::copy_n(source.threshold, channels, threshold_.begin());
    if (!source.flip ||
        std::none_of(source.flip, source.flip + channels,
                     [](bool flip) { return flip; }))
      return;
    sign_.resize(threshold_.size(), 0);
    for (int64_t c = 0; c < channels; ++c)
      if (source.flip[c]) {
        sign_[c] = 0x80000000u;
        threshold_[c] = -threshold_[c];
      }
  }

  Comparison get() const {
    return {threshold_.data(), sign_.empty() ? nullptr : sign_.data()};
  }

 private:
  std::vector<float> threshold_;
  std::vector<uint32_t> sign_;
};

// Moves the bits of each group to a multiple of 64: (pixels, packed_bytes(C))
// -> (pixels, groups, packed_bytes(C / groups)).
void regroup(const uint8_t* bits, const WeightShape& weight,
             int64_t num_pixels, uint8_t* out) {
  const int64_t channels = weight.channels_per_group;
  const int64_t row_bytes = packed_bytes(weight.channels());
  const int64_t group_bytes = packed_bytes(channels);
  std::memset(out, 0, num_pixels * weight.groups * group_bytes);
  for (int64_t p = 0; p < num_pixels; ++p, bits += row_bytes)
    for (int64_t group = 0; group < weight.groups; ++group, out += group_bytes)
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t from = group * channels + c;
        const int bit = bits[from / 8] >> (from % 8) & 1;
        out[c / 8] |= uint8_t(bit << (c % 8));
      }
}

// What one call of a counting kernel produced.
struct Tile {
  int64_t image;
  int64_t first;  // output pixel in the image, row by row
  int64_t num_pixels;
  int64_t channel;
  int64_t channels;  // up to 64
  const int32_t* k;
  int64_t k_stride;
};

class Output {
 public:
  virtual ~Output() = default;
  // Called before a tile is counted: asks for memory that `write` touches.
  virtual void prefetch(const Tile&) const {}
  virtual void write(const Tile& tile) const = 0;
  // Where nothing is to be corrected in between.
  virtual void count_and_write(const Kernels& kernels, const CountArgs& args,
                               const Tile& tile) const {
    kernels.count(args);
    write(tile);
  }
  // Where `args` has starts; false, and nothing done, if that is impossible.
  virtual bool count_from(const Kernels&, const CountArgs&,
                          const Tile&) const {
    return false;
  }
};

void prefetch_for_writing(const float* first, int64_t size) {
  constexpr int64_t kLine = 16;  // floats
  for (int64_t i = 0; i < size; i += kLine) __builtin_prefetch(first + i, 1);
}

class CountOutput : public Output {
 public:
  CountOutput(const ConvShape& shape, int32_t* k)
      : pixels_(shape.out_height() * shape.out_width()),
        channels_(shape.weight.num_outputs),
        k_(k) {}

  void write(const Tile& tile) const override {
    int32_t* out = k_ + (tile.image * pixels_ + tile.first) * channels_;
    for (int64_t p = 0; p < tile.num_pixels; ++p)
      std::memcpy(out + p * channels_ + tile.channel,
                  tile.k + p * tile.k_stride,
                  tile.channels * sizeof(int32_t));
  }

 private:
  int64_t pixels_;
  int64_t channels_;
  int32_t* k_;
};

class BitsOutput : public Output {
 public:
  BitsOutput(const ConvShape& shape, const Kernels& kernels,
             const int32_t* limit, const bool* flip, uint8_t* bits)
      : kernels_(kernels),
        pixels_(shape.out_height() * shape.out_width()),
        row_bytes_(packed_bytes(shape.weight.num_outputs)),
        limit_(row_bytes_ * 8, 0),
        most_(row_bytes_ * 8, 0),
        flip_(row_bytes_ / 8, 0),
        bits_(bits) {
    const int64_t n = shape.weight.products();
    std::copy_n(limit, shape.weight.num_outputs, limit_.begin());
    for (int64_t o = 0; o < shape.weight.num_outputs; ++o) {
      // n - 2 * mismatches >= limit; a shift rounds down
      most_[o] = int32_t(clamp((n - limit[o]) >> 1, -1, n));
      flip_[o / 64] |= uint64_t(flip[o]) << (o % 64);
    }
  }

  void write(const Tile& tile) const override {
    kernels_.finish_bits(arguments(tile));
  }

  void count_and_write(const Kernels& kernels, const CountArgs& args,
                       const Tile& tile) const override {
    if (!count_from(kernels, args, tile))
      Output::count_and_write(kernels, args, tile);
  }

  bool count_from(const Kernels& kernels, const CountArgs& args,
                  const Tile& tile) const override {
    if (kernels.count_bits) kernels.count_bits(args, arguments(tile));
    return kernels.count_bits != nullptr;
  }

 private:
  BitsEpilogue arguments(const Tile& tile) const {
    BitsEpilogue args;
    args.limit = limit_.data() + tile.channel;
    args.most = most_.data() + tile.channel;
    args.flip = flip_[tile.channel / 64];
    args.channels = tile.channels;
    args.num_pixels = tile.num_pixels;
    args.k = tile.k;
    args.k_stride = tile.k_stride;
    args.bits = bits_ + (tile.image * pixels_ + tile.first) * row_bytes_ +
                tile.channel / 8;
    args.bits_stride = row_bytes_;
    return args;
  }

  const Kernels& kernels_;
  int64_t pixels_;
  int64_t row_bytes_;
  std::vector<int32_t> limit_;
  std::vector<int32_t> most_;
  std::vector<uint64_t> flip_;
  uint8_t* bits_;
};

class AffineOutput : public Output {
 public:
  AffineOutput(const ConvShape& shape, const Kernels& kernels,
               const FloatOutput& output)
      : kernels_(kernels),
        width_(shape.out_width()),
        pixels_(shape.out_height() * shape.out_width()),
        channels_(shape.weight.num_outputs),
        row_bytes_(packed_bytes(channels_)),
        output_(output),
        next_(output.next, output.bits ? channels_ : 0) {
    const FloatImage& r = output.residual;
    residual_in_place_ =
        r.stride_c == 1 &&
        (shape.out_height() == 1 || r.stride_h == width_ * r.stride_w);
  }

  void prefetch(const Tile& tile) const override {
    if (!output_.y) return;
    const int64_t pixel = tile.image * pixels_ + tile.first;
    float* y = output_.y + pixel * channels_ + tile.channel;
    for (int64_t p = 0; p < tile.num_pixels; ++p)
      prefetch_for_writing(y + p * channels_, tile.channels);
  }

  void write(const Tile& tile) const override {
    const int64_t pixel = tile.image * pixels_ + tile.first;
    const int64_t channel = tile.channel;
    float gathered[kMaxTile * kSegment];
    FloatEpilogue args;
    args.scale = output_.scale + channel;
    args.shift = output_.shift + channel;
    args.pre = output_.pre ? output_.pre + channel : nullptr;
    args.slope = output_.slope ? output_.slope + channel : nullptr;
    args.post = output_.post ? output_.post + channel : nullptr;
    args.channels = tile.channels;
    args.num_pixels = tile.num_pixels;
    args.k = tile.k;
    args.k_stride = tile.k_stride;
    set_residual(tile, gathered, args);
    args.y = output_.y ? output_.y + pixel * channels_ + channel : nullptr;
    args.y_stride = channels_;
    args.bits = output_.bits
                    ? output_.bits + pixel * row_bytes_ + channel / 8
                    : nullptr;
    args.bits_stride = row_bytes_;
    if (output_.bits) args.next = next_.get().from(channel);
    kernels_.finish_float(args);
  }

 private:
  // Points at the residual where its channels are contiguous, else copies it.
  void set_residual(const Tile& tile, float* gathered,
                    FloatEpilogue& args) const {
    const FloatImage& r = output_.residual;
    args.residual = nullptr;
    args.residual_stride = 0;
    if (!r.data) return;
    const float* data =
        r.data + tile.image * r.stride_n + tile.channel * r.stride_c;
    if (residual_in_place_) {
      args.residual = data + tile.first * r.stride_w;
      args.residual_stride = r.stride_w;
      return;
    }
    for (int64_t p = 0; p < tile.num_pixels; ++p) {
      const int64_t row = (tile.first + p) / width_;
      const int64_t column = (tile.first + p) % width_;
      const float* from = data + row * r.stride_h + column * r.stride_w;
      for (int64_t c = 0; c < tile.channels; ++c)
        gathered[p * kSegment + c] = from[c * r.stride_c];
    }
    args.residual = gathered;
    args.residual_stride = kSegment;
  }

  const Kernels& kernels_;
  int64_t width_;
  int64_t pixels_;
  int64_t channels_;
  int64_t row_bytes_;
  FloatOutput output_;
  PaddedComparison next_;
  bool residual_in_place_;
};

// Kernel taps [low, high) along one axis that lie in the image.
struct TapRange {
  int64_t low;
  int64_t high;
  bool is_whole;
};

TapRange taps_inside(int64_t start, int64_t dilation, int64_t taps,
                     int64_t size) {
  const int64_t low =
      start >= 0 ? 0 : std::min(taps, ceil_div(-start, dilation));
  const int64_t high =
      start >= size ? 0 : std::min(taps, ceil_div(size - start, dilation));
  return {low, std::max(low, high), low == 0 && high == taps};
}

// Which taps lie in the image, along one axis. Number 0: all of them.
class TapRanges {
 public:
  void add(const TapRange& range) {
    int64_t number = 0;
    if (!range.is_whole) {
      // those of neighbours are often the same
      number = int64_t(ranges_.size()) - 1;
      while (number > 0 && !same(ranges_[number], range)) --number;
      if (number == 0) {
        number = int64_t(ranges_.size());
        ranges_.push_back(range);
      }
    }
    numbers_.push_back(number);
  }

  // At an output row or column.
  int64_t number(int64_t position) const { return numbers_[position]; }
  const TapRange& range(int64_t number) const { return ranges_[number]; }
  int64_t count() const { return int64_t(ranges_.size()); }
  void set_whole(int64_t taps) { ranges_ = {{0, taps, true}}; }

 private:
  static bool same(const TapRange& a, const TapRange& b) {
    return a.low == b.low && a.high == b.high;
  }

  std::vector<TapRange> ranges_;
  std::vector<int64_t> numbers_;
};

// A part of the output that one thread computes on its own.
struct Task {
  int64_t image;
  int64_t row_begin, row_end;
  int64_t segment_begin, segment_end;  // of every group
};

// Output pixels of a task, row by row.
struct Band {
  Task task;
  int64_t size;
  const uint8_t* const* pixels;  // operand at the first tap
  const int64_t* places;  // 0: inside; else the number of a correction
};

class Conv {
 public:
  Conv(const ConvShape& shape, const ConvInput& input, const Blob& blob,
       const Output& output)
      : shape_(shape),
        weight_(shape.weight),
        input_(input),
        blob_(blob),
        kernels_(*blob.kernels),
        output_(output),
        compare_(input.thresholds, weight_.channels()),
        out_h_(shape.out_height()),
        out_w_(shape.out_width()) {
    const int64_t steps =
        ceil_div(weight_.channels_per_group, kernels_.step_channels);
    group_bytes_ = steps * kernels_.step_bytes;
    pixel_bytes_ = group_bytes_ * weight_.groups;
    width_ = (out_w_ - 1) * shape.stride_w +
             (weight_.kernel_w - 1) * shape.dilation_w + 1;
    row_bytes_ = width_ * pixel_bytes_;
    left_ = std::min(shape.padding_w, width_);
    inside_ = clamp(width_ - left_, 0, shape.width);
    const bool skips_halo = shape.pad_value == 0;
    const bool has_neutral = kernels_.has_neutral(weight_.channels_per_group);
    halo_ = skips_halo && has_neutral ? kernels_.neutral : kernels_.minus_one;
    correct_border_ = skips_halo && !has_neutral &&
                      (shape.padding_h > 0 || shape.padding_w > 0);
    make_chunks(steps);
    if (!correct_border_) return;
    row_taps_.set_whole(weight_.kernel_h);
    for (int64_t y = 0; y < out_h_; ++y)
      row_taps_.add(taps_inside(y * shape.stride_h - shape.padding_h,
                                shape.dilation_h, weight_.kernel_h,
                                shape.height));
    column_taps_.set_whole(weight_.kernel_w);
    for (int64_t x = 0; x < out_w_; ++x)
      column_taps_.add(taps_inside(x * shape.stride_w - shape.padding_w,
                                   shape.dilation_w, weight_.kernel_w,
                                   shape.width));
  }

  void run(const Parallel& parallel) const {
    const int64_t threads = parallel.threads_for(microseconds());
    const int64_t bands = num_bands(threads);
    // blocks of a band that doesn't fill the threads: each repeats the
    // conversion of the input, which is cheap beside the counting
    const int64_t splits =
        needs_all_segments()
            ? 1
            : clamp(ceil_div(threads, shape_.batch * bands), 1,
                    weight_.segments_per_group());
    const auto body = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        run(make_task(i, bands, splits));
    };
    parallel.run_in(threads, shape_.batch * bands * splits, body);
  }

 private:
  // About how long one thread takes.
  double microseconds() const {
    // with what fills vectors and words: most of a depthwise convolution
    const double per_pixel =
        double(weight_.groups * weight_.segments_per_group() * blob_.lanes) *
        double(weight_.taps()) *
        double(group_bytes_ / kernels_.step_bytes * kernels_.step_channels);
    const double products =
        double(shape_.batch * out_h_ * out_w_) * per_pixel;
    const double values =
        input_.bits ? 0.0
                    : double(shape_.batch * shape_.height * shape_.width) *
                          double(weight_.channels());
    const Rates& rates = rates_of(kernels_.name);
    return products / rates.sign_products + values / rates.packed_values;
  }

  // Groups whose outputs don't end at a multiple of 64: bytes of packed
  // output belong to two groups, so all of a tile's channels are kept.
  bool needs_all_segments() const {
    return weight_.groups > 1 && weight_.outputs_per_group() % kSegment != 0;
  }

  int64_t num_bands(int64_t threads) const {
    const int64_t input_rows =
        (out_h_ - 1) * shape_.stride_h +
        (weight_.kernel_h - 1) * shape_.dilation_h + 1;
    const int64_t overlap = std::max<int64_t>(
        0, (weight_.kernel_h - 1) * shape_.dilation_h + 1 - shape_.stride_h);
    // rows that a band must have so that at most a third is converted twice
    const int64_t fewest =
        clamp(ceil_div(2 * overlap, shape_.stride_h), 1, out_h_);
    const int64_t for_cache =
        ceil_div(input_rows * row_bytes_, kOperandBytes);
    const int64_t for_threads = ceil_div(threads, shape_.batch);
    return clamp(std::max(for_cache, for_threads), 1, out_h_ / fewest);
  }

  Task make_task(int64_t index, int64_t bands, int64_t splits) const {
    const int64_t split = index % splits;
    const int64_t band = index / splits % bands;
    const int64_t segments = weight_.segments_per_group();
    return {index / splits / bands,
            out_h_ * band / bands,
            out_h_ * (band + 1) / bands,
            segments * split / splits,
            segments * (split + 1) / splits};
  }

  // Runs of contiguous operand: kernel rows, or single taps.
  void make_chunks(int64_t steps) {
    const bool whole_rows = shape_.dilation_w == 1 && weight_.groups == 1;
    const int64_t run_taps = whole_rows ? weight_.kernel_w : 1;
    const int64_t run_steps = run_taps * steps;
    const int64_t pieces = ceil_div(run_steps, kernels_.max_chunk_steps);
    for (int64_t y = 0; y < weight_.kernel_h; ++y)
      for (int64_t x = 0; x < weight_.kernel_w; x += run_taps) {
        const int64_t start = y * shape_.dilation_h * row_bytes_ +
                              x * shape_.dilation_w * pixel_bytes_;
        for (int64_t i = 0; i < pieces; ++i) {
          const int64_t begin = run_steps * i / pieces;
          const int64_t end = run_steps * (i + 1) / pieces;
          chunks_.push_back(
              {start + begin * kernels_.step_bytes, end - begin});
        }
      }
  }

  // Converts contiguous pixels of the input: image rows y, from column 0.
  void convert(int64_t image, int64_t y, int64_t num_pixels,
               uint8_t* operand) const {
    const int64_t bits_bytes = packed_bytes(weight_.channels());
    const bool is_regrouped =
        weight_.groups > 1 && weight_.channels_per_group % 64 != 0;
    Workspace& work = workspace();
    for (int64_t first = 0; first < num_pixels; first += kPackPixels) {
      const int64_t count = std::min(kPackPixels, num_pixels - first);
      const uint8_t* bits;
      if (input_.bits) {
        bits = input_.bits +
               ((image * shape_.height + y) * shape_.width + first) *
                   bits_bytes;
      } else {
        const FloatImage& x = input_.image;
        const float* data = x.data + image * x.stride_n + y * x.stride_h +
                            first * x.stride_w;
        uint8_t* packed = work.bits.get(kPackPixels * bits_bytes);
        kernels_.pack({data, x.stride_c, x.stride_w}, weight_.channels(),
                      count, compare_.get(), packed);
        bits = packed;
      }
      if (is_regrouped) {
        uint8_t* out = work.regrouped.get(
            kPackPixels * weight_.groups *
            packed_bytes(weight_.channels_per_group));
        regroup(bits, weight_, count, out);
        bits = out;
      }
      kernels_.expand(bits, weight_.channels_per_group,
                      count * weight_.groups, operand);
      operand += count * pixel_bytes_;
    }
  }

  // Whether a tap of some output row reads row `y` below the first row of a
  // band: a 1x1 kernel of stride 2 skips every other one.
  bool is_read(int64_t y) const {
    for (int64_t tap = 0; tap < weight_.kernel_h; ++tap)
      if ((y - tap * shape_.dilation_h) % shape_.stride_h == 0) return true;
    return false;
  }

  // The operand of the input rows that a band of output rows reads.
  uint8_t* make_operand(const Task& task) const {
    const int64_t top = task.row_begin * shape_.stride_h - shape_.padding_h;
    const int64_t rows =
        (task.row_end - 1 - task.row_begin) * shape_.stride_h +
        (weight_.kernel_h - 1) * shape_.dilation_h + 1;
    uint8_t* operand = workspace().operand.get(rows * row_bytes_);
    const bool is_dense =
        inside_ == width_ && inside_ == shape_.width &&
        (input_.bits ||
         input_.image.stride_h == shape_.width * input_.image.stride_w);
    const int64_t left_bytes = left_ * pixel_bytes_;
    const int64_t inside_bytes = inside_ * pixel_bytes_;
    for (int64_t row = 0; row < rows;) {
      const int64_t y = top + row;
      uint8_t* out = operand + row * row_bytes_;
      if (y < 0 || y >= shape_.height) {
        std::memset(out, halo_, row_bytes_);
        ++row;
      } else if (is_dense && shape_.stride_h == 1) {
        const int64_t run = std::min(rows - row, shape_.height - y);
        convert(task.image, y, run * width_, out);
        row += run;
      } else {
        if (is_read(row)) {
          std::memset(out, halo_, left_bytes);
          convert(task.image, y, inside_, out + left_bytes);
          std::memset(out + left_bytes + inside_bytes, halo_,
                      row_bytes_ - left_bytes - inside_bytes);
        }
        ++row;
      }
    }
    return operand;
  }

  // Of every output pixel of a band: where its first tap lies, and at which
  // border.
  Band make_band(const Task& task) const {
    const uint8_t* operand = make_operand(task);
    Workspace& work = workspace();
    const int64_t size = (task.row_end - task.row_begin) * out_w_;
    const uint8_t** pixels = work.pixels.get(size);
    int64_t* places = correct_border_ ? work.places.get(size) : nullptr;
    const int64_t row_step = shape_.stride_h * row_bytes_;
    const int64_t column_step = shape_.stride_w * pixel_bytes_;
    int64_t i = 0;
    for (int64_t y = task.row_begin; y < task.row_end; ++y) {
      for (int64_t x = 0; x < out_w_; ++x)
        pixels[i + x] = operand + x * column_step;
      if (places) {
        const int64_t row = row_taps_.number(y) * column_taps_.count();
        for (int64_t x = 0; x < out_w_; ++x)
          places[i + x] = row + column_taps_.number(x);
      }
      operand += row_step;
      i += out_w_;
    }
    return {task, size, pixels, places};
  }

  void run(const Task& task) const {
    const Band band = make_band(task);
    if (needs_all_segments()) {
      for (int64_t p = 0; p < band.size; p += kernels_.tile)
        run_all_segments(band, p, std::min(kernels_.tile, band.size - p));
      return;
    }
    for (int64_t group = 0; group < weight_.groups; ++group)
      for (int64_t s = task.segment_begin; s < task.segment_end; ++s) {
        const int32_t* corrections =
            correct_border_ ? make_corrections(band, group, s) : nullptr;
        for (int64_t p = 0; p < band.size; p += kernels_.tile)
          run_segment(band, p, std::min(kernels_.tile, band.size - p), group,
                      s, corrections);
      }
  }

  // Tile of a segment; `first` is the number of a pixel in the band.
  void run_segment(const Band& band, int64_t first, int64_t num_pixels,
                   int64_t group, int64_t segment,
                   const int32_t* corrections) const {
    alignas(64) int32_t k[kMaxTile * kSegment];
    const Tile tile = {band.task.image,
                       band.task.row_begin * out_w_ + first,
                       num_pixels,
                       first_channel(group, segment),
                       segment_channels(segment),
                       k,
                       kSegment};
    output_.prefetch(tile);
    if (blob_.dense && !corrections && band.size <= kernels_.few_rows) {
      kernels_.count_dense({blob_.dense + segment * blob_.dense_bytes,
                            blob_.lanes, band.pixels + first, num_pixels,
                            nullptr, 0, int32_t(weight_.products()), k,
                            kSegment, nullptr});
      return output_.write(tile);
    }
    const uint8_t* of_group[kMaxTile];
    CountArgs args = count_arguments(band, first, num_pixels, group, segment,
                                     of_group, k, kSegment);
    if (!corrections || !is_at_border(band, first, num_pixels))
      return output_.count_and_write(kernels_, args, tile);
    const int32_t* starts[kMaxTile];
    for (int64_t p = 0; p < num_pixels; ++p)
      starts[p] = corrections + band.places[first + p] * kSegment;
    args.starts = starts;
    if (is_halved() && output_.count_from(kernels_, args, tile)) return;
    kernels_.count(args);
    for (int64_t p = 0; p < num_pixels; ++p)
      if (band.places[first + p])
        subtract(starts[p], tile.channels, k + p * kSegment);
    output_.write(tile);
  }

  void run_all_segments(const Band& band, int64_t first,
                        int64_t num_pixels) const {
    const int64_t num_outputs = weight_.num_outputs;
    // a segment writes 64 sums; the next group overwrites what is too much
    const int64_t stride = num_outputs + kSegment;
    int32_t* k = workspace().k.get(kMaxTile * stride);
    const bool corrects =
        correct_border_ && is_at_border(band, first, num_pixels);
    for (int64_t group = 0; group < weight_.groups; ++group)
      for (int64_t s = 0; s < weight_.segments_per_group(); ++s) {
        int32_t* sums =
            k + group * weight_.outputs_per_group() + s * kSegment;
        const uint8_t* of_group[kMaxTile];
        kernels_.count(count_arguments(band, first, num_pixels, group, s,
                                       of_group, sums, stride));
        for (int64_t p = 0; corrects && p < num_pixels; ++p)
          if (band.places[first + p]) {
            int32_t correction[kSegment];
            make_correction(band.places[first + p], group, s, correction);
            subtract(correction, segment_channels(s), sums + p * stride);
          }
      }
    for (int64_t channel = 0; channel < num_outputs; channel += kSegment)
      output_.write({band.task.image, band.task.row_begin * out_w_ + first,
                     num_pixels, channel,
                     std::min(kSegment, num_outputs - channel), k + channel,
                     stride});
  }

  int64_t first_channel(int64_t group, int64_t segment) const {
    return group * weight_.outputs_per_group() + segment * kSegment;
  }

  int64_t segment_channels(int64_t segment) const {
    return std::min(kSegment,
                    weight_.outputs_per_group() - segment * kSegment);
  }

  // `of_group` is memory for pointers.
  CountArgs count_arguments(const Band& band, int64_t first,
                            int64_t num_pixels, int64_t group,
                            int64_t segment, const uint8_t** of_group,
                            int32_t* k, int64_t k_stride) const {
    const uint8_t* const* pixels = band.pixels + first;
    if (group > 0) {
      for (int64_t p = 0; p < num_pixels; ++p)
        of_group[p] = pixels[p] + group * group_bytes_;
      pixels = of_group;
    }
    const int64_t index = group * weight_.segments_per_group() + segment;
    return {blob_.weights + index * blob_.segment_bytes,
            blob_.lanes,
            pixels,
            num_pixels,
            chunks_.data(),
            int64_t(chunks_.size()),
            int32_t(weight_.products()),
            k,
            k_stride,
            nullptr};
  }

  // An even number of channels makes corrections even: halves of them are
  // mismatches.
  bool is_halved() const { return weight_.channels_per_group % 2 == 0; }

  static bool is_at_border(const Band& band, int64_t first,
                           int64_t num_pixels) {
    int64_t any = 0;
    for (int64_t p = 0; p < num_pixels; ++p) any |= band.places[first + p];
    return any != 0;
  }

  void subtract(const int32_t* correction, int64_t channels,
                int32_t* k) const {
    const int32_t unit = is_halved() ? 2 : 1;
    for (int64_t o = 0; o < channels; ++o) k[o] -= unit * correction[o];
  }

  // What out-of-image taps add as -1, or half of it, at each border of a
  // band.
  const int32_t* make_corrections(const Band& band, int64_t group,
                                  int64_t segment) const {
    const int64_t columns = column_taps_.count();
    int32_t* corrections = workspace().corrections.get(
        row_taps_.count() * columns * kSegment);
    std::fill_n(corrections, kSegment, 0);  // inside
    int64_t done = -1;
    for (int64_t y = band.task.row_begin; y < band.task.row_end; ++y) {
      const int64_t row = row_taps_.number(y);
      if (row == done) continue;
      for (int64_t place = row * columns; place < (row + 1) * columns; ++place)
        make_correction(place, group, segment,
                        corrections + place * kSegment);
      done = row;
    }
    return corrections;
  }

  void make_correction(int64_t place, int64_t group, int64_t segment,
                       int32_t* correction) const {
    const TapRange& y = row_taps_.range(place / column_taps_.count());
    const TapRange& x = column_taps_.range(place % column_taps_.count());
    const int64_t channel = first_channel(group, segment);
    const int32_t* all = border(weight_.kernel_h, weight_.kernel_w, channel);
    const int32_t* a = border(y.low, x.low, channel);
    const int32_t* b = border(y.low, x.high, channel);
    const int32_t* c = border(y.high, x.low, channel);
    const int32_t* d = border(y.high, x.high, channel);
    const int64_t channels = segment_channels(segment);
    for (int64_t o = 0; o < channels; ++o)
      correction[o] = (all[o] - (d[o] - c[o] - b[o] + a[o])) >> is_halved();
  }

  const int32_t* border(int64_t y, int64_t x, int64_t channel) const {
    return blob_.border +
           (y * (weight_.kernel_w + 1) + x) * weight_.num_outputs + channel;
  }

  const ConvShape& shape_;
  const WeightShape& weight_;
  const ConvInput& input_;
  const Blob& blob_;
  const Kernels& kernels_;
  const Output& output_;
  PaddedComparison compare_;
  int64_t out_h_, out_w_;
  // the operand: pixels of `groups` times `group_bytes_`, rows of `width_`
  // pixels, of which `left_` are halo and `inside_` from the image
  int64_t group_bytes_, pixel_bytes_, row_bytes_;
  int64_t width_, left_, inside_;
  uint8_t halo_;
  bool correct_border_;
  std::vector<Chunk> chunks_;
  TapRanges row_taps_, column_taps_;  // if correct_border_
};

bool is_uniform(const FloatImage& x, int64_t width) {
  return !x.data || x.stride_h == width * x.stride_w;
}

// A 1x1 convolution sees no rows: as one column it can be cut anywhere.
bool flatten(ConvShape& shape, ConvInput& input, FloatImage* residual) {
  const WeightShape& w = shape.weight;
  if (w.taps() != 1 || shape.stride_h != 1 || shape.stride_w != 1 ||
      shape.padding_h != 0 || shape.padding_w != 0 ||
      !is_uniform(input.image, shape.width) ||
      (residual && !is_uniform(*residual, shape.width)))
    return false;
  shape.height *= shape.width;
  shape.width = 1;
  input.image.stride_h = input.image.stride_w;
  if (residual) residual->stride_h = residual->stride_w;
  return true;
}

}  // namespace

void pack(const FloatImage& x, int64_t batch, int64_t channels, int64_t height,
          int64_t width, const Thresholds& thresholds, uint8_t* bits,
          const Parallel& parallel) {
  const PaddedComparison compare(thresholds, channels);
  const Kernels& kernels = best_kernels();
  const int64_t row_bytes = width * packed_bytes(channels);
  const bool is_dense = x.stride_h == width * x.stride_w;
  const auto body = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end;) {
      const int64_t n = row / height, y = row % height;
      const int64_t run = is_dense ? std::min(end - row, height - y) : 1;
      kernels.pack({x.data + n * x.stride_n + y * x.stride_h, x.stride_c,
                    x.stride_w},
                   channels, run * width, compare.get(),
                   bits + row * row_bytes);
      row += run;
    }
  };
  const double values =
      double(batch * height) * double(width) * double(channels);
  parallel.share(values / rates_of(kernels.name).packed_values,
                 batch * height, body);
}

void unpack(const uint8_t* bits, int64_t num_pixels, int64_t channels,
            float* signs) {
  const int64_t row_bytes = packed_bytes(channels);
  for (int64_t p = 0; p < num_pixels; ++p, bits += row_bytes)
    for (int64_t c = 0; c < channels; ++c)
      *signs++ = float(2 * (bits[c / 8] >> (c % 8) & 1) - 1);
}

void conv_counts(const ConvShape& shape, const ConvInput& input,
                 const Blob& blob, int32_t* k, const Parallel& parallel) {
  if (shape.batch == 0) return;
  ConvShape flat = shape;
  ConvInput source = input;
  flatten(flat, source, nullptr);
  const CountOutput output(flat, k);
  Conv(flat, source, blob, output).run(parallel);
}

void conv_bits(const ConvShape& shape, const ConvInput& input,
               const Blob& blob, const int32_t* limit, const bool* flip,
               uint8_t* bits, const Parallel& parallel) {
  if (shape.batch == 0) return;
  ConvShape flat = shape;
  ConvInput source = input;
  flatten(flat, source, nullptr);
  const BitsOutput output(flat, *blob.kernels, limit, flip, bits);
  Conv(flat, source, blob, output).run(parallel);
}

void conv_float(const ConvShape& shape, const ConvInput& input,
                const Blob& blob, const FloatOutput& output,
                const Parallel& parallel) {
  if (shape.batch == 0) return;
  ConvShape flat = shape;
  ConvInput source = input;
  FloatOutput target = output;
  flatten(flat, source, &target.residual);
  const AffineOutput writer(flat, *blob.kernels, target);
  Conv(flat, source, blob, writer).run(parallel);
}

}  // namespace mmcompress
