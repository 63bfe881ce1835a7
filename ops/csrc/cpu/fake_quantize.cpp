#include "fake_quantize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "rates.h"

namespace mmcompress {
namespace {

// Most neighbouring values of a task, and of a sum in float32.
constexpr int64_t kChunk = 4096;
// Groups with less neighbours are computed with parameters for each value,
// which are repeated until they are so many.
constexpr int64_t kFewNeighbours = 32;
constexpr int64_t kLeastPeriod = 256;
// Most periods of a task, and values of a sum in float32.
constexpr int64_t kPeriods = 64;

// A rectangle of values: `rows` times `count` neighbours.
struct Task {
  int64_t first;      // value
  int64_t count;
  int64_t rows;
  int64_t parameter;  // the first
};

// How the work is divided. Either a task is a part of the neighbours of one
// group, or parameters are laid out value by value with a period.
class Division {
 public:
  explicit Division(const QuantizedShape& shape)
      : shape_(shape), size_(shape.size()) {
    per_value_ = shape.groups > 1 && shape.inner < kFewNeighbours;
    if (per_value_) {
      const int64_t least = shape.groups * shape.inner;
      const int64_t repeats =
          std::min(ceil_div(kLeastPeriod, least), shape.outer);
      period_ = least * repeats;
      parts_ = ceil_div(period_, kChunk);
      num_tasks_ = ceil_div(ceil_div(size_, period_), kPeriods) * parts_;
    } else {
      period_ = shape.groups == 1 ? size_ : shape.inner;
      parts_ = ceil_div(period_, kChunk);
      num_tasks_ = size_ / period_ * parts_;
    }
  }

  bool per_value() const { return per_value_; }
  int64_t size() const { return size_; }
  int64_t num_tasks() const { return num_tasks_; }
  int64_t period() const { return period_; }
  int64_t num_parameters() const {
    return per_value_ ? ceil_div(period_, kQuantizedLanes) * kQuantizedLanes
                      : shape_.groups;
  }
  // Calls visit(parameter, group) for those that values have.
  template <typename Visit>
  void visit_parameters(const Visit& visit) const {
    const int64_t neighbours = per_value_ ? shape_.inner : 1;
    const int64_t num = per_value_ ? period_ : shape_.groups;
    for (int64_t i = 0; i < num;)
      for (int64_t group = 0; group < shape_.groups; ++group)
        for (int64_t j = 0; j < neighbours; ++j) visit(i++, group);
  }

  Task task(int64_t i) const {
    const int64_t row = i / parts_, part = i % parts_ * kChunk;
    const int64_t count = std::min(kChunk, period_ - part);
    if (!per_value_)
      return {row * period_ + part, count, 1, row % shape_.groups};
    const int64_t first = row * kPeriods * period_ + part;
    const int64_t rows =
        std::min(kPeriods, ceil_div(size_ - first, period_));
    return {first, count, rows, part};
  }
  // The last period may be incomplete.
  int64_t count_of(const Task& task, int64_t row) const {
    return std::min(task.count, size_ - task.first - row * period_);
  }

 private:
  QuantizedShape shape_;
  int64_t size_, period_, parts_, num_tasks_;
  bool per_value_;
};

// Parameters as the kernels read them.
class Parameters {
 public:
  Parameters(const Division& division, const QuantizedRange& range)
      : has_offset_(range.beta || range.zero_point) {
    const int64_t num = division.num_parameters();
    scale_.resize(num, 1.0f);
    if (has_offset_)
      for (auto* table : {&beta_in_, &beta_out_, &zero_in_, &zero_out_})
        table->resize(num);
    division.visit_parameters([&](int64_t i, int64_t group) {
      scale_[i] = range.scale[group];
      if (!has_offset_) return;
      beta_in_[i] = range.beta ? range.beta[group] : 0.0f;
      beta_out_[i] = range.beta ? range.beta[group] : -0.0f;
      zero_out_[i] =
          range.zero_point ? std::nearbyint(range.zero_point[group]) : 0.0f;
      zero_in_[i] = range.zero_point ? zero_out_[i] : -0.0f;
    });
  }

  void set(QuantizedRun& run, int64_t first) const {
    run.has_offset = has_offset_;
    run.scale = scale_.data() + first;
    if (!has_offset_) return;
    run.beta_in = beta_in_.data() + first;
    run.beta_out = beta_out_.data() + first;
    run.zero_in = zero_in_.data() + first;
    run.zero_out = zero_out_.data() + first;
  }

 private:
  bool has_offset_;
  std::vector<float> scale_, beta_in_, beta_out_, zero_in_, zero_out_;
};

QuantizedRun run_of(const Division& division, const QuantizedRange& range) {
  QuantizedRun run = {};
  run.per_value = division.per_value();
  run.rounded = range.rounded;
  run.low = float(range.low);
  run.high = float(range.high);
  run.below = beyond(range.low, -INFINITY);
  run.above = beyond(range.high, INFINITY);
  return run;
}

// Where a task's sums go.
class Sums {
 public:
  explicit Sums(const Division& division)
      : division_(division),
        // a row of sums for each group of periods, or two numbers per task
        length_(division.num_parameters()) {
    if (division.per_value())
      values_.resize(
          2 * length_ *
          ceil_div(division.size(), kPeriods * division.period()));
    else
      totals_.resize(2 * division.num_tasks());
  }

  void begin(const Task& task, QuantizedRun& run, float* lanes) {
    run.scale_sums = lanes;
    run.outside_sums = lanes + kQuantizedLanes;
    if (division_.per_value()) {
      const int64_t row = task.first / (kPeriods * division_.period());
      run.scale_sums = values_.data() + 2 * length_ * row + task.parameter;
      run.outside_sums = run.scale_sums + length_;
    } else {
      std::fill(lanes, lanes + 2 * kQuantizedLanes, 0.0f);
    }
  }
  void end(int64_t i, const float* lanes) {
    if (division_.per_value()) return;
    for (int kind = 0; kind < 2; ++kind)
      for (int64_t lane = 0; lane < kQuantizedLanes; ++lane)
        totals_[2 * i + kind] += double(lanes[kind * kQuantizedLanes + lane]);
  }

  // One after the other, whoever computed them.
  void add_to(double* scale_sums, double* outside_sums) const {
    const int64_t rows = int64_t(values_.size()) / (2 * length_);
    for (int64_t row = 0; row < rows; ++row) {
      const float* values = values_.data() + 2 * length_ * row;
      division_.visit_parameters([&](int64_t i, int64_t group) {
        scale_sums[group] += double(values[i]);
        outside_sums[group] += double(values[length_ + i]);
      });
    }
    for (size_t i = 0; i < totals_.size(); i += 2) {
      const int64_t group = division_.task(int64_t(i / 2)).parameter;
      scale_sums[group] += totals_[i];
      outside_sums[group] += totals_[i + 1];
    }
  }

 private:
  const Division& division_;
  int64_t length_;
  std::vector<float> values_;
  std::vector<double> totals_;
};

}  // namespace

void fake_quantize(const QuantizedShape& shape, const QuantizedRange& range,
                   const float* x, float* y, const Kernels& kernels,
                   const Parallel& parallel) {
  const Division division(shape);
  const Parameters parameters(division, range);
  const QuantizedRun same = run_of(division, range);
  const auto body = [&](int64_t begin, int64_t end) {
    QuantizedRun run = same;
    for (int64_t i = begin; i < end; ++i) {
      const Task task = division.task(i);
      parameters.set(run, task.parameter);
      for (int64_t row = 0; row < task.rows; ++row) {
        const int64_t first = task.first + row * division.period();
        run.x = x + first;
        run.y = y + first;
        run.count = division.count_of(task, row);
        kernels.fake_quantize(run);
      }
    }
  };
  const double rate = rates_of(kernels.name).fake_quantized;
  parallel.share(double(division.size()) / rate, division.num_tasks(), body);
}

void fake_quantize_backward(const QuantizedShape& shape,
                            const QuantizedRange& range, const float* x,
                            const float* dy, float* dx, double* scale_sums,
                            double* outside_sums, const Kernels& kernels,
                            const Parallel& parallel) {
  const Division division(shape);
  const Parameters parameters(division, range);
  const QuantizedRun same = run_of(division, range);
  Sums sums(division);
  const auto body = [&](int64_t begin, int64_t end) {
    QuantizedRun run = same;
    float lanes[2 * kQuantizedLanes];
    for (int64_t i = begin; i < end; ++i) {
      const Task task = division.task(i);
      parameters.set(run, task.parameter);
      sums.begin(task, run, lanes);
      for (int64_t row = 0; row < task.rows; ++row) {
        const int64_t first = task.first + row * division.period();
        run.x = x + first;
        run.dy = dy + first;
        run.y = dx + first;
        run.count = division.count_of(task, row);
        kernels.fake_quantize(run);
      }
      sums.end(i, lanes);
    }
  };
  const double rate = rates_of(kernels.name).fake_quantized_backward;
  parallel.share(double(division.size()) / rate, division.num_tasks(), body);
  sums.add_to(scale_sums, outside_sums);
}

}  // namespace mmcompress
