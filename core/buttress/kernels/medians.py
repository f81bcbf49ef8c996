"""Take the per-element median of N tensors, of N versions of a network, and of N files.

Source: Hu et al., "MEAT: Median-Ensemble Adversarial Training", arXiv:2406.14259, eq. 2-4.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

from buttress.kernels import reference
from buttress.kernels.backend import operation
from buttress.kernels.file_work import Integers, Progress, Reduction
from buttress.kernels.files import BUDGET, combine_files
from buttress.kernels.reference.checks import expect_choice
from buttress.kernels.reference.medians import Middle


def median(tensors: Sequence[Tensor], *, even: Middle = "lower", out: Tensor | None = None) -> Tensor:
    """Take the per-element median of N tensors ``[*]``, in chunks, without an ``[N,*]`` stack.

    Args:
        tensors: N >= 1 tensors of one shape, floating dtype and device.
        even: result for even N: the ``lower`` or the ``upper`` of the two middle values, or their ``mean``. The
            ``lower`` one is that of ``torch.median``; each of its values is one that some tensor holds.
        out: tensor ``[*]`` for the result.

    Returns:
        The median ``[*]``; NaN wherever any input is NaN.

    Raises:
        ValueError: N is 0; shape, dtype or device differs (names the index); ``out`` overlaps an input.

    Source: Hu et al., "MEAT: Median-Ensemble Adversarial Training", eq. 2-4.
    """
    if out is None:
        result: Tensor = operation("median", tensors)(tensors, even)
        return result
    operation("median_out", tensors)(tensors, even, out)
    return out


def median_many(
    lists: Sequence[Sequence[Tensor]], *, even: Middle = "lower", out: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Take the ``median`` of every tensor of a network over its N versions, in a constant number of launches.

    Args:
        lists: the N versions of every tensor of the network. Shapes and dtypes may differ between lists, not within
            one; all are on one device.
        even: see ``median``.
        out: tensors for the results, one for each list.

    Returns:
        One tensor for each list. On the CPU threads share out all elements together, whatever the tensors' sizes. On
        CUDA there is one launch for each dtype.

    Raises:
        ValueError: lists of different lengths, or as ``median``; names list and index.
    """
    if not lists:
        return []
    n = len(lists[0])
    for k, versions in enumerate(lists):
        if len(versions) != n:
            raise ValueError(f"median_many: lists[{k}] has {len(versions)} tensors, expected {n}, as in lists[0]")
    flat = [tensor for versions in lists for tensor in versions]
    if out is None:
        results: list[Tensor] = operation("median_many", flat)(flat, n, even)
        return results
    operation("median_many_out", flat)(flat, n, even, list(out))
    return list(out)


def median_files(
    paths: Sequence[Path],
    out_path: Path | None = None,
    *,
    even: Middle = "lower",
    integers: Integers = "last",
    budget: int = BUDGET,
    progress: Progress | None = None,
    names: Collection[str] | None = None,
    dtype: torch.dtype | None = None,
    key: str | None = None,
) -> dict[str, Tensor]:
    """Take the ``median`` of every tensor of N files of weights, out of core.

    Args:
        paths: N >= 1 files with the same names, shapes and dtypes: safetensors, files of ``torch.save`` (through
            torch's restricted loader, which runs no code), indexes of shards (``model.safetensors.index.json``) or
            folders that hold one. Prefixes (``module.``) and markers (``_orig_mod.``) of wrappers make no difference;
            the result has the names of the first file.
        out_path: safetensors file for the result, written atomically; must not be an input. None: the tensors are
            returned.
        even: see ``median``.
        integers: rule for integer and bool tensors, which have no median (batch norm's counters): ``last`` takes the
            last file's, ``equal`` demands that all files agree.
        budget: bytes of working memory beside the result.
        progress: function that is called with the number of bytes read so far and in all.
        names: names of the tensors to take the median of; None: all.
        dtype: dtype of all floating-point results (float64, float32, float16, bfloat16). The files may then differ in
            dtype: their values are reduced in the narrowest one that holds them all, and rounded once. None: that of
            the files, which must be the same.
        key: key of the weights in files of ``torch.save`` that hold several sets, such as ``model_ema``; None takes
            the only set that can be a model's.

    Returns:
        The tensors by name, on the CPU; an empty dict with ``out_path``.

    Raises:
        CheckpointError: a file is missing, truncated or damaged, asks for code, or holds other tensors than the first;
            names file and tensor. Nothing has been written.
        ModelError: a file holds several sets of weights, or none under ``key``.
        StorageError: the disk is full or refuses; nothing is left there.
        ValueError: no files, ``out_path`` is one of them, or ``budget`` is too small for one element of each.

    Cost: one read of the files. As many workers as torch has threads read and compute side by side.
    """
    reduction = median_reduction(even)
    return combine_files(
        paths,
        reduction,
        out_path,
        integers=integers,
        budget=budget,
        progress=progress,
        names=names,
        dtype=dtype,
        key=key,
    )


def median_reduction(even: Middle = "lower") -> Reduction:
    """Make the median a reduction for ``combine_files``, by the backend in force now."""
    expect_choice("median", "even", even, ("lower", "upper", "mean"))
    compute = operation("median_out")

    def reduce(rows: Sequence[Tensor], out: Tensor) -> None:
        compute(rows, even, out)

    # The pure-torch median takes a stack of the rows, a copy of it, and values and indices of its median.
    return Reduction(reduce, lambda n, itemsize: 2 * n * itemsize + 16 if compute is reference.median_out else 0)
