"""Learning-rate schedules: the factor on the initial learning rate at time t."""

from itertools import pairwise
from typing import Annotated, Literal, Protocol

from annotated_types import Gt

from buttress.errors import ConfigError
from buttress.settings import Epoch, resolve_epoch


class Schedule(Protocol):
    """A schedule by name: settings in ``__init__``, the factor by ``factor``.

    ``per`` says when the trainer asks: once an ``epoch`` (t = 0-based epoch), or every ``batch`` with
    t = epoch + (i + 1) / batches, so that the last batch of an epoch already has the next epoch's value (RO lineage).
    """

    per: Literal["epoch", "batch"]

    def factor(self, t: float, epochs: int) -> float:
        """The factor at time ``t`` in epochs, of ``epochs``."""
        ...

    def drops(self, epochs: int) -> list[int]:
        """Epochs at which the factor jumps, for pictures and reports."""
        ...


class Constant:
    """The initial learning rate throughout."""

    per: Literal["epoch", "batch"] = "epoch"

    def factor(self, t: float, epochs: int) -> float:
        return 1.0

    def drops(self, epochs: int) -> list[int]:
        return []


class Piecewise:
    """The learning rate times ``factor`` at each milestone.

    Args:
        milestones: increasing epochs: 0-based, or fractions of the epochs in (0, 1).
        factor: of one drop.
        per: ``epoch`` or ``batch``.
    """

    def __init__(
        self,
        *,
        milestones: list[Epoch],
        factor: Annotated[float, Gt(0)] = 0.1,
        per: Literal["epoch", "batch"] = "epoch",
    ) -> None:
        self.milestones, self.per = milestones, per
        self._factor = factor

    def factor(self, t: float, epochs: int) -> float:
        return float(self._factor ** sum(t >= milestone for milestone in self.drops(epochs)))

    def drops(self, epochs: int) -> list[int]:
        resolved = [resolve_epoch(milestone, epochs) for milestone in self.milestones]
        if any(later <= earlier for earlier, later in pairwise(resolved)):
            raise ConfigError(f"expected increasing epochs, got {resolved} (of {epochs} epochs)")
        return resolved


SCHEDULES: dict[str, type[Schedule]] = {"constant": Constant, "piecewise": Piecewise}
