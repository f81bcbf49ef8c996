"""Take the geometric median of N files of weights, each as one vector: the least sum of Euclidean distances to them.

The geometric median is a weighted mean ``y = sum_i w_i x_i`` of the files. So is every iterate of Weiszfeld's method,
and with the squared distances ``D`` between files, ``|x_i - y|^2 = (D w)_i - w' D w / 2``. One read of the files takes
D in float64; the iterations then work on N numbers, and a second read takes the weighted mean.

Sources: Weiszfeld, Tohoku Mathematical Journal 43 (1937), 355-386, the iteration; Kuhn, Mathematical Programming 4
(1973), 98-107, when a given point is the median; Vardi and Zhang, "The multivariate L1-median and associated data
depth", PNAS 97 (2000), 1423-1426, the step from a given point; Beck and Sabach, "Weiszfeld's Method: Old and New
Results", Journal of Optimization Theory and Applications 164 (2015), 1-40, the start below all given points.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from buttress.errors import CheckpointError
from buttress.kernels.agreement import TensorVersions
from buttress.kernels.averages import weighted_mean_reduction
from buttress.kernels.file_work import FileWork, Integers, Progress, Reduction
from buttress.kernels.files import BUDGET, combine_versions, open_versions

TOLERANCE = 1e-9
ITERATIONS = 10_000

# Elements of each file whose differences are taken at once: N such rows in float64 stay in the processor's cache.
_STRIP = 8192

_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class GeometricWeights:
    """The geometric median of N points as their weighted mean.

    Args:
        weights: N weights of sum 1; a single 1 where the median is one of the points.
        iterations: number of Weiszfeld's iterations.
        excess: bound on the part by which the sum of distances exceeds the least one.
    """

    weights: tuple[float, ...]
    iterations: int
    excess: float


def geometric_median_files(
    paths: Sequence[Path],
    out_path: Path | None = None,
    *,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
    integers: Integers = "last",
    budget: int = BUDGET,
    progress: Progress | None = None,
    names: Collection[str] | None = None,
    dtype: torch.dtype | None = None,
    key: str | None = None,
) -> dict[str, Tensor]:
    """Take the geometric median of N files of weights, out of core; see ``median_files`` for what they may be.

    All floating-point tensors of a file are one vector. The median of two files, and of any even number on a line, is
    not unique: of several files with the least sum of distances it is the first.

    Args:
        paths: N >= 1 files with the same names, shapes and dtypes.
        out_path: see ``median_files``.
        tolerance: part by which the sum of distances may exceed the least one.
        iterations: greatest number of Weiszfeld's iterations, after which the iterate is taken as it is.
        integers: see ``median_files``.
        budget: see ``median_files``; ``16 N^2`` bytes and 64 KiB for each file are taken beside it.
        progress: see ``median_files``; it is called for each of the two reads.
        names: names of the tensors that are taken, and that count in distances; None: all.
        dtype: see ``median_files``.
        key: see ``median_files``.

    Returns:
        The tensors by name, on the CPU; an empty dict with ``out_path``.

    Raises:
        CheckpointError: as ``median_files``, or a file holds values that are not finite. Nothing has been written.
        ModelError, StorageError, ValueError: see ``median_files``.

    Cost: two reads of the files, and ``N^2 / 2`` subtractions, products and sums an element by one thread.
    """
    with open_versions(paths, out_path, names=names, dtype=dtype, key=key) as versions:
        median = geometric_weights(
            squared_distances(versions, paths, budget=budget, progress=progress), tolerance, iterations
        )
        reduction = weighted_mean_reduction(median.weights)
        return combine_versions(versions, reduction, out_path, integers=integers, budget=budget, progress=progress)


def squared_distances(
    versions: Mapping[str, TensorVersions],
    paths: Sequence[Path],
    *,
    budget: int = BUDGET,
    progress: Progress | None = None,
) -> _Numbers:
    """The squared distances ``[N,N]`` between N files, over all floating-point tensors.

    Summed in float64 in the order of the first file, whatever the number of threads.

    Raises:
        CheckpointError: a file holds values that are not finite; names it.
    """
    floating = {name: each for name, each in versions.items() if each.is_floating_point}
    sums = _Distances(len(paths))
    work = FileWork(floating, Reduction(sums, lambda n, itemsize: 0, in_order=True), "last", budget, progress)
    work.run(lambda block, values: None)
    for path, finite in zip(paths, sums.finite.tolist(), strict=True):
        if not finite:
            raise CheckpointError(
                f"{path} holds values that are not finite, so that it has no distance to the others; leave it out, or "
                "choose another method, such as median",
                path=path,
            )
    return sums.matrix()


class _Distances:
    """A reduction that leaves ``out`` as it is, and adds up the squared distances between the rows."""

    def __init__(self, n: int) -> None:
        from scipy.spatial.distance import pdist, squareform  # takes a while to import

        self.finite = np.ones(n, dtype=bool)
        self._pairs, self._points = np.zeros(n * (n - 1) // 2), torch.empty(n, _STRIP, dtype=torch.float64)
        self._pdist, self._squareform = pdist, squareform

    def __call__(self, rows: Sequence[Tensor], out: Tensor) -> None:
        for start in range(0, len(out), _STRIP):
            strip = self._points[:, : len(out) - start]
            for row, point in zip(rows, strip, strict=True):
                point.copy_(row[start : start + _STRIP])
            points = strip.numpy()
            self.finite &= np.isfinite(points).all(1)
            self._pairs += self._pdist(points, "sqeuclidean")  # from differences: close files lose no digits

    def matrix(self) -> _Numbers:
        squares: _Numbers = self._squareform(self._pairs)
        return squares


def geometric_weights(
    squares: _Numbers, tolerance: float = TOLERANCE, iterations: int = ITERATIONS
) -> GeometricWeights:
    """The weights of the geometric median of N points from their squared distances ``[N,N]``.

    The sum of distances f is convex, with f(y) - f(y*) <= |g| |y - y*| for its (least) subgradient g, and
    |y - y*| <= 2 f(y) / N; so ``2 |g| / N`` bounds the part by which f(y) exceeds the least sum. The given point with
    the least f is the median where its g is 0 (Kuhn 1973). Else the step of Vardi and Zhang leads below all given
    points, so that no later iterate meets one.
    """
    n = len(squares)
    nearest = int(np.sqrt(squares).sum(1).argmin())
    weights, excess = _step_from_point(squares, nearest)
    if excess <= tolerance:
        return GeometricWeights(tuple(float(each == nearest) for each in range(n)), 0, excess)
    done = 0
    while done < iterations:
        done += 1
        new, excess = _step(squares, weights)
        if excess <= tolerance:
            break
        weights = new
    return GeometricWeights(tuple(map(float, weights)), done, excess)


def _step_from_point(squares: _Numbers, point: int) -> tuple[_Numbers, float]:
    """The step of Vardi and Zhang from a given point, and the bound on the excess of the point."""
    n, distances = len(squares), np.sqrt(squares[point])
    apart = distances > 0
    pull: _Numbers = np.divide(1, distances, out=np.zeros(n), where=apart)
    here = np.eye(n)[point]
    copies, length = int(n - apart.sum()), _length(squares, pull - pull.sum() * here)
    if length <= copies:
        return here, 0.0
    stay = copies / length
    return (1 - stay) * pull / pull.sum() + stay * here, 2 * (length - copies) / n


def _step(squares: _Numbers, weights: _Numbers) -> tuple[_Numbers, float]:
    """Weiszfeld's step from the point of ``weights``, and the bound on the excess of that point."""
    towards = squares @ weights
    rest = towards - weights @ towards / 2
    pull: _Numbers = 1 / np.sqrt(np.maximum(rest, np.finfo(np.float64).eps * float(squares.max())))
    new: _Numbers = pull / pull.sum()
    return new, 2 * float(pull.sum()) * _length(squares, weights - new) / len(squares)


def _length(squares: _Numbers, coefficients: _Numbers) -> float:
    """The length of the sum of the points times coefficients of sum 0."""
    return sqrt(max(0.0, -float(coefficients @ squares @ coefficients) / 2))
