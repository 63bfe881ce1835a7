// Checks the merging of tokens against plain loops on the host, as
// test_binary.cu checks the 1-bit kernels. Keys are of few kinds, so that
// many similarities are equal.
//
//   test_tokens [number of random cases] [seed]
#include <algorithm>
#include <cmath>

#include "testing.h"
#include "token_ops.h"

namespace {

using mmcompress::kMostSimilar;
using mmcompress::MatchMergeShape;
using Doubles = std::vector<double>;

struct Case {
  MatchMergeShape shape;
  ProtectedTokens fixed;
  std::vector<float> keys, x, mass;  // keys are (batch, tokens, heads, dims)
  bool has_mass;
};

Case random_case() {
  Case c = {};
  MatchMergeShape& s = c.shape;
  s = {pick(1, 2), pick(1, 3),          pick({1, 2, 3, 9, 64, 97, 140}),
       pick(2, 40), pick({1, 7, 64, 130}), 0};
  int sources = static_cast<int>(s.tokens + 1) / 2;
  int destinations = static_cast<int>(s.tokens) / 2;
  const int share = pick({0, 3, 20});
  for (int i = 0; i < s.tokens && c.fixed.count < kMostProtected; ++i)
    if (share && pick(1, share) == 1) {
      c.fixed.positions[c.fixed.count++] = i;
      --(i % 2 ? destinations : sources);
    }
  const int most =
      destinations ? std::min(sources, (sources + destinations) / 2) : 0;
  s.num_new = s.tokens - pick(0, most);
  const int64_t size = s.heads * s.dims;
  const std::vector<float> kinds = random_floats(6 * size);
  for (int64_t i = 0; i < s.batch * s.tokens; ++i) {
    const float* kind = kinds.data() + pick(0, 5) * size;
    c.keys.insert(c.keys.end(), kind, kind + size);
    c.mass.push_back(static_cast<float>(pick(0, 4)));
  }
  c.x = random_floats(s.batch * s.tokens * s.channels);
  c.has_mass = pick(0, 1);
  return c;
}

Doubles unit_key(const Case& c, int64_t token) {
  const MatchMergeShape& s = c.shape;
  Doubles key(s.dims);
  double squares = 0.0;
  for (int64_t d = 0; d < s.dims; ++d) {
    for (int64_t h = 0; h < s.heads; ++h)
      key[d] += c.keys[(token * s.heads + h) * s.dims + d];
    squares += key[d] * key[d];
  }
  for (double& value : key) value /= std::sqrt(squares);
  return key;
}

double similarity(const Doubles& a, const Doubles& b) {
  double sum = 0.0;
  for (size_t d = 0; d < a.size(); ++d) sum += a[d] * b[d];
  return std::min(sum, double(kMostSimilar));
}

// Where the tokens of one image go.
void reference_slots(const Case& c, int64_t image, int64_t* slot) {
  const MatchMergeShape& s = c.shape;
  const int* fixed_end = c.fixed.positions + c.fixed.count;
  std::vector<int64_t> lists[2];
  for (int64_t i = 0; i < s.tokens; ++i)
    if (!std::count(c.fixed.positions, fixed_end, i)) lists[i % 2].push_back(i);
  std::vector<Doubles> keys;
  for (int64_t i = 0; i < s.tokens; ++i)
    keys.push_back(unit_key(c, image * s.tokens + i));
  std::vector<std::pair<double, size_t>> order;  // negative: ascending
  std::vector<size_t> targets;
  for (size_t i = 0; i < lists[0].size(); ++i) {
    double best = -INFINITY;
    targets.push_back(0);
    for (size_t j = 0; j < lists[1].size(); ++j) {
      const double value = similarity(keys[lists[0][i]], keys[lists[1][j]]);
      if (value > best) best = value, targets[i] = j;
    }
    order.emplace_back(-best, i);
  }
  std::sort(order.begin(), order.end());
  const size_t leaving = s.tokens - s.num_new;
  if (c.fixed.count > 0)
    std::sort(order.begin() + leaving, order.end(),
              [](const auto& a, const auto& b) { return a.second < b.second; });
  int64_t next = 0;
  for (const int* p = c.fixed.positions; p < fixed_end; ++p) slot[*p] = next++;
  for (size_t i = leaving; i < order.size(); ++i)
    slot[lists[0][order[i].second]] = next++;
  for (size_t i = 0; i < leaving; ++i)
    slot[lists[0][order[i].second]] = next + targets[order[i].second];
  for (int64_t position : lists[1]) slot[position] = next++;
}

void expect_near(const Doubles& expected, const std::vector<float>& got,
                 const char* what) {
  for (size_t i = 0; i < got.size(); ++i)
    if (!(std::abs(expected[i] - got[i]) <= 2e-6)) {
      ++failures;
      std::printf("FAILED %s: at %zu expected %g, got %g\n", what, i,
                  expected[i], got[i]);
      return;
    }
}

void check_random() {
  const Case c = random_case();
  const MatchMergeShape& s = c.shape;
  std::vector<int64_t> slots(s.batch * s.tokens);
  for (int64_t image = 0; image < s.batch; ++image)
    reference_slots(c, image, slots.data() + image * s.tokens);
  Doubles rows(s.batch * s.num_new * s.channels), masses(s.batch * s.num_new);
  for (int64_t i = 0; i < s.batch * s.tokens; ++i) {
    const int64_t target = i / s.tokens * s.num_new + slots[i];
    const double mass = c.has_mass ? c.mass[i] : 1.0;
    masses[target] += mass;
    for (int64_t k = 0; k < s.channels; ++k)
      rows[target * s.channels + k] += mass * c.x[i * s.channels + k];
  }
  for (size_t i = 0; i < rows.size(); ++i)
    if (masses[i / s.channels] > 0.0) rows[i] /= masses[i / s.channels];

  const Buffer<float> keys(c.keys), x(c.x), mass(c.mass);
  const Buffer<float> new_x(rows.size()), new_mass(masses.size());
  const Buffer<int64_t> slot(slots.size());
  const Buffer<uint8_t> scratch(match_merge_scratch(s));
  const int64_t row = s.heads * s.dims;
  require(match_merge(s, c.fixed,
                      {keys.data(), s.tokens * row, s.dims, row, x.data(),
                       s.tokens * s.channels, s.channels,
                       c.has_mass ? mass.data() : nullptr},
                      {new_x.data(), new_mass.data(), slot.data()},
                      scratch.data(), nullptr));
  expect_equal(slots, slot.host(), "slots");
  expect_near(masses, new_mass.host(), "masses");
  expect_near(rows, new_x.host(), "rows");
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 100;
  generator.seed(argc > 2 ? std::atoi(argv[2]) : 0);
  for (int i = 0; i < cases; ++i) check_random();
  std::printf("%d random merges of tokens: %d failures\n", cases, failures);
  return failures == 0 ? 0 : 1;
}
