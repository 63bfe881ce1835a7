#include "rates.h"

#include <cstring>

namespace mmcompress {
namespace {

// Measured on a processor of 4.2 GHz in its caches, where it was possible, and
// rounded up: a thread less than would pay costs less than one too many.
struct Row {
  const char* kernels;
  Rates rates;
};

constexpr Row kRows[] = {
    {"portable",
     {/*sign_products=*/1.1e5, /*packed_values=*/3e3,
      /*quad_products=*/7e3, /*pair_products=*/7e3,
      /*depthwise_products=*/7e3, /*sums=*/1.2e3,
      /*row_products=*/1e4,
      /*codes=*/4.5e3, /*normalized_values=*/2.3e3,
      /*fake_quantized=*/3e3, /*fake_quantized_backward=*/2.5e3,
      /*similarity_products=*/8e3, /*token_values=*/2e3,
      /*pooled_values=*/1.3e3,
      /*attention_products=*/1.3e4}},
    {"avx2",
     {/*sign_products=*/8e5, /*packed_values=*/2e4,
      /*quad_products=*/2.4e5, /*pair_products=*/1.2e5,
      /*depthwise_products=*/2.5e4, /*sums=*/4e3,
      /*row_products=*/1.7e5,
      /*codes=*/1e4, /*normalized_values=*/4e3,
      /*fake_quantized=*/1.3e4, /*fake_quantized_backward=*/9e3,
      /*similarity_products=*/4e4, /*token_values=*/5e3,
      /*pooled_values=*/1.3e3,
      /*attention_products=*/2.5e4}},
    {"avx512",
     {/*sign_products=*/2.5e6, /*packed_values=*/2.5e4,
      /*quad_products=*/5e5, /*pair_products=*/5e5,
      /*depthwise_products=*/3e4, /*sums=*/8e3,
      /*row_products=*/5e5,
      /*codes=*/2e4, /*normalized_values=*/7e3,
      /*fake_quantized=*/1.8e4, /*fake_quantized_backward=*/1.2e4,
      /*similarity_products=*/1e5, /*token_values=*/8e3,
      /*pooled_values=*/2e3,
       /*attention_products=*/4e4}},
    // not measured but the first two
    {"neon",
     {/*sign_products=*/4e5, /*packed_values=*/1e4,
      /*quad_products=*/1.5e5, /*pair_products=*/1.5e5,
      /*depthwise_products=*/1.5e4, /*sums=*/3e3,
      /*row_products=*/5e4,
      /*codes=*/6e3, /*normalized_values=*/2e3,
      /*fake_quantized=*/6e3, /*fake_quantized_backward=*/4e3,
      /*similarity_products=*/2e4, /*token_values=*/3e3,
      /*pooled_values=*/1.3e3,
      /*attention_products=*/1.3e4}},
};

}  // namespace

const Rates& rates_of(const char* kernels) {
  for (const Row& row : kRows)
    if (std::strcmp(row.kernels, kernels) == 0) return row.rates;
  return kRows[0].rates;
}

}  // namespace mmcompress
