"""The rows of the table of plugins."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from buttress.training.forecast import Passes

from ..conformance.references import End, Step

Settings = dict[str, Any]
Place = Literal["attack", "loss", "perturbation"]
"""A place in a step that one plugin can take."""


@dataclass(frozen=True)
class Case:
    """A stack of plugins, and the same method written out again in ``tests/conformance/references.py``.

    Args:
        stack: entries as in a config; a function makes an entry for the convolutional network (True) or for the MLP.
        step: literal training step.
        draws: draws to inject besides the attack's start.
        aux: further tensors of the batch.
        factor: factor on the learning rate.
        end: literal end of an epoch; the case then trains three epochs, and compares the tracks too.
    """

    stack: list[Any]
    step: Step
    draws: dict[str, Tensor] = field(default_factory=dict)
    aux: dict[str, Tensor] = field(default_factory=dict)
    factor: float = 1.0
    end: End | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One plugin.

    Args:
        wrong: settings that it must refuse, each alone.
        costs: stacks with it, each with the passes through the model of one step; the first shows its own cost.
        references: name of a case to the case; at least one.
        settings: settings that show its effect on the small bench of ``buttress.testing``.
        on_conv_net: settings that ``tests.models.ConvNet`` and its small images of three classes need besides.
        data: settings of the data set that it needs.
        pair: settings that show its effect beside any other plugin within two epochs on digits.
        place: place in a step that it takes, or several: plugins of one place refuse one another.
        refuses: other plugin that it is refused beside, to the reason.
        stateful: whether it has a ``state_dict``.
    """

    wrong: list[Settings]
    costs: list[tuple[list[Any], Passes]]
    references: dict[str, Case]
    settings: Settings = field(default_factory=dict)
    on_conv_net: Settings = field(default_factory=dict)
    data: Settings = field(default_factory=dict)
    pair: Settings = field(default_factory=dict)
    place: Place | tuple[Place, ...] | None = None
    refuses: dict[str, str] = field(default_factory=dict)
    stateful: bool = False

    @property
    def places(self) -> tuple[Place, ...]:
        """The places in a step that it takes."""
        return (self.place,) if isinstance(self.place, str) else self.place or ()


@dataclass(frozen=True)
class Attack:
    """One attack of evaluations: settings small enough for tests, and settings that it must refuse, each alone."""

    settings: Settings
    wrong: list[Settings]


Layered = Callable[[bool], dict[str, Settings]]
