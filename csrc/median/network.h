// Comparator networks, built while compiling: a sort, the selection of the middle, a merge of two sorted runs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace buttress {

// Compares elements a < b: the smaller one goes to a, the larger one to b; only what is kept is needed afterwards.
struct Comparator {
  std::uint16_t a, b;
  std::uint8_t keep;  // 1: the smaller one, 2: the larger one, 3: both
};

// Visits the comparators of Batcher's odd-even merge sort of n elements, those between blocks of `sorted` elements that
// are in order already left out (`sorted` a power of two; 1: nothing is in order).
template <typename Visit>
constexpr void odd_even_merge_sort(int n, int sorted, Visit visit) {
  int top = 1;
  while (top < n) top *= 2;
  for (int run = sorted; run < top; run *= 2) {  // merges neighbours of `run` sorted elements
    for (int step = run; step > 0; step /= 2) {  // first halves against second halves, then ever closer
      for (int low = step == run ? 0 : step; low < top; low += 2 * step) {
        for (int i = low; i < low + step; ++i) {
          const int j = i + step;
          // Elements beyond n stand for infinity: they stay where they are.
          if (j < n && i / (2 * run) == j / (2 * run)) visit(i, j);
        }
      }
    }
  }
}

// Visits the comparators that merge elements 0..n-1 with n..2n-1, both in order: the last round of the sort above, the
// first run behind infinities of the other sign that fill it up to a power of two.
template <typename Visit>
constexpr void odd_even_merge(int n, Visit visit) {
  int run = 1;
  while (run < n) run *= 2;
  const int filled = run - n;
  odd_even_merge_sort(run + n, run, [&](int i, int j) {
    if (i >= filled) visit(i - filled, j - filled);
  });
}

// Marks in `keep` what the outputs in `live` need of `all`, last comparator first; returns how many are needed.
template <typename Comparators, typename Live>
constexpr std::size_t prune(Comparators& all, std::size_t length, Live& live) {
  std::size_t needed = 0;
  for (std::size_t c = length; c-- > 0;) {
    Comparator& comparator = all[c];
    comparator.keep = std::uint8_t((live[comparator.a] ? 1 : 0) | (live[comparator.b] ? 2 : 0));
    if (comparator.keep == 0) continue;
    live[comparator.a] = live[comparator.b] = true;
    ++needed;
  }
  return needed;
}

template <std::size_t Total>
struct Pruned {
  std::array<Comparator, (Total > 0 ? Total : 1)> all{};
  std::size_t needed = 0;
};

// For N elements, either all ranks (a sort) or lower and upper middle.
template <int N, bool Sort>
struct StaticNetwork {
  static constexpr std::size_t total = [] {
    std::size_t count = 0;
    odd_even_merge_sort(N, 1, [&](int, int) { ++count; });
    return count;
  }();
  static constexpr Pruned<total> make() {
    Pruned<total> made;
    std::size_t count = 0;
    odd_even_merge_sort(N, 1, [&](int a, int b) { made.all[count++] = {std::uint16_t(a), std::uint16_t(b), 0}; });
    std::array<bool, N> live{};
    for (int i = 0; i < N; ++i) live[std::size_t(i)] = Sort || i == (N - 1) / 2 || i == N / 2;
    made.needed = prune(made.all, count, live);
    std::size_t kept = 0;
    for (std::size_t c = 0; c < count; ++c) {
      if (made.all[c].keep != 0) made.all[kept++] = made.all[c];
    }
    return made;
  }
  static constexpr Pruned<total> pruned = make();
};

// Two sorted runs of N elements.
template <int N>
struct MergeNetwork {
  static constexpr std::size_t total = [] {
    std::size_t count = 0;
    odd_even_merge(N, [&](int, int) { ++count; });
    return count;
  }();
  static constexpr Pruned<total> pruned = [] {
    Pruned<total> made;
    odd_even_merge(N, [&](int a, int b) { made.all[made.needed++] = {std::uint16_t(a), std::uint16_t(b), 3}; });
    return made;
  }();
};

}  // namespace buttress
