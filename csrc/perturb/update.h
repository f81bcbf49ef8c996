// The formulas for one weight and their factors, for the loops of the CPU and of CUDA.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "common/number.h"

namespace buttress::perturbation {

// The constant that torch.nn.utils.clip_grad_norm_ adds to the norm.
constexpr double kClipGuard = 1e-6;

// One parameter and what belongs to it: arrays of one size and dtype, laid out alike. Which are used depends on the
// operation; the others are null.
struct Item {
  Type type;
  std::int64_t size;   // elements
  std::int64_t first;  // number of its first block among those of all items
  void* weight;
  const void* direction;  // usually a gradient
  void* origin;           // the weight as it was before
  void* total;            // directions accumulated, or the weight as it was perturbed
};

// The item that a block belongs to: the last of n with `first` at most `block`. Every item has a block.
BUTTRESS_HOST_DEVICE int owner(const Item* items, int n, std::int64_t block) {
  int low = 0, high = n;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (items[middle].first <= block) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Wu et al., eq. 8: the factor that makes a direction `gamma` times as long as the weights. A zero one stays zero. The
// public codes add 1e-20 to the norm of the direction; that is invisible until the gradients of saturated logits, which
// are smaller than that, would move nothing.
BUTTRESS_HOST_DEVICE double relative_scale(double gamma, double weights, double direction) {
  return direction == 0 ? 0.0 : gamma * weights / direction;
}

// A relative scale in the type that multiplies; the largest finite one where the direction is so short that it
// overflows.
template <typename Wide>
BUTTRESS_HOST_DEVICE Wide multiplier(double scale) {
  constexpr double largest = sizeof(Wide) == sizeof(float) ? double(FLT_MAX) : DBL_MAX;
  return Wide(scale > largest ? largest : scale);
}

// One step of AMP: step size, radius of the ball, the longest gradient that is not clipped, and whether one ball holds
// all tensors together.
struct AmpSettings {
  double xi, delta, clip;
  bool together;
};

// The factor that brings a vector of length `norm` into the ball of radius `bound`.
BUTTRESS_HOST_DEVICE double into_ball(double bound, double norm) { return norm > bound ? bound / norm : 1.0; }

// Inner products of the gradient g and of what has been accumulated, m.
struct Products {
  double gg, mg, mm;
};

// The factor by which torch.nn.utils.clip_grad_norm_ multiplies gradients of norm `norm`; infinity clips nothing.
BUTTRESS_HOST_DEVICE double clip_factor(double clip, double norm) {
  const double factor = clip / (norm + kClipGuard);
  return factor < 1.0 ? factor : 1.0;
}

// The factor of g in m + a g: the step size, shortened for a gradient clipped at `clip`. 0 where the gradient is not
// finite; g itself must not be touched then.
BUTTRESS_HOST_DEVICE double step_size(double xi, double clip, double gg) {
  const double norm = std::sqrt(gg);
  return norm < INFINITY ? xi * clip_factor(clip, norm) : 0.0;
}

// ||m + a g||, from products; exact enough because m lies in the ball: where the sum leaves it, nothing cancels.
BUTTRESS_HOST_DEVICE double stepped_norm(const Products& p, double a) {
  if (a == 0) return std::sqrt(p.mm);
  const double square = p.mm + a * (2 * p.mg + a * p.gg);
  return square > 0 ? std::sqrt(square) : 0.0;
}

// A weight that the optimizer has moved from `start` to `stepped`, moved likewise from `origin`. One that was not
// perturbed keeps its value: origin + (stepped - start) would round it.
template <typename Wide>
BUTTRESS_HOST_DEVICE Wide unperturbed(Wide stepped, Wide origin, Wide start) {
  return start == origin ? stepped : origin + (stepped - start);
}

}  // namespace buttress::perturbation
