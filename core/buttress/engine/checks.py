"""Check the values of answers, without waiting for the device where that would cost time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from buttress.engine.bad_steps import BadSteps
from buttress.engine.first_bad import FirstBad, Giver
from buttress.nn.finite import FiniteTensors

CheckLevel = Literal["always", "interval", "off"]


class ValueChecks:
    """Collects verdicts on answers that are computed on the device.

    Args:
        level: ``always`` raises at once (the default on the CPU, where reading a bool costs nothing); ``interval``
            (the default on CUDA) folds verdicts into one record on the device, for ``read``; ``off`` checks nothing.
        device: device of the verdicts.
        bad_steps: receives the verdicts on finiteness, at every level, where bad steps are skipped; with None a value
            that is not finite is a fault.
        finite: tensors of the model that must be finite, at every level but ``off``; None checks none.
    """

    def __init__(
        self,
        level: CheckLevel,
        device: torch.device,
        bad_steps: BadSteps | None = None,
        finite: FiniteTensors | None = None,
    ) -> None:
        self.level, self.bad_steps = level, bad_steps
        self.finite = finite if level != "off" else None
        self._first_bad = FirstBad(device)

    @property
    def watches_finite(self) -> bool:
        """Whether losses and gradients are checked for finiteness."""
        return self.level != "off" or self.bad_steps is not None

    def expect(
        self, who: Giver, good: Tensor, when: tuple[int, int], describe: Callable[[], str], names: Sequence[str] = ()
    ) -> None:
        """Expect that all of ``good``, the verdict on an answer, is true.

        Args:
            who: giver of the answer.
            good: 0-dim bool, or ``[n]`` bools, one for each of ``names``.
            when: epoch and step of the answer.
            describe: makes the message at level ``always``.
            names: names of the parts of the answer.

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
        """Like ``expect``, but where bad steps are skipped, mark the step instead of raising."""
        if self.bad_steps is None:
            self.expect(who, good, when, describe, names)
        else:
            self.bad_steps.note(who, good, when, names)

    def read(self, place: str) -> str:
        """Synchronise once and raise the earliest fault on record, or that of the model at ``place`` in the run.

        Returns:
            A sentence about the steps skipped since the last call, or nothing.

        Raises:
            ButtressError: names who is at fault, and the epoch and step at which it happened first.
            DivergenceError: a tensor of the model is not finite, or too many consecutive steps had to be skipped.
        """
        verdict = self._first_bad.take()
        if verdict is not None:
            problem = (
                f"{verdict.part} was not finite"
                if verdict.part
                else "what it gave was outside of what is allowed (values, norm ball, labels or finiteness)"
            )
            when = (verdict.epoch, verdict.step)
            raise verdict.who.fault(f"{problem}; run with checks: always to see the values", when)
        skipped = self.bad_steps.read() if self.bad_steps else ""
        if self.finite is not None:
            self.finite.expect(place)
        return skipped
