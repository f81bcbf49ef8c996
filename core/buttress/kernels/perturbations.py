"""Weight perturbations: all tensors at once, norms and update in a constant number of launches."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from buttress.kernels import reference
from buttress.kernels.backend import operation
from buttress.kernels.memory import expect_apart, facts
from buttress.kernels.reference.perturbations import Ball, Norm

# What is compiled; weights of other dtypes (integers to restore, complex numbers) take pure torch's way.
_COMPILED = {torch.float32, torch.float64, torch.float16, torch.bfloat16}


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
    _check_length("perturb_", "gamma", gamma)
    _check_choice("perturb_", "norm", norm, ("layer", "global"))
    written = {} if saved is None else {"saved": saved}
    _check_lists("perturb_", weights, read={"directions": directions}, written=written)
    if weights:
        _implementation("perturb_", weights)(weights, directions, gamma, norm, saved)


def restore_(weights: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    """``w_j = saved_j`` in place, bit for bit, for all tensors; of any dtypes.

    Raises:
        ValueError: lists that differ, or share memory (names the index).
    """
    _check_lists("restore_", weights, read={"saved": saved}, written={}, floating=False)
    if weights:
        _implementation("restore_", weights)(weights, saved)


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
    _check_lists("unperturb_", weights, read={"saved": saved, "perturbed": perturbed}, written={}, floating=False)
    if weights:
        _implementation("unperturb_", weights)(weights, saved, perturbed)


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
    _check_length("accumulate_", "gamma", gamma)
    _check_choice("accumulate_", "norm", norm, ("layer", "global"))
    written = {"origin": origin, "total": total}
    _check_lists("accumulate_", weights, read={"directions": directions}, written=written)
    if state.shape != (2, len(weights)) or state.dtype != torch.float64:
        raise ValueError(f"accumulate_: state: expected a float64 [2,{len(weights)}], got {facts(state)}")
    if weights:
        compute = _implementation("accumulate_", weights)
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

    Source: Yan et al., "Improving Adversarial Robustness via Finding Flat Minimum of the Weight Loss Landscape",
    Algorithm 1. Cost: seven times the weights moved.
    """
    _check_length("ascend_", "xi", xi)
    _check_length("ascend_", "delta", delta)
    _check_choice("ascend_", "ball", ball, ("global", "per_tensor"))
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"ascend_: clip_norm: expected a number > 0, got {clip_norm}")
    written = {"origin": origin, "total": total}
    _check_lists("ascend_", weights, read={"directions": directions}, written=written)
    if not weights:
        return torch.zeros((), dtype=torch.float64)
    compute: Callable[..., Tensor] = _implementation("ascend_", weights)
    return compute(weights, directions, origin, total, xi, delta, ball, clip_norm, begin)


def _implementation(name: str, weights: Sequence[Tensor]) -> Callable[..., Any]:
    known = all(weight.dtype in _COMPILED for weight in weights)
    return operation(name, weights[0].device) if known else getattr(reference, name)


def _check_lists(
    who: str,
    weights: Sequence[Tensor],
    *,
    read: dict[str, Sequence[Tensor]],
    written: dict[str, Sequence[Tensor]],
    floating: bool = True,
) -> None:
    """What both backends expect of the lists beside ``weights``, by their names.

    Raises:
        ValueError: a list's length, or a tensor's shape, dtype or device is not the weights'; a dtype is not floating;
            memory that is written is another tensor's too. Names list and index.
    """
    device = weights[0].device if weights else None
    for position, weight in enumerate(weights):
        if floating and not weight.is_floating_point():
            raise ValueError(f"{who}: weights[{position}] has dtype {weight.dtype}, expected a floating dtype")
        if weight.device != device:
            raise ValueError(f"{who}: weights[{position}] is on {weight.device}, expected all on {device}")
    for name, tensors in {**read, **written}.items():
        if len(tensors) != len(weights):
            raise ValueError(f"{who}: expected as many {name} as weights ({len(weights)}), got {len(tensors)}")
        for position, (tensor, weight) in enumerate(zip(tensors, weights, strict=True)):
            if tensor.shape != weight.shape or tensor.dtype != weight.dtype or tensor.device != weight.device:
                raise ValueError(
                    f"{who}: {name}[{position}] has {facts(tensor)}, expected {facts(weight)} as weights[{position}]"
                )
    expect_apart(who, _numbered({"weights": weights, **written}), _numbered(read))


def _check_length(who: str, name: str, value: float) -> None:
    """Raises ValueError unless ``value`` is a finite number of at least 0."""
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{who}: {name}: expected a finite number >= 0, got {value}")


def _check_choice(who: str, name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{who}: {name}: expected {' or '.join(choices)}, got {value!r}")


def _numbered(lists: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    return {f"{name}[{i}]": tensor for name, tensors in lists.items() for i, tensor in enumerate(tensors)}
