"""Checks of the values that hooks answer with, without a host sync where that would cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from buttress.engine.bad_steps import BadSteps
from buttress.engine.first_bad import FirstBad, Giver
from buttress.errors import moment

CheckLevel = Literal["always", "interval", "off"]


class ValueChecks:
    """Collects verdicts that are computed on the device.

    Args:
        level: ``always`` raises at once (the default on the CPU, where reading a bool costs nothing); ``interval``
            (the default on CUDA) folds verdicts into one record on the device, read by ``read``; ``off``.
        device: where the verdicts are.
        bad_steps: takes the verdicts on finiteness, at every level, where such steps are skipped; else they are faults.
    """

    def __init__(self, level: CheckLevel, device: torch.device, bad_steps: BadSteps | None = None) -> None:
        self.level, self.bad_steps = level, bad_steps
        self._first_bad = FirstBad(device)

    @property
    def watches_finite(self) -> bool:
        """Whether anybody asks if losses and gradients are finite."""
        return self.level != "off" or self.bad_steps is not None

    def expect(
        self, who: Giver, good: Tensor, when: tuple[int, int], describe: Callable[[], str], names: Sequence[str] = ()
    ) -> None:
        """Expect the bools ``good`` of the answer that ``who`` gave ``when``: in which epoch, at which step of it.

        Args:
            who: gave the answer.
            good: 0-dim, or ``[n]``, one for each of ``names``.
            when: epoch and step.
            describe: the message at level ``always``.
            names: the parts of the answer.

        Raises:
            ButtressError: at level ``always``.
        """
        if self.level != "always":
            self._first_bad.note(who, good, when, names)
        elif not good.all():
            raise who.fault(describe())

    def expect_finite(
        self, who: Giver, good: Tensor, when: tuple[int, int], describe: Callable[[], str], names: Sequence[str]
    ) -> None:
        """As ``expect``; where bad steps are skipped it is none that fails, but a step to be skipped."""
        if self.bad_steps is None:
            self.expect(who, good, when, describe, names)
        else:
            self.bad_steps.note(who, good, when, names)

    def read(self) -> None:
        """Synchronise once and raise the earliest fault on record.

        Raises:
            ButtressError: names who is at fault, and the epoch and step at which it happened first.
        """
        found = self._first_bad.take()
        if found is None:
            return
        what = (
            f"{found.part} was not finite"
            if found.part
            else "what it gave was outside of what is allowed (values, norm ball, labels or finiteness)"
        )
        raise found.who.fault(
            f"{what}; run with checks: always to see the values", f" first at {moment(found.epoch, found.step)}"
        )
