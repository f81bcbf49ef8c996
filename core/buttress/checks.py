"""Checks of the values that hooks answer with, without a host sync where that would cost."""

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from buttress.errors import ButtressError

CheckLevel = Literal["always", "interval", "off"]


class Answerer(Protocol):
    """Whoever gave an answer; makes the error that names it."""

    def fault(self, message: str, when: str = "") -> ButtressError: ...


class ValueChecks:
    """Collects verdicts that are computed on the device.

    Args:
        level: ``always`` raises at once (the default on the CPU, where reading a bool costs nothing); ``interval``
            (the default on CUDA) folds verdicts into one record on the device, read by ``read``; ``off``.
        device: where the verdicts are.
    """

    def __init__(self, level: CheckLevel, device: torch.device) -> None:
        self.level = level
        self._device = device
        self._first_bad: dict[Answerer, Tensor] = {}

    def expect(self, who: Answerer, good: Tensor, step: int, describe: Callable[[], str]) -> None:
        """Expect the 0-dim bool ``good`` of the answer that ``who`` gave at global step ``step``.

        Raises:
            ButtressError: at level ``always``, with ``describe()`` as the message.
        """
        if self.level == "always":
            if not good:
                raise who.fault(describe())
            return
        first = self._first_bad.get(who)
        if first is None:
            first = self._first_bad[who] = torch.full((), -1, dtype=torch.int64, device=self._device)
        first.copy_(torch.where((first < 0) & ~good, step, first))

    def read(self) -> None:
        """Synchronise once and raise the earliest fault on record.

        Raises:
            ButtressError: names who is at fault and the global step at which it happened first.
        """
        if not self._first_bad:
            return
        steps = torch.stack(list(self._first_bad.values())).tolist()
        bad = [(step, who) for step, who in zip(steps, self._first_bad, strict=True) if step >= 0]
        if bad:
            step, who = min(bad, key=lambda item: item[0])
            self._first_bad.clear()
            raise who.fault(
                "its answer was outside of what the hook allows (values, norm ball or finiteness); "
                "run with checks: always to see the values",
                f" first at global step {int(step)}",
            )
