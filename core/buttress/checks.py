"""Checks of the values that hooks answer with, without a host sync where that would cost."""

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from buttress.errors import ButtressError

CheckLevel = Literal["always", "interval", "off"]

# Epoch and step travel to the device as one number: more steps than any epoch has.
_STEPS = 1 << 32


class Answerer(Protocol):
    """Whoever gave an answer; makes the error that names it."""

    def fault(self, message: str, when: str = "") -> ButtressError: ...


class Provider(Answerer, Protocol):
    """A plugin that answers: its settings may be what is wrong."""

    def refusal(self, message: str) -> ButtressError: ...


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

    def expect(self, who: Answerer, good: Tensor, when: tuple[int, int], describe: Callable[[], str]) -> None:
        """Expect the 0-dim bool ``good`` of the answer that ``who`` gave ``when``: in which epoch, at which step of it.

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
        epoch, step = when
        first.copy_(torch.where((first < 0) & ~good, epoch * _STEPS + step, first))

    def read(self) -> None:
        """Synchronise once and raise the earliest fault on record.

        Raises:
            ButtressError: names who is at fault, and the epoch and step at which it happened first.
        """
        if not self._first_bad:
            return
        times = torch.stack(list(self._first_bad.values())).tolist()
        bad = [(time, who) for time, who in zip(times, self._first_bad, strict=True) if time >= 0]
        if bad:
            time, who = min(bad, key=lambda item: item[0])
            epoch, step = divmod(int(time), _STEPS)
            self._first_bad.clear()
            raise who.fault(
                "its answer was outside of what the hook allows (values, norm ball or finiteness); "
                "run with checks: always to see the values",
                f" first at epoch {epoch}, step {step}",
            )
