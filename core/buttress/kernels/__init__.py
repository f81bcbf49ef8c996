"""The only door to compiled code.

Every operation has a pure-torch twin in ``reference.py``. The backend is chosen by the config key ``backend``, by the
environment variable ``BUTTRESS_BACKEND``, or by ``with use_backend(...)``: ``auto`` takes compiled code where there is
some, ``torch`` never does, ``native`` raises where there is none, with the reason.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from buttress.errors import ConfigError
from buttress.kernels import _native, reference
from buttress.kernels.files import BUDGET, Integers, Progress, Rule, combine_files
from buttress.kernels.reference import Middle, Norm

__all__ = [
    "Backend",
    "Integers",
    "Middle",
    "Norm",
    "Rule",
    "backend",
    "combine_files",
    "lsc_cross_entropy",
    "lsc_mean",
    "median",
    "median_files",
    "median_many",
    "median_rule",
    "perturb_",
    "relative_scales",
    "status",
    "use_backend",
]

Backend = Literal["auto", "native", "torch"]

_chosen: ContextVar[Backend | None] = ContextVar("buttress_backend", default=None)


def backend() -> Backend:
    """The backend in force: the innermost ``use_backend``, else ``BUTTRESS_BACKEND``, else ``auto``.

    Raises:
        ConfigError: BUTTRESS_BACKEND holds something else.
    """
    return _chosen.get() or _checked(os.environ.get("BUTTRESS_BACKEND", "auto"), "BUTTRESS_BACKEND")


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Use a backend inside a ``with`` block.

    Raises:
        ConfigError: unknown name, or ``native`` without compiled operations.
    """
    choice = _checked(name, "backend")
    if choice == "native" and not _native.operations():
        raise ConfigError(f"backend native: {_native.why_not()}; use backend auto or torch")
    token = _chosen.set(choice)
    try:
        yield
    finally:
        _chosen.reset(token)


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
    reference.check_median(tensors, even, out)
    compute: Callable[[Sequence[Tensor], Middle, Tensor | None], Tensor] = _operation("median")
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
    reference.check_median_many(lists, even, out)
    compute: Callable[..., list[Tensor]] = _operation("median_many")
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
    reference.check_even("median", even)
    compute = _operation("median")

    def reduce(rows: Sequence[Tensor], out: Tensor) -> None:
        compute(rows, even, out)

    # The pure-torch median takes a stack of the rows, a copy of it, and values and indices of its median.
    return Rule(reduce, lambda n, itemsize: 2 * n * itemsize + 16 if compute is reference.median else 0)


def relative_scales(
    weights: Sequence[Tensor], directions: Sequence[Tensor], gamma: float, *, norm: Norm = "layer"
) -> list[Tensor]:
    """Factors that give each direction ``gamma`` times the length of its weights; no host sync.

    Args:
        weights: tensors of any shapes.
        directions: likewise; a zero one stays zero.
        gamma: relative length.
        norm: ``layer``: each tensor's own L2 norm; ``global``: that of all tensors together.

    Returns:
        One 0-dim tensor for each direction, in its dtype; norms are taken in float32 or wider.
    """
    compute: Callable[..., list[Tensor]] = _operation("relative_scales")
    return compute(weights, directions, gamma, norm)


def perturb_(weights: Sequence[Tensor], directions: Sequence[Tensor], gamma: float, *, norm: Norm = "layer") -> None:
    """``w_j += gamma * ||w_j|| / ||d_j|| * d_j`` in place, for all tensors; see ``relative_scales``.

    Source: Wu et al., "Adversarial Weight Perturbation Helps Robust Generalization", eq. 8; ``global``: Yu et al.,
    "Robust Weight Perturbation for Adversarial Training", eq. 9.
    """
    _operation("perturb_")(weights, directions, gamma, norm)


def lsc_mean(losses: Tensor, c_min: float, *, inclusive: bool = True) -> tuple[Tensor, Tensor]:
    """The losses under the loss-stationary condition, summed and divided by the size of the whole batch.

    Args:
        losses: ``[B]`` of any loss, in nats; none are an empty sum, 0.
        c_min: a loss is kept where it is at most this (less, if not ``inclusive``); NaN is never kept.
        inclusive: ``<=`` or ``<``.

    Returns:
        The 0-dim mean, with gradient ``1 / B`` where a loss is kept and 0 elsewhere, and the 0-dim int64 number of kept
        losses; both on the device, which is not waited for. The gradient needs the mask alone, not that number.
        Half types are compared and summed in float32.

    Raises:
        ValueError: losses of another kind; ``c_min`` is NaN.
        RuntimeError: a second derivative of the compiled operator; pure torch has one.

    Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", eq. 9.
    """
    compute: Callable[..., tuple[Tensor, Tensor]] = _operation("lsc_mean", losses.device)
    return compute(losses, c_min, inclusive)


def lsc_cross_entropy(
    logits: Tensor, targets: Tensor, c_min: float, *, inclusive: bool = True
) -> tuple[Tensor, Tensor]:
    """``lsc_mean`` of the cross-entropies of ``logits``, in one operation.

    Args:
        logits: ``[B,K]``, K >= 1. Half types are computed in float32, the condition included; the mean and the gradient
            are rounded once.
        targets: ``[B]`` int64 classes from 0 to K-1; no value is ignored.
        c_min: an example is kept where its cross-entropy, in nats, is at most this (less, if not ``inclusive``).
        inclusive: ``<=`` or ``<``.

    Returns:
        The 0-dim mean over B in the dtype of ``logits``, with gradient ``(softmax - onehot) / B`` where an example is
        kept, and the 0-dim int64 number of kept examples; both on the device, which is not waited for. An example whose
        loss is NaN is not kept; one that is not kept has a gradient of 0 whatever its logits are, infinite or NaN.

    Raises:
        ValueError: logits or targets of another kind; ``c_min`` is NaN; on the CPU, a target that is no class. On CUDA,
            where nobody waits to be told, such a target makes the mean NaN (in pure torch: a device-side assertion).
        RuntimeError: a second derivative of the compiled operator; pure torch has one.

    Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", eq. 9. Cost: reads the logits once for the
    loss and once for the gradient, and keeps two numbers for each example in between.
    """
    compute: Callable[..., tuple[Tensor, Tensor]] = _operation("lsc_cross_entropy", logits.device)
    return compute(logits, targets, c_min, inclusive)


def status() -> dict[str, str]:
    """For ``buttress doctor``: the backend asked for, and what compiled code there is."""
    return {"backend": backend(), **_native.status()}


def _operation(name: str, device: torch.device | None = None) -> Callable[..., Any]:
    """What computes ``name`` for tensors on ``device``; None: for any, and it chooses by device itself.

    Compiled code has not run on CUDA yet: there it is taken only if ``native`` is asked for.
    """
    choice = backend()
    if choice == "native" or (choice == "auto" and (device is None or device.type == "cpu")):
        compiled = _native.operations().get(name)
        if compiled is not None:
            return compiled
        if choice == "native":
            raise ConfigError(f"backend native: {_native.why_not(name)}; use backend auto or torch")
    return getattr(reference, name)  # type: ignore[no-any-return]


def _checked(name: str, where: str) -> Backend:
    for known in get_args(Backend):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError(f"{where}: expected one of {', '.join(get_args(Backend))}, got {name!r}")
