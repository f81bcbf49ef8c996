"""Weight perturbations in pure torch. Call them without gradient, as the doors do."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from buttress.kernels.reference.checks import (
    expect_apart,
    expect_choice,
    expect_fitting,
    expect_length,
    facts,
    numbered,
)

Norm = Literal["layer", "global"]
Ball = Literal["global", "per_tensor"]
Tensors = Sequence[Tensor]

# Number that torch.nn.utils.clip_grad_norm_ adds to the norm.
_CLIP_GUARD = 1e-6


def perturb_(weights: Tensors, directions: Tensors, gamma: float, norm: Norm, saved: Tensors | None) -> None:
    """See ``buttress.kernels.perturb_``. Memory: as much as the directions, one more time."""
    check_perturb(weights, directions, gamma, norm, saved)
    _expect_apart("perturb_", {"weights": weights, "saved": saved or ()}, {"directions": directions})
    if not weights:
        return
    if saved is not None:
        _copy(saved, weights)
    scales = _relative_scales(_norms(weights), _norms(directions), gamma, norm)
    for weight, direction, scale in zip(weights, directions, scales.unbind(), strict=True):
        weight.add_(_scaled(direction, scale))


def restore_(weights: Tensors, saved: Tensors) -> None:
    """See ``buttress.kernels.restore_``."""
    check_restore(weights, saved)
    _expect_apart("restore_", {"weights": weights}, {"saved": saved})
    if weights:
        _copy(weights, saved)


def unperturb_(weights: Tensors, saved: Tensors, perturbed: Tensors) -> None:
    """See ``buttress.kernels.unperturb_``."""
    check_unperturb(weights, saved, perturbed)
    _expect_apart("unperturb_", {"weights": weights}, {"saved": saved, "perturbed": perturbed})
    for weight, origin, start in zip(weights, saved, perturbed, strict=True):
        weight.copy_(torch.where(start == origin, weight, origin + (weight - start)))


def rwp_first_step_(
    weights: Tensors,
    directions: Tensors,
    origin: Tensors,
    total: Tensors,
    state: Tensor,
    gamma: float,
    norm: Norm,
    kept: Tensor | None,
) -> None:
    """See ``buttress.kernels.rwp_first_step_``. Memory: three times as much as the weights'."""
    who = "rwp_first_step_"
    check_rwp(who, weights, directions, origin, total, state, gamma, norm, kept)
    _expect_apart(who, {"weights": weights, "origin": origin, "total": total}, {"directions": directions})
    if not weights:
        return
    _copy(origin, weights)
    torch._foreach_zero_(list(total))
    state[0], state[1] = _norms(origin), 0.0
    _rwp_step(weights, directions, origin, total, state, gamma, norm, False, kept)


def rwp_step_(
    weights: Tensors,
    directions: Tensors,
    origin: Tensors,
    total: Tensors,
    state: Tensor,
    gamma: float,
    norm: Norm,
    rescale: bool,
    kept: Tensor | None,
) -> None:
    """See ``buttress.kernels.rwp_step_``. Memory: three times as much as the weights'."""
    who = "rwp_step_"
    check_rwp(who, weights, directions, origin, total, state, gamma, norm, kept)
    _expect_apart(who, {"weights": weights, "total": total}, {"directions": directions, "origin": origin})
    if weights:
        _rwp_step(weights, directions, origin, total, state, gamma, norm, rescale, kept)


def _rwp_step(
    weights: Tensors,
    directions: Tensors,
    origin: Tensors,
    total: Tensors,
    state: Tensor,
    gamma: float,
    norm: Norm,
    rescale: bool,
    kept: Tensor | None,
) -> None:
    some = torch.ones((), dtype=torch.bool, device=state.device) if kept is None else kept > 0
    scales = state[1].clone() if rescale else torch.ones_like(state[1])
    for each, direction, scale in zip(total, directions, scales.unbind(), strict=True):
        each.copy_(torch.where(some, _scaled(each, scale) + direction, each))
    state[1] = torch.where(some, _relative_scales(state[0], _norms(total), gamma, norm), state[1])
    for weight, start, each, scale in zip(weights, origin, total, state[1].unbind(), strict=True):
        weight.copy_(torch.where(some, start + _scaled(each, scale), weight))


def amp_first_step_(
    weights: Tensors,
    directions: Tensors,
    origin: Tensors,
    total: Tensors,
    xi: float,
    delta: float,
    ball: Ball,
    clip_norm: float | None,
) -> Tensor:
    """See ``buttress.kernels.amp_first_step_``. Memory: three times as much as the weights'."""
    who = "amp_first_step_"
    check_amp(who, weights, directions, origin, total, xi, delta, ball, clip_norm)
    _expect_apart(who, {"weights": weights, "origin": origin, "total": total}, {"directions": directions})
    if not weights:
        return torch.zeros((), dtype=torch.float64)
    _copy(origin, weights)
    torch._foreach_zero_(list(total))
    return _amp_step(weights, directions, origin, total, xi, delta, ball, clip_norm)


def amp_step_(
    weights: Tensors,
    directions: Tensors,
    origin: Tensors,
    total: Tensors,
    xi: float,
    delta: float,
    ball: Ball,
    clip_norm: float | None,
) -> Tensor:
    """See ``buttress.kernels.amp_step_``. Memory: three times as much as the weights'."""
    who = "amp_step_"
    check_amp(who, weights, directions, origin, total, xi, delta, ball, clip_norm)
    _expect_apart(who, {"weights": weights, "total": total}, {"directions": directions, "origin": origin})
    if not weights:
        return torch.zeros((), dtype=torch.float64)
    return _amp_step(weights, directions, origin, total, xi, delta, ball, clip_norm)


def _amp_step(
    weights: Tensors,
    directions: Tensors,
    origin: Tensors,
    total: Tensors,
    xi: float,
    delta: float,
    ball: Ball,
    clip_norm: float | None,
) -> Tensor:
    length = torch.linalg.vector_norm(_norms(directions))
    size = xi * (torch.ones_like(length) if clip_norm is None else (clip_norm / (length + _CLIP_GUARD)).clamp_max(1.0))
    finite = torch.isfinite(length)
    moved = [
        torch.where(finite, each + _scaled(direction, size), each)
        for each, direction in zip(total, directions, strict=True)
    ]
    lengths = _norms(moved)
    bounded = torch.linalg.vector_norm(lengths).expand_as(lengths) if ball == "global" else lengths
    shrink = torch.where(bounded > delta, delta / bounded, 1.0)
    for weight, start, each, new, scale in zip(weights, origin, total, moved, shrink.unbind(), strict=True):
        each.copy_(_scaled(new, scale))
        weight.copy_(start + each)
    inside: Tensor = torch.linalg.vector_norm(lengths * shrink)
    return inside


# Checks, also for torch.compile; each raises ValueError and names list and index.


def check_perturb(weights: Tensors, directions: Tensors, gamma: float, norm: str, saved: Tensors | None) -> None:
    """Check the arguments of ``perturb_``, but for their memory."""
    expect_length("perturb_", "gamma", gamma)
    expect_choice("perturb_", "norm", norm, ("layer", "global"))
    before = {} if saved is None else {"saved": saved}
    expect_fitting("perturb_", weights, {**before, "directions": directions})


def check_restore(weights: Tensors, saved: Tensors) -> None:
    """Check the arguments of ``restore_``, but for their memory."""
    expect_fitting("restore_", weights, {"saved": saved}, numbers=False)


def check_unperturb(weights: Tensors, saved: Tensors, perturbed: Tensors) -> None:
    """Check the arguments of ``unperturb_``, but for their memory."""
    expect_fitting("unperturb_", weights, {"saved": saved, "perturbed": perturbed}, numbers=False)


def check_rwp(
    who: str,
    weights: Tensors,
    directions: Tensors,
    origin: Tensors,
    total: Tensors,
    state: Tensor,
    gamma: float,
    norm: str,
    kept: Tensor | None,
) -> None:
    """Check the arguments of a step of RWP, but for their memory."""
    expect_length(who, "gamma", gamma)
    expect_choice(who, "norm", norm, ("layer", "global"))
    expect_fitting(who, weights, {"origin": origin, "total": total, "directions": directions})
    n, device = len(weights), weights[0].device if weights else state.device
    good = state.shape == (2, n) and state.dtype == torch.float64 and state.device == device
    if not good or not state.is_contiguous():
        raise ValueError(f"{who}: state: expected a contiguous float64 [2,{n}] on {device}, got {facts(state)}")
    if kept is not None and (kept.numel() != 1 or kept.dtype != torch.int64 or kept.device != device):
        raise ValueError(f"{who}: kept: expected one int64 number on {device}, got {facts(kept)}")


def check_amp(
    who: str,
    weights: Tensors,
    directions: Tensors,
    origin: Tensors,
    total: Tensors,
    xi: float,
    delta: float,
    ball: str,
    clip_norm: float | None,
) -> None:
    """Check the arguments of a step of AMP, but for their memory."""
    expect_length(who, "xi", xi)
    expect_length(who, "delta", delta)
    expect_choice(who, "ball", ball, ("global", "per_tensor"))
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"{who}: clip_norm: expected a number > 0, got {float(clip_norm)}")
    expect_fitting(who, weights, {"origin": origin, "total": total, "directions": directions})


def _expect_apart(who: str, written: Mapping[str, Tensors], read: Mapping[str, Tensors]) -> None:
    expect_apart(who, numbered(written), numbered(read))


def _copy(places: Tensors, values: Tensors) -> None:
    torch._foreach_copy_(list(places), list(values))


def _norms(tensors: Tensors) -> Tensor:
    """``[n]`` L2 norms, taken in float64: squares of gradients of 1e-23 are below what float32 holds."""
    return torch.stack(torch._foreach_norm(list(tensors), dtype=torch.float64))


def _relative_scales(sizes: Tensor, lengths: Tensor, gamma: float, norm: Norm) -> Tensor:
    """``[n]`` factors that give each direction ``gamma`` times the length of its weights; a zero one stays zero.

    The public codes of AWP and RWP add 1e-20 to ``lengths``; that is invisible until the gradients of saturated logits,
    which are smaller than that, would move nothing.
    """
    if norm == "global":
        sizes, lengths = (torch.linalg.vector_norm(each).expand_as(each) for each in (sizes, lengths))
    return torch.where(lengths == 0, 0.0, gamma * sizes / lengths)


def _scaled(tensor: Tensor, scale: Tensor) -> Tensor:
    """``scale * tensor`` in the tensor's dtype, half types by way of float32: a factor may be beyond what they hold.

    A factor that is beyond what float32 holds, too, is its largest finite number.
    """
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return (tensor.to(wide) * scale.clamp_max(torch.finfo(wide).max).to(wide)).to(tensor.dtype)
