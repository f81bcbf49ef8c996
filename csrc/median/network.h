// Selection networks: the comparators of a sorting network that one or two of its outputs depend on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

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
  for (int run = sorted; run < top; run *= 2) {          // merges neighbours of `run` sorted elements
    for (int step = run; step > 0; step /= 2) {          // first halves against second halves, then ever closer
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

// The comparators that ranks `lower` and `upper` of n elements depend on, blocks of `sorted` in order already.
inline std::vector<Comparator> selection_network(int n, int lower, int upper, int sorted = 1) {
  std::vector<Comparator> all;
  odd_even_merge_sort(n, sorted, [&](int a, int b) { all.push_back({std::uint16_t(a), std::uint16_t(b), 0}); });
  std::vector<bool> live(std::size_t(n), false);
  live[std::size_t(lower)] = live[std::size_t(upper)] = true;
  prune(all, all.size(), live);
  std::vector<Comparator> needed;
  for (const Comparator& comparator : all) {
    if (comparator.keep != 0) needed.push_back(comparator);
  }
  return needed;
}

// The same while compiling: for N elements, either all ranks (a sort) or lower and upper middle.
template <int N, bool Sort>
struct StaticNetwork {
  static constexpr std::size_t total = [] {
    std::size_t count = 0;
    odd_even_merge_sort(N, 1, [&](int, int) { ++count; });
    return count;
  }();
  struct Pruned {
    std::array<Comparator, (total > 0 ? total : 1)> all{};
    std::size_t needed = 0;
  };
  static constexpr Pruned make() {
    Pruned made;
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
  static constexpr Pruned pruned = make();
};

}  // namespace buttress
