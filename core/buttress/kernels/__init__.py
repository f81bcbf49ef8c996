"""The only door to compiled code.

Every operation has a pure-torch twin in ``reference.py``. The backend is chosen by the config key ``backend``, by the
environment variable ``BUTTRESS_BACKEND``, or by ``with use_backend(...)``: ``auto`` takes compiled code where there is
some, ``torch`` never does, ``native`` raises where there is none, with the reason.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from buttress.kernels import _native, reference
from buttress.kernels._choice import Backend, backend, use_backend
from buttress.kernels._choice import operation as _operation
from buttress.kernels._memory import facts
from buttress.kernels.reference import Middle
from buttress.kernels.reference_perturb import Ball, Norm, check_choice, check_length, check_lists

__all__ = [
    "Backend",
    "Ball",
    "Middle",
    "Norm",
    "accumulate_",
    "ascend_",
    "backend",
    "lsc_mean",
    "median",
    "perturb_",
    "restore_",
    "status",
    "unperturb_",
    "use_backend",
]


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


def perturb_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    gamma: float,
    *,
    norm: Norm = "layer",
    saved: Sequence[Tensor] | None = None,
) -> None:
    """``w_j += gamma * ||w_j|| / ||d_j|| * d_j`` in place, for all tensors; no host sync.

    Args:
        weights: tensors of any shapes and floating dtypes on one device; may require a gradient.
        directions: likewise, usually gradients; a zero one moves nothing.
        gamma: length of what is added, relative to the weights'.
        norm: ``layer``: each tensor's own L2 norm; ``global``: that of all tensors together. Norms are taken in float32
            or wider.
        saved: likewise; the weights as they were are written here in the same pass.

    Raises:
        ValueError: gamma is negative or not finite; lists that differ, or share memory (names the index).

    Source: Wu et al., "Adversarial Weight Perturbation Helps Robust Generalization", eq. 8; ``global``: Yu et al.,
    "Robust Weight Perturbation for Adversarial Training", eq. 9. Cost: five times the weights moved, six
    with ``saved``.
    """
    check_length("perturb_", "gamma", gamma)
    check_choice("perturb_", "norm", norm, ("layer", "global"))
    written = {} if saved is None else {"saved": saved}
    check_lists("perturb_", weights, read={"directions": directions}, written=written)
    if weights:
        _operation("perturb_")(weights, directions, gamma, norm, saved)


def restore_(weights: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    """``w_j = saved_j`` in place, bit for bit, for all tensors; of any dtypes.

    Raises:
        ValueError: lists that differ, or share memory (names the index).
    """
    check_lists("restore_", weights, read={"saved": saved}, written={}, floating=False)
    if weights:
        _operation("restore_")(weights, saved)


def unperturb_(weights: Sequence[Tensor], saved: Sequence[Tensor], perturbed: Sequence[Tensor]) -> None:
    """``w_j = saved_j + (w_j - perturbed_j)`` in place: the optimizer's step at perturbed weights, from the saved ones.

    Args:
        weights: after the step.
        saved: before the perturbation.
        perturbed: before the step. Elements that equal the saved ones were not perturbed and keep their stepped value,
            which the formula would round.

    Raises:
        ValueError: lists that differ, or share memory (names the index).
    """
    check_lists("unperturb_", weights, read={"saved": saved, "perturbed": perturbed}, written={}, floating=False)
    if weights:
        _operation("unperturb_")(weights, saved, perturbed)


def accumulate_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    origin: Sequence[Tensor],
    total: Sequence[Tensor],
    state: Tensor,
    gamma: float,
    *,
    norm: Norm = "global",
    rescale: bool = True,
    kept: Tensor | None = None,
    begin: bool = False,
) -> None:
    """One step of RWP in place: ``v += d``; ``v *= gamma * ||w0|| / ||v||``; ``w = w0 + v``; no host sync.

    Args:
        weights: tensors of any shapes and floating dtypes on one device; may require a gradient.
        directions: likewise, gradients at the weights.
        origin: likewise, w0; written where ``begin``.
        total: likewise; v before it is rescaled.
        state: ``[2,n]`` float64: the norms of ``origin``, and the factors of ``total`` that make v of it. Written.
        gamma: length of v relative to the origin's.
        norm: ``global``: one L2 norm for all tensors together; ``layer``: each its own.
        rescale: add the direction to v (the paper), or to the sum of directions (the public code).
        kept: one int64 number; where it is 0, nothing moves.
        begin: the first of a row of steps: ``origin`` becomes the weights, and nothing is accumulated yet.

    Raises:
        ValueError: gamma is negative or not finite; lists that differ, or share memory (names the index).

    Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", Algorithm 1. Cost: six times the weights
    moved; v itself is never written.
    """
    check_length("accumulate_", "gamma", gamma)
    check_choice("accumulate_", "norm", norm, ("layer", "global"))
    written = {"origin": origin, "total": total}
    check_lists("accumulate_", weights, read={"directions": directions}, written=written)
    if state.shape != (2, len(weights)) or state.dtype != torch.float64:
        raise ValueError(f"accumulate_: state: expected a float64 [2,{len(weights)}], got {facts(state)}")
    if weights:
        compute = _operation("accumulate_")
        compute(weights, directions, origin, total, state, gamma, norm, rescale, kept, begin)


def ascend_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    origin: Sequence[Tensor],
    total: Sequence[Tensor],
    *,
    xi: float,
    delta: float,
    ball: Ball = "global",
    clip_norm: float | None = None,
    begin: bool = False,
) -> Tensor:
    """One step of AMP in place: ``v += xi * d``; v into the ball of radius ``delta``; ``w = w0 + v``; no host sync.

    Args:
        weights: tensors of any shapes and floating dtypes on one device; may require a gradient.
        directions: likewise, gradients at the weights; where their norm is not finite, v stays as it is.
        origin: likewise, w0; written where ``begin``.
        total: likewise, v; inside the ball.
        xi: step size.
        delta: radius of the ball; what is inside stays as it is.
        ball: ``global``: of all tensors together; ``per_tensor``: of each on its own.
        clip_norm: directions longer than this, all together, are shortened to it; None: none are.
        begin: the first of a row of steps: ``origin`` becomes the weights, and v is 0.

    Returns:
        The 0-dim length of v, all tensors together; float64.

    Raises:
        ValueError: xi or delta is negative or not finite; lists that differ, or share memory (names the index).

    Source: Yan et al., "Adversarial Training with Adversarial Model Perturbation", Algorithm 1. Cost: seven times the
    weights moved.
    """
    check_length("ascend_", "xi", xi)
    check_length("ascend_", "delta", delta)
    check_choice("ascend_", "ball", ball, ("global", "per_tensor"))
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"ascend_: clip_norm: expected a number > 0, got {clip_norm}")
    written = {"origin": origin, "total": total}
    check_lists("ascend_", weights, read={"directions": directions}, written=written)
    if not weights:
        return torch.zeros((), dtype=torch.float64)
    compute: Callable[..., Tensor] = _operation("ascend_")
    return compute(weights, directions, origin, total, xi, delta, ball, clip_norm, begin)


def lsc_mean(losses: Tensor, c_min: float, *, inclusive: bool = True) -> tuple[Tensor, Tensor]:
    """The losses under the loss-stationary condition, summed and divided by the size of the whole batch.

    Args:
        losses: ``[B]`` of any loss, in nats.
        c_min: a loss is kept where it is at most this (less, if not ``inclusive``); NaN is never kept.
        inclusive: ``<=`` or ``<``.

    Returns:
        The 0-dim mean, with gradient, and the 0-dim int64 number of kept examples, on the device.

    Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", eq. 9.
    """
    compute: Callable[..., tuple[Tensor, Tensor]] = _operation("lsc_mean")
    return compute(losses, c_min, inclusive)


def status() -> dict[str, str]:
    """For ``buttress doctor``: the backend asked for, and what compiled code there is."""
    return {"backend": backend(), **_native.status()}
