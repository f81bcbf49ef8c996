"""Combine N checkpoints by means instead of the median, block by block."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from buttress.kernels.file_work import Reduction


def mean(rows: Sequence[Tensor], out: Tensor) -> None:
    """Put the mean of N rows ``[B]`` into ``out [B]``, summed in float64 and rounded once."""
    total = rows[0].to(torch.float64, copy=True)
    for row in rows[1:]:
        total += row
    out.copy_(total.div_(len(rows)))


def trimmed_mean(rows: Sequence[Tensor], out: Tensor, cut: int) -> None:
    """Put the mean of N rows ``[B]`` into ``out [B]``, without the ``cut`` smallest and largest values of each element.

    The result is NaN wherever any row is NaN, as in the median.
    """
    ordered = torch.stack(list(rows)).sort(dim=0).values  # NaN comes last
    mean(ordered[cut : len(rows) - cut].unbind(), out)
    out[ordered[-1].isnan()] = torch.nan


def weighted_mean(rows: Sequence[Tensor], out: Tensor, weights: Sequence[float]) -> None:
    """Put the sum of N rows ``[B]``, each times its weight, into ``out [B]``, taken in float64 and rounded once.

    Rows of weight 0 have no part, whatever they hold. The weights add up to 1.
    """
    first, *others = [(row, weight) for row, weight in zip(rows, weights, strict=True) if weight]
    total = first[0].to(torch.float64, copy=True).mul_(first[1])
    for row, weight in others:
        total.add_(row, alpha=weight)
    out.copy_(total)


MEAN = Reduction(mean, scratch=lambda n, itemsize: 16)  # the sum, and a row in its dtype


def trimmed_mean_reduction(cut: int) -> Reduction:
    """Make a reduction of ``trimmed_mean``, coordinate by coordinate, for ``combine_files``.

    Args:
        cut: number of files whose values are left out at each end; less than half of the files.
    """
    # Sorting takes the stack, the sorted stack and its indices, and a copy of both on the way.
    return Reduction(partial(trimmed_mean, cut=cut), scratch=lambda n, itemsize: n * (3 * itemsize + 16) + 16)


def weighted_mean_reduction(weights: Sequence[float]) -> Reduction:
    """Make a reduction of ``weighted_mean`` for ``combine_files``: one weight for each file, of sum 1."""
    return Reduction(partial(weighted_mean, weights=tuple(weights)), scratch=lambda n, itemsize: 16)
