"""The per-element median of N tensors, of N versions of a network, and of N files.

Source: Hu et al., "MEAT: Median-Ensemble Adversarial Training", arXiv:2406.14259, eq. 2-4.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from buttress.kernels import reference
from buttress.kernels.backend import operation
from buttress.kernels.files import BUDGET, Integers, Progress, Rule, combine_files
from buttress.kernels.memory import expect_apart, facts
from buttress.kernels.reference.medians import Middle


def median(tensors: Sequence[Tensor], *, even: Middle = "lower", out: Tensor | None = None) -> Tensor:
    """Per-element median of N tensors ``[*]``, in chunks, without an ``[N,*]`` stack.

    Args:
        tensors: N >= 1 tensors of one shape, floating dtype and device.
        even: for even N the ``lower`` or the ``upper`` of the two middle values, or their ``mean``; ``lower`` is
            ``torch.median``, and every value of it is one that some tensor holds.
        out: ``[*]`` to write into.

    Returns:
        ``[*]``; NaN wherever any input is NaN.

    Raises:
        ValueError: N is 0; shape, dtype or device differs (names the index); ``out`` overlaps an input.

    Source: Hu et al., "MEAT: Median-Ensemble Adversarial Training", eq. 2-4.
    """
    _check_median(tensors, even, out)
    compute: Callable[[Sequence[Tensor], Middle, Tensor | None], Tensor] = operation("median", tensors[0].device)
    return compute(tensors, even, out)


def median_many(
    lists: Sequence[Sequence[Tensor]], *, even: Middle = "lower", out: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The ``median`` of every tensor of a network over its N versions, in a constant number of launches.

    Args:
        lists: for every tensor of the network its N versions: shapes and dtypes may differ between lists, not within
            one; all on one device.
        even: see ``median``.
        out: one tensor for each list to write into.

    Returns:
        One tensor for each list. On the CPU threads share out all elements together, whatever the tensors' sizes; on
        CUDA there is one launch for every dtype.

    Raises:
        ValueError: lists of different lengths, or as ``median``; names list and index.
    """
    _check_median_many(lists, even, out)
    if not lists:
        return []
    compute: Callable[..., list[Tensor]] = operation("median_many", lists[0][0].device)
    return compute(lists, even, out)


def median_files(
    paths: Sequence[Path],
    out_path: Path | None = None,
    *,
    even: Middle = "lower",
    integers: Integers = "last",
    budget: int = BUDGET,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """The ``median`` of every tensor of N safetensors files, out of core.

    Args:
        paths: N >= 1 files with the same names, shapes and dtypes.
        out_path: safetensors file to write, atomically; may be no input. None: the tensors are returned.
        even: see ``median``.
        integers: what becomes of integer and bool tensors, which have no median (batch norm's counters): those of the
            ``last`` file, or a demand that they are ``equal``.
        budget: bytes of working memory beside the result.
        progress: called with the bytes that have been read and all that will be.

    Returns:
        The tensors by name, on the CPU; nothing with ``out_path``.

    Raises:
        CheckpointError: a file is missing, truncated or damaged, or holds other tensors than the first; names file and
            tensor. Nothing has been written.
        StorageError: the disk is full or refuses; nothing has been left there.
        ValueError: no files, ``out_path`` is one of them, or ``budget`` is too small for one element of each.

    Cost: one read of the files. As many workers as torch has threads read and compute side by side.
    """
    rule = median_rule(even)
    return combine_files(paths, rule, out_path, integers=integers, budget=budget, progress=progress)


def median_rule(even: Middle = "lower") -> Rule:
    """The median as a rule for ``combine_files``, by the backend in force now."""
    _check_even("median", even)
    compute = operation("median", torch.device("cpu"))

    def reduce(rows: Sequence[Tensor], out: Tensor) -> None:
        compute(rows, even, out)

    # The pure-torch median takes a stack of the rows, a copy of it, and values and indices of its median.
    return Rule(reduce, lambda n, itemsize: 2 * n * itemsize + 16 if compute is reference.median else 0)


def _check_median(tensors: Sequence[Tensor], even: str, out: Tensor | None) -> None:
    """What both backends expect.

    Raises:
        ValueError: no tensors; shape, dtype or device differs (names the index); ``out`` overlaps an input.
    """
    _check_even("median", even)
    _check_versions("median", tensors)
    if out is not None:
        _check_out("median: out", out, tensors[0])
        expect_apart("median", {"out": out}, {f"tensors[{i}]": tensor for i, tensor in enumerate(tensors)})


def _check_median_many(lists: Sequence[Sequence[Tensor]], even: str, out: Sequence[Tensor] | None) -> None:
    """What both backends expect.

    Raises:
        ValueError: lists of different lengths or devices, or of tensors that do not fit; names the list and the index.
    """
    _check_even("median_many", even)
    for k, versions in enumerate(lists):
        where = f"median_many: lists[{k}]"
        if len(versions) != len(lists[0]):
            raise ValueError(f"{where} has {len(versions)} tensors, expected {len(lists[0])}, as in lists[0]")
        _check_versions(where, versions)
        if versions[0].device != lists[0][0].device:
            raise ValueError(f"{where} is on {versions[0].device}, expected {lists[0][0].device}, as lists[0]")
    if out is None:
        return
    if len(out) != len(lists):
        raise ValueError(f"median_many: expected {len(lists)} tensors in out, one for each list, got {len(out)}")
    for k, into in enumerate(out):
        _check_out(f"median_many: out[{k}]", into, lists[k][0])
    inputs = {f"lists[{k}][{i}]": tensor for k, versions in enumerate(lists) for i, tensor in enumerate(versions)}
    expect_apart("median_many", {f"out[{k}]": into for k, into in enumerate(out)}, inputs)


def _check_even(who: str, even: str) -> None:
    if even not in ("lower", "upper", "mean"):
        raise ValueError(f"{who}: even: expected lower, upper or mean, got {even!r}")


def _check_versions(who: str, tensors: Sequence[Tensor]) -> None:
    if not tensors:
        raise ValueError(f"{who}: expected at least one tensor, got none")
    first = tensors[0]
    if not first.is_floating_point():
        raise ValueError(f"{who}: tensors[0] has dtype {first.dtype}, expected a floating dtype")
    for position, tensor in enumerate(tensors):
        if tensor.shape != first.shape or tensor.dtype != first.dtype or tensor.device != first.device:
            raise ValueError(f"{who}: tensors[{position}] has {facts(tensor)}, expected {facts(first)}")


def _check_out(who: str, out: Tensor, like: Tensor) -> None:
    if out.shape != like.shape or out.dtype != like.dtype or out.device != like.device:
        raise ValueError(f"{who} has {facts(out)}, expected {facts(like)}")
