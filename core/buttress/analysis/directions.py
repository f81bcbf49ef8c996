"""Directions in weight space, and losses at weights shifted along them.

Source: Li, Xu, Taylor, Studer, Goldstein, "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018,
arXiv:1712.09913, section 4: a Gaussian direction, each filter of which is scaled to the norm of the weights' own
filter. Biases and norm layers are not moved (their public code's ``ignore='biasbn'``).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Literal

import torch
from torch import Tensor, nn

from buttress.functional import cross_entropy
from buttress.nn.modes import Modes, parameters_of
from buttress.streams import seeded_generator

Norm = Literal["filter", "layer"]
Inputs = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""A function that makes batches of inputs ``[B,*]`` and labels ``[B]``; called at every point, when the model holds the
shifted weights."""


def random_direction(weights: Mapping[str, Tensor], seed: int, number: int = 0) -> dict[str, Tensor]:
    """A Gaussian direction: one tensor for each weight of more than one dimension.

    A draw depends on seed, number, name and shape alone, so that every run of the same network gets the same direction.

    Args:
        weights: parameters by name.
        seed: seed of the draws.
        number: number of the direction, from 0.
    """
    return {
        name: torch.randn(
            weight.shape, generator=seeded_generator("cpu", seed, "direction", number, name), dtype=weight.dtype
        ).to(weight.device)
        for name, weight in weights.items()
        if weight.dim() > 1
    }


def scaled_to_weights(
    direction: Mapping[str, Tensor], weights: Mapping[str, Tensor], norm: Norm = "filter"
) -> dict[str, Tensor]:
    """``direction`` scaled to the size of ``weights``.

    Args:
        direction: tensors ``[out,*]`` by name.
        weights: tensors of the same shapes.
        norm: with ``filter``, each of the ``out`` filters gets the norm of the weights' filter (Li et al.); with
            ``layer``, each tensor gets the norm of the weights' tensor (MEAT, arXiv:2406.14259).
    """
    scaled = {}
    for name, d in direction.items():
        w = weights[name].detach()
        axes = tuple(range(1, d.dim())) if norm == "filter" else tuple(range(d.dim()))
        own, wanted = (torch.linalg.vector_norm(t, dim=axes, keepdim=True) for t in (d, w))
        scaled[name] = d * (wanted / own)
    return scaled


def directions_id(directions: Iterable[Mapping[str, Tensor]]) -> str:
    """A short name for directions; it is equal for runs whose landscapes may be compared."""
    hashed = sha256()
    for direction in directions:
        for name, tensor in sorted(direction.items()):
            hashed.update(f"{name}{tuple(tensor.shape)}".encode())
            hashed.update(tensor.cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()[:16]


def losses_at(
    model: nn.Module, directions: Sequence[Mapping[str, Tensor]], points: Sequence[Sequence[float]], inputs: Inputs
) -> Tensor:
    """Cross-entropies at the weights ``w + a_1 d_1 + ... + a_k d_k``, in eval mode.

    The weights w are restored bit for bit, also after an exception.

    Args:
        model: the model, at the weights w.
        directions: k directions, each parameter name to tensor.
        points: P points, each k coordinates a.
        inputs: function that makes the inputs, n examples in all.

    Returns:
        ``[P, n]`` losses in nats, on the CPU.
    """
    parameters = parameters_of(model)
    moved = sorted({name for direction in directions for name in direction})
    origin = {name: parameters[name].detach().clone() for name in moved}
    rows = []
    try:
        with Modes(model).evaluating():
            for point in points:
                with torch.no_grad():
                    for name in moved:
                        parameters[name].copy_(origin[name])
                        for a, direction in zip(point, directions, strict=True):
                            parameters[name].add_(direction[name], alpha=a)
                rows.append(torch.cat([_losses(model, x, y) for x, y in inputs()]).cpu())
    finally:
        with torch.no_grad():
            for name in moved:
                parameters[name].copy_(origin[name])
    return torch.stack(rows)


@torch.no_grad()
def _losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x), y)
