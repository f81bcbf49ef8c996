"""Weight perturbations: all tensors at once, norms and update in a constant number of launches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from buttress.kernels.backend import operation
from buttress.kernels.reference.perturbations import Ball, Norm


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
        directions: tensors like the weights, usually gradients; a zero one moves nothing.
        gamma: length of what is added, relative to the weights'.
        norm: ``layer``: each tensor's own L2 norm; ``global``: that of all tensors together. Norms are taken in float32
            or wider.
        saved: tensors like the weights, which receive the old weights in the same pass.

    Raises:
        ValueError: gamma is negative or not finite; lists that differ, or share memory (names the index).

    Source: Wu et al., "Adversarial Weight Perturbation Helps Robust Generalization", eq. 8; ``global``: Yu et al.,
    "Robust Weight Perturbation for Adversarial Training", eq. 9. Cost: five times the weights moved, six
    with ``saved``.
    """
    with torch.no_grad():
        operation("perturb_", weights)(weights, directions, gamma, norm, saved)


def restore_(weights: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    """``w_j = saved_j`` in place, bit for bit, for all tensors of any dtypes.

    Raises:
        ValueError: lists that differ, or share memory (names the index).
    """
    with torch.no_grad():
        operation("restore_", weights)(weights, saved)


def unperturb_(weights: Sequence[Tensor], saved: Sequence[Tensor], perturbed: Sequence[Tensor]) -> None:
    """``w_j = saved_j + (w_j - perturbed_j)`` in place: the optimizer's step at perturbed weights, from the saved ones.

    Args:
        weights: weights after the step.
        saved: weights before the perturbation.
        perturbed: weights before the step. Elements that equal the saved ones were not perturbed and keep their stepped
            value, which the formula would round.

    Raises:
        ValueError: lists that differ, or share memory (names the index).
    """
    with torch.no_grad():
        operation("unperturb_", weights)(weights, saved, perturbed)


def rwp_first_step_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    origin: Sequence[Tensor],
    total: Sequence[Tensor],
    state: Tensor,
    gamma: float,
    *,
    norm: Norm = "global",
    kept: Tensor | None = None,
) -> None:
    """The first step of RWP in place: ``w0 = w``; ``v = gamma * ||w0|| / ||d|| * d``; ``w = w0 + v``; no host sync.

    Args:
        weights: see ``rwp_step_``.
        directions: see ``rwp_step_``.
        origin: tensors like the weights, which receive w0.
        total: tensors like the weights, which receive the direction.
        state: ``[2,n]`` float64, which receives norms and factors.
        gamma: see ``rwp_step_``.
        norm: see ``rwp_step_``.
        kept: one int64 number; where it is 0, the weights stay and the total is 0.

    Raises:
        ValueError: as ``rwp_step_``.

    Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", Algorithm 1.
    """
    with torch.no_grad():
        compute = operation("rwp_first_step_", weights)
        compute(weights, directions, origin, total, state, gamma, norm, kept)


def rwp_step_(
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
) -> None:
    """A later step of RWP in place: ``v += d``; ``v *= gamma * ||w0|| / ||v||``; ``w = w0 + v``; no host sync.

    Args:
        weights: tensors of any shapes and floating dtypes on one device; may require a gradient.
        directions: tensors like the weights, gradients at the weights.
        origin: tensors like the weights, w0.
        total: tensors like the weights, v before it is rescaled. Written.
        state: ``[2,n]`` float64: the norms of ``origin``, and the factors of ``total`` that make v of it. Written.
        gamma: length of v relative to the origin's.
        norm: ``global``: one L2 norm for all tensors together; ``layer``: each its own.
        rescale: add the direction to v (the paper), or to the sum of directions (the public code).
        kept: one int64 number; where it is 0, nothing moves.

    Raises:
        ValueError: gamma is negative or not finite; lists that differ, or share memory (names the index).

    Source: Yu et al., "Robust Weight Perturbation for Adversarial Training", Algorithm 1. Cost: six times the weights
    moved; v itself is never written.
    """
    with torch.no_grad():
        compute = operation("rwp_step_", weights)
        compute(weights, directions, origin, total, state, gamma, norm, rescale, kept)


def amp_first_step_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    origin: Sequence[Tensor],
    total: Sequence[Tensor],
    *,
    xi: float,
    delta: float,
    ball: Ball = "global",
    clip_norm: float | None = None,
) -> Tensor:
    """The first step of AMP in place: ``w0 = w``; ``v = xi * d`` into the ball of radius ``delta``; ``w = w0 + v``.

    Args:
        weights: see ``amp_step_``.
        directions: see ``amp_step_``.
        origin: tensors like the weights, which receive w0.
        total: tensors like the weights, which receive v.
        xi: see ``amp_step_``.
        delta: see ``amp_step_``.
        ball: see ``amp_step_``.
        clip_norm: see ``amp_step_``.

    Returns:
        The 0-dim length of v, all tensors together; float64.

    Raises:
        ValueError: as ``amp_step_``.

    Source: Yan et al., "Improving Adversarial Robustness via Finding Flat Minimum of the Weight Loss Landscape",
    Algorithm 1.
    """
    with torch.no_grad():
        compute = operation("amp_first_step_", weights)
        length: Tensor = compute(weights, directions, origin, total, xi, delta, ball, clip_norm)
    return length


def amp_step_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    origin: Sequence[Tensor],
    total: Sequence[Tensor],
    *,
    xi: float,
    delta: float,
    ball: Ball = "global",
    clip_norm: float | None = None,
) -> Tensor:
    """A later step of AMP in place: ``v += xi * d``; v into the ball of radius ``delta``; ``w = w0 + v``; no host sync.

    Args:
        weights: tensors of any shapes and floating dtypes on one device; may require a gradient.
        directions: tensors like the weights, gradients at the weights; v stays where their norm is not finite.
        origin: tensors like the weights, w0.
        total: tensors like the weights, v, which lies inside the ball. Written.
        xi: step size.
        delta: radius of the ball; what is inside stays as it is.
        ball: ``global``: one ball for all tensors together; ``per_tensor``: one for each.
        clip_norm: directions longer than this, all together, are shortened to it; None: none are.

    Returns:
        The 0-dim length of v, all tensors together; float64.

    Raises:
        ValueError: xi or delta is negative or not finite; lists that differ, or share memory (names the index).

    Source: Yan et al., "Improving Adversarial Robustness via Finding Flat Minimum of the Weight Loss Landscape",
    Algorithm 1. Cost: seven times the weights moved.
    """
    with torch.no_grad():
        compute = operation("amp_step_", weights)
        length: Tensor = compute(weights, directions, origin, total, xi, delta, ball, clip_norm)
    return length
