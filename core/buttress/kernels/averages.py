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


MEAN = Reduction(mean, scratch=lambda n, itemsize: 16)  # the sum, and a row in its dtype


def trimmed_mean_reduction(cut: int) -> Reduction:
    """Make a reduction of ``trimmed_mean``, coordinate by coordinate, for ``combine_files``.

    Args:
        cut: number of files whose values are left out at each end; less than half of the files.
    """
    # Sorting takes the stack, the sorted stack and its indices, and a copy of both on the way.
    return Reduction(partial(trimmed_mean, cut=cut), scratch=lambda n, itemsize: n * (3 * itemsize + 16) + 16)
