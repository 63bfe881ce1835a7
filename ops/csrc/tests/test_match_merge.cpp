// Matching and merging of every kernel that can run here, against the rules:
// similarities in float64 to within rounding, equal keys exactly.
//
//     test_match_merge [SEED [CASES]]
#include "../cpu/match_merge.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "testing.h"

namespace {

using namespace mmcompress;

constexpr double kRounding = 2e-6;

// Keys as in a projection of queries, keys and values; few different ones.
struct Problem {
  MatchMergeShape shape;
  std::vector<int64_t> protected_tokens;
  int64_t key_stride, x_stride;
  Array<float> keys, x, mass;
  std::vector<int64_t> kind;  // of each token: equal ones have equal keys
  bool has_mass = coin();

  explicit Problem(const MatchMergeShape& shape_,
                   std::vector<int64_t> protected_tokens_)
      : shape(shape_),
        protected_tokens(std::move(protected_tokens_)),
        key_stride(shape.heads * shape.dims + 5),
        x_stride(shape.channels + 3),
        keys(shape.batch * shape.tokens * key_stride),
        x(shape.batch * shape.tokens * x_stride),
        mass(shape.batch * shape.tokens) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < x.size; ++i) x[i] = normal(generator);
    for (int64_t i = 0; i < mass.size; ++i)
      mass[i] = generator() % 4 ? float(1 + generator() % 5) : 0.0f;
    const int64_t kinds = choose({1, 2, 5, 1000});
    Array<float> different(kinds * key_stride);
    for (int64_t i = 0; i < different.size; ++i) different[i] = normal(generator);
    if (coin()) std::fill_n(different.get(), key_stride, 0.0f);
    for (int64_t i = 0; i < shape.batch * shape.tokens; ++i) {
      kind.push_back(generator() % kinds);
      std::copy_n(&different[kind.back() * key_stride], key_stride,
                  &keys[i * key_stride]);
    }
  }

  bool is_protected(int64_t i) const {
    return std::count(protected_tokens.begin(), protected_tokens.end(), i);
  }

  MatchMergeInput input() const {
    return {keys.get(), shape.tokens * key_stride, shape.dims, key_stride,
            x.get(),    shape.tokens * x_stride,   x_stride,
            has_mass ? mass.get() : nullptr};
  }
  double mass_of(int64_t token) const { return has_mass ? mass[token] : 1.0; }

  std::vector<double> unit_key(int64_t token) const {
    std::vector<double> mean(shape.dims);
    double squares = 0.0;
    for (int64_t d = 0; d < shape.dims; ++d) {
      for (int64_t h = 0; h < shape.heads; ++h)
        mean[d] += keys[token * key_stride + h * shape.dims + d];
      squares += mean[d] * mean[d];
    }
    if (squares > 0.0)
      for (double& value : mean) value /= std::sqrt(squares);
    return mean;
  }
};

struct Result {
  Array<float> x, mass;
  Array<int64_t> slot;

  explicit Result(const MatchMergeShape& s)
      : x(s.batch * s.num_new * s.channels),
        mass(s.batch * s.num_new),
        slot(s.batch * s.tokens) {}
  bool operator==(const Result& other) const {
    return x == other.x && mass == other.mass && slot == other.slot;
  }
};

Result merged(const Problem& problem, const TokenKernels& kernels,
              int64_t num_threads) {
  Result result(problem.shape);
  match_merge(problem.shape, problem.protected_tokens, problem.input(),
              {result.x.get(), result.mass.get(), result.slot.get()}, kernels,
              threads(num_threads));
  return result;
}

void require(bool condition, const char* what) {
  if (!condition) fail(what);
}

// One image: the rules by which its tokens are numbered.
class Checker {
 public:
  Checker(const Problem& problem, int64_t image, const int64_t* slot)
      : problem_(problem),
        first_(image * problem.shape.tokens),
        slot_(slot + first_) {
    for (int64_t i = 0; i < problem.shape.tokens; ++i)
      if (!problem.is_protected(i))
        (i % 2 ? destinations_ : sources_).push_back(i);
    leaving_ = problem.shape.tokens - problem.shape.num_new;
    first_destination_ =
        problem.shape.num_new - int64_t(destinations_.size());
  }

  void check() {
    for (size_t i = 0; i < problem_.protected_tokens.size(); ++i)
      require(slot_[problem_.protected_tokens[i]] == int64_t(i),
              "protected tokens come first");
    for (size_t i = 0; i < destinations_.size(); ++i)
      require(slot_[destinations_[i]] == first_destination_ + int64_t(i),
              "destinations keep their order");
    int64_t num_leaving = 0;
    for (int64_t source : sources_) num_leaving += leaves(source);
    require(num_leaving == leaving_, "so many leave");
    if (destinations_.empty()) return;
    for (int64_t a : sources_) check_target(a);
    for (int64_t a : sources_)
      for (int64_t b : sources_)
        if (a < b) check_pair(a, b);
  }

 private:
  bool leaves(int64_t source) const {
    return slot_[source] >= first_destination_;
  }
  int64_t kind(int64_t i) const { return problem_.kind[first_ + i]; }

  double similarity(int64_t a, int64_t b) const {
    const auto left = problem_.unit_key(first_ + a);
    const auto right = problem_.unit_key(first_ + b);
    double sum = 0.0;
    for (size_t d = 0; d < left.size(); ++d) sum += left[d] * right[d];
    return sum;
  }
  double best(int64_t source) const {
    double most = -INFINITY;
    for (int64_t b : destinations_) most = std::max(most, similarity(source, b));
    return most;
  }

  void check_target(int64_t source) const {
    if (!leaves(source)) return;
    const int64_t target = destinations_[slot_[source] - first_destination_];
    require(similarity(source, target) >= best(source) - kRounding,
            "sources go to the most similar");
    for (int64_t b : destinations_)
      if (b < target)
        require(kind(b) != kind(target), "the first of equal destinations");
  }

  void check_pair(int64_t a, int64_t b) const {
    const double lead = best(a) - best(b);
    if (kind(a) == kind(b)) {
      require(leaves(a) || !leaves(b), "the first of equal sources leaves");
      if (leaves(a) && leaves(b))
        require(slot_[a] == slot_[b], "equal sources go to the same");
    } else if (leaves(a) != leaves(b)) {
      require(leaves(a) ? lead >= -kRounding : lead <= kRounding,
              "the most similar leave");
    }
    if (leaves(a) || leaves(b)) return;
    if (!problem_.protected_tokens.empty() || kind(a) == kind(b))
      require(slot_[a] < slot_[b], "sources that stay keep their order");
    else if (std::abs(lead) > kRounding)
      require((slot_[a] < slot_[b]) == (lead > 0),
              "sources that stay come by similarity");
  }

  const Problem& problem_;
  int64_t first_;
  const int64_t* slot_;
  int64_t leaving_, first_destination_;
  std::vector<int64_t> sources_, destinations_;
};

void check_values(const Problem& problem, const Result& result) {
  const MatchMergeShape& s = problem.shape;
  std::vector<double> sums(s.batch * s.num_new * s.channels);
  std::vector<double> masses(s.batch * s.num_new);
  for (int64_t i = 0; i < s.batch * s.tokens; ++i) {
    const int64_t target = i / s.tokens * s.num_new + result.slot[i];
    masses[target] += problem.mass_of(i);
    for (int64_t c = 0; c < s.channels; ++c)
      sums[target * s.channels + c] +=
          problem.mass_of(i) * problem.x[i * problem.x_stride + c];
  }
  for (size_t i = 0; i < masses.size(); ++i) {
    require(result.mass[i] == float(masses[i]), "masses add up");
    for (int64_t c = 0; c < s.channels; ++c) {
      const size_t at = i * s.channels + c;
      const double wanted = masses[i] > 0.0 ? sums[at] / masses[i] : 0.0;
      require(std::abs(result.x[at] - wanted) <= 1e-6, "rows are averages");
    }
  }
}

Problem random_problem() {
  MatchMergeShape s = {};
  s.batch = choose({1, 2, 3});
  s.heads = choose({1, 2, 3});
  s.tokens = choose({1, 2, 3, 4, 7, 16, 33, 50, 85});
  s.dims = choose({2, 3, 8, 16, 20, 33});
  s.channels = choose({0, 1, 7, 16, 24, 33});
  std::vector<int64_t> fixed;
  const int64_t share = choose({0, 2, 8, 30});
  for (int64_t i = 0; i < s.tokens; ++i)
    if (share && generator() % share == 0) fixed.push_back(i);
  int64_t sources = (s.tokens + 1) / 2, destinations = s.tokens / 2;
  for (int64_t i : fixed) --(i % 2 ? destinations : sources);
  const int64_t most =
      destinations ? std::min(sources, (sources + destinations) / 2) : 0;
  s.num_new = s.tokens - int64_t(generator() % (most + 1));
  return Problem(s, fixed);
}

// The bits do not depend on the number of threads.
void check_random(const TokenKernels& kernels, int cases) {
  for (int i = 0; i < cases; ++i) {
    const Problem problem = random_problem();
    const Result result = merged(problem, kernels, 1);
    for (int64_t image = 0; image < problem.shape.batch; ++image)
      Checker(problem, image, result.slot.get()).check();
    check_values(problem, result);
    if (!(merged(problem, kernels, 2 + i % 4) == result))
      fail("threads change the result");
  }
}

// What is no number goes nowhere it should not.
void check_no_numbers(const TokenKernels& kernels) {
  Problem problem({1, 1, 40, 8, 4, 30}, {0});
  for (float value : {NAN, INFINITY, -INFINITY}) {
    std::fill_n(problem.keys.get(), problem.keys.size, value);
    const Result result = merged(problem, kernels, 1);
    for (int64_t i = 0; i < 40; ++i)
      require(result.slot[i] >= 0 && result.slot[i] < 30, "slots exist");
  }
}

}  // namespace

int main(int argc, char** argv) {
  generator.seed(argc > 1 ? unsigned(std::atoi(argv[1])) : 0);
  const int cases = argc > 2 ? std::atoi(argv[2]) : 150;
  for (const std::string& name : runnable_kernels()) {
    const TokenKernels& kernels = tokens_by_name(name);
    check_random(kernels, cases);
    check_no_numbers(kernels);
    std::printf("%s: merging tokens passed\n", kernels.name);
  }
}
