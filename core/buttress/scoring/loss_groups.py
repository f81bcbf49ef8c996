"""Sort training examples into LSC groups, by the size of their adversarial loss.

Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", IJCAI 2022, arXiv:2205.14826, section 3:
``LSC[p, q]`` holds the adversarial examples with ``p <= loss <= q``; six groups of width 0.5 from 0 to 3. Closed bounds
would put an edge into two groups: here they are half-open, ``[p, q)``, and the last one closed.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

EDGES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""In nats; the paper's."""


def group_numbers(losses: Tensor, edges: Sequence[float] = EDGES) -> Tensor:
    """``[n]`` group numbers of ``losses [n]``: 0 to G-1, or G for a loss in no group (beyond the edges, or NaN).

    Args:
        losses: adversarial losses in nats.
        edges: G + 1 increasing bounds.
    """
    bounds = torch.tensor(edges, dtype=losses.dtype, device=losses.device)
    outside = len(edges) - 1
    number = torch.bucketize(losses, bounds, right=True) - 1
    number = torch.where(losses == bounds[-1], outside - 1, number)
    return torch.where((losses >= bounds[0]) & (losses <= bounds[-1]), number, outside)


def group_counts(losses: Tensor, edges: Sequence[float] = EDGES) -> Tensor:
    """``[G + 1]`` numbers of examples in each group, and in none."""
    return torch.bincount(group_numbers(losses, edges), minlength=len(edges))


def group_names(edges: Sequence[float] = EDGES) -> list[str]:
    """``["0 to 0.5", ..., "above 3"]``: G + 1 names."""
    return [*(f"{low:g} to {high:g}" for low, high in pairwise(edges)), f"above {edges[-1]:g}"]
