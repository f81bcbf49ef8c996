"""The compiled weight perturbations, called as their pure-torch twins are."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from buttress.kernels import reference_perturb as reference
from buttress.kernels.reference_perturb import Ball, Norm

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@torch.no_grad()
def _perturb_(
    weights: Sequence[Tensor],
    directions: Sequence[Tensor],
    gamma: float,
    norm: Norm,
    saved: Sequence[Tensor] | None,
) -> None:
    torch.ops.buttress.perturb_(weights, directions, saved or [], gamma, norm)


@torch.no_grad()
def _restore_(weights: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    torch.ops.buttress.restore_(weights, saved)


@torch.no_grad()
def _unperturb_(weights: Sequence[Tensor], saved: Sequence[Tensor], perturbed: Sequence[Tensor]) -> None:
    torch.ops.buttress.unperturb_(weights, saved, perturbed)


@torch.no_grad()
def _accumulate_(
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
def _ascend_(
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


def operations(compiled_for: Callable[[torch.device], bool]) -> dict[str, Callable[..., Any]]:
    """By name; each takes the twin's way where nothing is compiled for the weights' device or dtype."""
    compiled: dict[str, Callable[..., Any]] = {
        "perturb_": _perturb_,
        "restore_": _restore_,
        "unperturb_": _unperturb_,
        "accumulate_": _accumulate_,
        "ascend_": _ascend_,
    }

    def either(name: str) -> Callable[..., Any]:
        def call(weights: Sequence[Tensor], *arguments: Any) -> Any:
            known = compiled_for(weights[0].device) and all(weight.dtype in _DTYPES for weight in weights)
            implementation = compiled[name] if known else getattr(reference, name)
            return implementation(weights, *arguments)

        return call

    return {name: either(name) for name in compiled}


def register_fakes() -> None:
    """For torch.compile: what is written has its shape already; ``ascend_`` gives one float64 number."""
    for name in ("perturb_", "restore_", "unperturb_", "accumulate_"):
        torch.library.register_fake(f"buttress::{name}", _nothing)
    torch.library.register_fake("buttress::ascend_", _one_number)


def _nothing(weights: Sequence[Tensor], *arguments: Any) -> None:
    return None


def _one_number(weights: Sequence[Tensor], *arguments: Any) -> Tensor:
    return torch.empty((), dtype=torch.float64, device=weights[0].device)
