"""Checks and shapes of the compiled operators, for torch.compile and for tensors without memory."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from buttress.kernels.reference import losses, medians, perturbations


def register() -> None:
    """Give torch a fake of every operator."""
    for name, fake in _FAKES.items():
        torch.library.register_fake(f"buttress::{name}", fake)


def _median(tensors: Sequence[Tensor], even: str) -> Tensor:
    medians.check_median(tensors, even)
    return torch.empty_like(tensors[0])


def _median_out(tensors: Sequence[Tensor], even: str, out: Tensor) -> None:
    medians.check_median(tensors, even)
    medians.check_median_out(tensors, out)


def _median_many(tensors: Sequence[Tensor], n: int, even: str) -> list[Tensor]:
    medians.check_median_many(tensors, n, even)
    return [torch.empty_like(tensor) for tensor in tensors[::n]]


def _median_many_out(tensors: Sequence[Tensor], n: int, even: str, out: Sequence[Tensor]) -> None:
    medians.check_median_many(tensors, n, even)
    medians.check_median_many_out(tensors, n, out)


def _rwp_first_step(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    origin: Sequence[Tensor],
    total: Sequence[Tensor],
    state: Tensor,
    gamma: float,
    norm: str,
    kept: Tensor | None,
) -> None:
    perturbations.check_rwp("rwp_first_step_", weights, directions, origin, total, state, gamma, norm, kept)


def _rwp_step(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    origin: Sequence[Tensor],
    total: Sequence[Tensor],
    state: Tensor,
    gamma: float,
    norm: str,
    rescale: bool,
    kept: Tensor | None,
) -> None:
    perturbations.check_rwp("rwp_step_", weights, directions, origin, total, state, gamma, norm, kept)


def _amp_step(who: str, weights: Sequence[Tensor], *arguments: Any) -> Tensor:
    perturbations.check_amp(who, weights, *arguments)
    return torch.empty((), dtype=torch.float64, device=weights[0].device)


def _lsc_mean(values: Tensor, c_min: float, inclusive: bool) -> tuple[Tensor, Tensor]:
    losses.check_mean(values, c_min)
    return values.new_empty(()), values.new_empty((), dtype=torch.int64)


def _lsc_mean_backward(grad: Tensor, values: Tensor, c_min: float, inclusive: bool) -> Tensor:
    return values.new_empty(values.shape)


def _lsc_cross_entropy(logits: Tensor, targets: Tensor, c_min: float, inclusive: bool) -> tuple[Tensor, Tensor]:
    losses.check_cross_entropy(logits, targets, c_min)
    return logits.new_empty(()), targets.new_empty(())


def _lsc_cross_entropy_gradient(
    logits: Tensor, targets: Tensor, c_min: float, inclusive: bool
) -> tuple[Tensor, Tensor, Tensor]:
    mean, kept = _lsc_cross_entropy(logits, targets, c_min, inclusive)
    return mean, kept, logits.new_empty(logits.shape, dtype=_wide(logits))


def _lsc_scale(gradient: Tensor, grad: Tensor) -> Tensor:
    return gradient.new_empty(gradient.shape, dtype=grad.dtype)


def _lsc_cross_entropy_rows(
    logits: Tensor, targets: Tensor, c_min: float, inclusive: bool
) -> tuple[Tensor, Tensor, Tensor]:
    mean, kept = _lsc_cross_entropy(logits, targets, c_min, inclusive)
    return mean, kept, logits.new_empty((logits.shape[0], 2), dtype=_wide(logits))


def _lsc_cross_entropy_backward(grad: Tensor, logits: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
    return logits.new_empty(logits.shape)


def _wide(tensor: Tensor) -> torch.dtype:
    """The dtype of the computation."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


_FAKES: dict[str, Callable[..., Any]] = {
    "median": _median,
    "median_out": _median_out,
    "median_many": _median_many,
    "median_many_out": _median_many_out,
    "perturb_": perturbations.check_perturb,
    "restore_": perturbations.check_restore,
    "unperturb_": perturbations.check_unperturb,
    "rwp_first_step_": _rwp_first_step,
    "rwp_step_": _rwp_step,
    "amp_first_step_": partial(_amp_step, "amp_first_step_"),
    "amp_step_": partial(_amp_step, "amp_step_"),
    "lsc_mean": _lsc_mean,
    "lsc_mean_backward": _lsc_mean_backward,
    "lsc_cross_entropy": _lsc_cross_entropy,
    "lsc_cross_entropy_gradient": _lsc_cross_entropy_gradient,
    "lsc_scale": _lsc_scale,
    "lsc_cross_entropy_rows": _lsc_cross_entropy_rows,
    "lsc_cross_entropy_backward": _lsc_cross_entropy_backward,
}

NAMES = tuple(_FAKES)
"""Names of the operators."""
