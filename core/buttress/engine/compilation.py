"""Choose how the forwards of a model are compiled."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from buttress.engine.cuda_graphs import GraphedPasses
from buttress.engine.torch_compile import CompiledPasses
from buttress.errors import ConfigError, nearest
from buttress.nn.calls import ModelCall

Compile = Literal["off", "model", "graphs"]
"""``model``: ``torch.compile``. ``graphs``: the passes of an attack step as CUDA graphs."""


class FasterPasses(Protocol):
    """Another way to make the forwards of a model."""

    def call(self, forward: ModelCall, x: Tensor, *, scoring: bool) -> Tensor:
        """``forward(x)``, or the same by a graph; ``scoring`` where it belongs to an evaluation."""


def expect_compilation(choice: str, device: torch.device) -> None:
    """Expect a way to compile that there is, on this device.

    Raises:
        ConfigError: an unknown choice, or ``graphs`` on a device that is not CUDA.
    """
    if choice not in get_args(Compile):
        raise ConfigError(
            f"expected one of {', '.join(get_args(Compile))}, got {choice!r}{nearest(str(choice), get_args(Compile))}"
        )
    if choice == "graphs" and device.type != "cuda":
        raise ConfigError(f"graphs are CUDA graphs, and the model is on {device}; use compile: model, or off")


def compiled_passes(choice: str, model: nn.Module, device: torch.device, who: str) -> FasterPasses | None:
    """The compiled form of the forwards of ``model``; None for ``off``.

    Raises:
        ConfigError: as from ``expect_compilation``. The message begins with ``who``.
    """
    try:
        expect_compilation(choice, device)
    except ConfigError as problem:
        raise ConfigError(f"{who}: compile: {problem}") from None
    return None if choice == "off" else CompiledPasses(model) if choice == "model" else GraphedPasses(model)
