"""Weight perturbations in pure torch."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["layer", "global"]
Ball = Literal["global", "per_tensor"]

# What torch.nn.utils.clip_grad_norm_ adds to the norm.
_CLIP_GUARD = 1e-6


@torch.no_grad()
def perturb_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    gamma: float,
    norm: Norm = "layer",
    saved: Sequence[Tensor] | None = None,
) -> None:
    """See ``buttress.kernels.perturb_``. Memory: as much as the directions, one more time."""
    if saved is not None:
        restore_(saved, weights)
    scales = _relative_scales(_norms(weights), _norms(directions), gamma, norm)
    for weight, direction, scale in zip(weights, directions, scales.unbind(), strict=True):
        weight.add_(_scaled(direction, scale))


@torch.no_grad()
def restore_(weights: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    """See ``buttress.kernels.restore_``."""
    torch._foreach_copy_(list(weights), list(saved))


@torch.no_grad()
def unperturb_(weights: Sequence[Tensor], saved: Sequence[Tensor], perturbed: Sequence[Tensor]) -> None:
    """See ``buttress.kernels.unperturb_``."""
    for weight, origin, start in zip(weights, saved, perturbed, strict=True):
        weight.copy_(torch.where(start == origin, weight, origin + (weight - start)))


@torch.no_grad()
def accumulate_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    origin: Sequence[Tensor],
    total: Sequence[Tensor],
    state: Tensor,
    gamma: float,
    norm: Norm = "global",
    rescale: bool = True,
    kept: Tensor | None = None,
    begin: bool = False,
) -> None:
    """See ``buttress.kernels.accumulate_``. Memory: three times as much as the weights'."""
    if begin:
        restore_(origin, weights)
        torch._foreach_zero_(list(total))
        state[0], state[1] = _norms(origin), 0.0
    some = torch.ones((), dtype=torch.bool, device=state.device) if kept is None else kept > 0
    scales = state[1].clone() if rescale else torch.ones_like(state[1])
    for each, direction, scale in zip(total, directions, scales.unbind(), strict=True):
        each.copy_(torch.where(some, _scaled(each, scale) + direction, each))
    state[1] = torch.where(some, _relative_scales(state[0], _norms(total), gamma, norm), state[1])
    for weight, start, each, scale in zip(weights, origin, total, state[1].unbind(), strict=True):
        weight.copy_(torch.where(some, start + _scaled(each, scale), weight))


@torch.no_grad()
def ascend_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    origin: Sequence[Tensor],
    total: Sequence[Tensor],
    xi: float,
    delta: float,
    ball: Ball = "global",
    clip_norm: float | None = None,
    begin: bool = False,
) -> Tensor:
    """See ``buttress.kernels.ascend_``. Memory: three times as much as the weights'."""
    if begin:
        restore_(origin, weights)
        torch._foreach_zero_(list(total))
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


def _norms(tensors: Sequence[Tensor]) -> Tensor:
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
