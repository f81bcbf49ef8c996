"""The compiled weight perturbations, called as their pure-torch twins are."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from buttress.kernels.reference.perturbations import Ball, Norm


@torch.no_grad()
def perturb_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    gamma: float,
    norm: Norm,
    saved: Sequence[Tensor] | None,
) -> None:
    torch.ops.buttress.perturb_(weights, directions, saved or [], gamma, norm)


@torch.no_grad()
def restore_(weights: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    torch.ops.buttress.restore_(weights, saved)


@torch.no_grad()
def unperturb_(weights: Sequence[Tensor], saved: Sequence[Tensor], perturbed: Sequence[Tensor]) -> None:
    torch.ops.buttress.unperturb_(weights, saved, perturbed)


@torch.no_grad()
def accumulate_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    origin: Sequence[Tensor],
    total: Sequence[Tensor],
    state: Tensor,
    gamma: float,
    norm: Norm,
    rescale: bool,
    kept: Tensor | None,
    begin: bool,
) -> None:
    torch.ops.buttress.accumulate_(weights, directions, origin, total, state, gamma, norm, rescale, kept, begin)


@torch.no_grad()
def ascend_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    origin: Sequence[Tensor],
    total: Sequence[Tensor],
    xi: float,
    delta: float,
    ball: Ball,
    clip_norm: float | None,
    begin: bool,
) -> Tensor:
    length: Tensor = torch.ops.buttress.ascend_(weights, directions, origin, total, xi, delta, ball, clip_norm, begin)
    return length


def register_fakes() -> None:
    """For torch.compile: what is written has its shape already; ``ascend_`` gives one float64 number."""
    for name in ("perturb_", "restore_", "unperturb_", "accumulate_"):
        torch.library.register_fake(f"buttress::{name}", _nothing)
    torch.library.register_fake("buttress::ascend_", _one_number)


def _nothing(weights: Sequence[Tensor], *arguments: Any) -> None:
    return None


def _one_number(weights: Sequence[Tensor], *arguments: Any) -> Tensor:
    return torch.empty((), dtype=torch.float64, device=weights[0].device)
