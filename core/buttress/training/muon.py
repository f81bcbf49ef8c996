"""Muon for matrices and convolutions, AdamW for all other parameters, as one optimizer.

Sources: Keller Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024, in the form of
``torch.optim.Muon``, which takes matrices alone: the momentum is orthogonalised by five steps of a quintic
Newton-Schulz iteration, in bfloat16. A convolution is flattened to ``[out, in * height * width]``, as in that text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from buttress.errors import ConfigError

Scale = Literal["original", "match_rms_adamw"]

MUON: Literal["muon"] = "muon"
ADAMW: Literal["adamw"] = "adamw"


class Muon(Optimizer):
    """Muon where a group says ``algorithm: muon``, and AdamW where it says ``adamw``.

    A group without ``algorithm`` is split: parameters of two or more dimensions are Muon's.

    Args:
        params: parameters, or groups of them.
        lr: learning rate of Muon.
        momentum: weight of the past in Muon's momentum, a running mean of gradients.
        nesterov: whether Muon's momentum is Nesterov's.
        weight_decay: weight decay of Muon, decoupled as AdamW's.
        ns_steps: number of Newton-Schulz steps.
        scale: factor on Muon's step for a matrix of r rows and c columns: ``original``, sqrt(max(1, r / c)), or
            ``match_rms_adamw``, 0.2 sqrt(max(r, c)).
        adamw_lr: learning rate of AdamW.
        adamw_betas: AdamW's weights of the past.
        adamw_eps: AdamW's term beside the root.
        adamw_weight_decay: weight decay of AdamW.
        ends: algorithm of the first and the last matrix or convolution of a model; a config's groups follow it, and
            parameters that are given in code do not.
        fused: whether AdamW's step is fused.

    Raises:
        ConfigError: this torch has no Muon.
        ValueError: Muon is to take a parameter of fewer than two dimensions, or a setting is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
        scale: Scale = "original",
        adamw_lr: float = 3e-4,
        adamw_betas: tuple[float, float] = (0.9, 0.95),
        adamw_eps: float = 1e-8,
        adamw_weight_decay: float = 0.0,
        ends: Literal["adamw", "muon"] = ADAMW,
        fused: bool | None = None,
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(f"optimizer muon needs torch 2.9 or later, and this is {torch.__version__}")
        own: dict[str, dict[str, Any]] = {
            MUON: {
                "lr": lr,
                "momentum": momentum,
                "nesterov": nesterov,
                "weight_decay": weight_decay,
                "ns_steps": ns_steps,
                "adjust_lr_fn": scale,
            },
            ADAMW: {
                "lr": adamw_lr,
                "betas": tuple(adamw_betas),
                "eps": adamw_eps,
                "weight_decay": adamw_weight_decay,
                "fused": fused,
            },
        }
        torch.optim.Muon([torch.empty(1, 1)], **own[MUON])  # each checks its settings
        AdamW([torch.empty(1)], **own[ADAMW])
        groups = list(params)
        groups = groups if groups and isinstance(groups[0], dict) else [{"params": groups}]
        parts = [(name, part) for group in groups for name, part in _by_algorithm(group)]
        super().__init__([{**own[name], **part, "algorithm": name} for name, part in parts], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make a step; see ``torch.optim.Optimizer.step``."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights and group["algorithm"] == MUON:
                self._orthogonalised(weights, group)
        others = [group for group in self.param_groups if group["algorithm"] == ADAMW]
        if others:
            own = AdamW([torch.empty(1)])
            own.param_groups = [{**own.param_groups[0], **group} for group in others]
            own.state = self.state
            own.step()
        return loss

    def _orthogonalised(self, weights: Sequence[nn.Parameter], group: dict[str, Any]) -> None:
        """torch's step for the matrices of ``weights``, in the memory of the weights and of their momentum."""
        own, matrices = torch.optim.Muon([torch.empty(1, 1)]), []
        for weight in weights:
            state = self.state[weight]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            matrix, buffer = (as_matrix(each, weight) for each in (weight.detach(), state["momentum_buffer"]))
            assert weight.grad is not None
            matrix.grad = as_matrix(weight.grad, weight)
            own.state[matrix]["momentum_buffer"] = buffer
            matrices.append((matrix, weight, buffer, state["momentum_buffer"]))
        own.param_groups = [{**own.param_groups[0], **group, "params": [matrix for matrix, *_ in matrices]}]
        own.step()  # type: ignore[no-untyped-call]
        for matrix, weight, buffer, momentum in matrices:
            if matrix.data_ptr() != weight.data_ptr():  # a copy, of a weight whose elements lie apart
                weight.copy_(from_matrix(matrix, weight))
            if buffer.data_ptr() != momentum.data_ptr():
                momentum.copy_(from_matrix(buffer, weight))


def _by_algorithm(group: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of a group with the algorithm of each; one part where the group says which."""
    weights = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
    if "algorithm" in group:
        parts = {group["algorithm"]: weights}
    else:
        parts = {name: [each for each in weights if (each.dim() > 1) is (name == MUON)] for name in (MUON, ADAMW)}
    if any(each.dim() < 2 for each in parts.get(MUON, [])):
        raise ValueError("algorithm: muon is for parameters of two or more dimensions")
    yield from ((name, {**group, "params": some}) for name, some in parts.items() if some)


def as_matrix(tensor: Tensor, weight: Tensor) -> Tensor:
    """``tensor [out, *]``, of the shape of ``weight``, as a matrix ``[out, n]``: its own memory where that can be.

    The columns are in the order in which the elements of a row of ``weight`` lie in memory. Orthogonalisation does not
    depend on the order of columns.
    """
    return tensor.permute(0, *_columns(weight)).flatten(1)


def from_matrix(matrix: Tensor, weight: Tensor) -> Tensor:
    """The inverse of ``as_matrix``: a tensor of the shape of ``weight``."""
    columns = _columns(weight)
    shape = [weight.shape[0], *(weight.shape[each] for each in columns)]
    places = [0, *columns]
    return matrix.view(shape).permute([places.index(each) for each in range(weight.dim())])


def _columns(weight: Tensor) -> list[int]:
    strides = weight.stride()
    return sorted(range(1, weight.dim()), key=lambda dim: -strides[dim])
