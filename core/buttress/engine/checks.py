"""Checks of the values that hooks answer with, without a host sync where that would cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from buttress.errors import ButtressError, moment

if TYPE_CHECKING:
    from buttress.engine.bad_steps import BadSteps

CheckLevel = Literal["always", "interval", "off"]

# Epoch and step travel to the device as one number: more steps than any epoch has.
_STEPS = 1 << 32


class Answerer(Protocol):
    """Whoever gave an answer; makes the error that names it."""

    def fault(self, message: str, when: str = "") -> ButtressError: ...


class Provider(Answerer, Protocol):
    """A plugin that answers: its settings may be what is wrong."""

    def refusal(self, message: str) -> ButtressError: ...


class Verdict(NamedTuple):
    """The first bad answer of somebody.

    Args:
        epoch: of the run, 0-based.
        step: of the epoch, 0-based.
        who: gave it.
        part: what of it was bad (``the gradient of 'conv.weight'``), or nothing where it has no parts.
    """

    epoch: int
    step: int
    who: Answerer
    part: str


class FirstBad:
    """Remembers on the device, for everybody who answers, the first bad answer and which part of it was bad."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._found: dict[tuple[Answerer, tuple[str, ...]], Tensor] = {}
        self._turn = 0  # of all calls of ``note``: in one step a bad gradient makes the loss after it bad

    def note(self, who: Answerer, good: Tensor, when: tuple[int, int], names: Sequence[str] = ()) -> None:
        """``good`` are bools, one for each of ``names``, or a 0-dim one; nothing here waits for the device."""
        key = who, tuple(names)  # one plugin answers with several things: a loss, its gradients
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = torch.full((3,), -1, dtype=torch.int64, device=self._device)
        self._turn += 1
        turn, time, part = found.unbind()
        bad = ~good.flatten()
        first = (turn < 0) & bad.any()
        part.copy_(torch.where(first, bad.int().argmax(), part))
        time.copy_(torch.where(first, when[0] * _STEPS + when[1], time))
        turn.copy_(torch.where(first, self._turn, turn))

    def take(self) -> Verdict | None:
        """The earliest of all, and forget them; synchronises with the device."""
        if not self._found:
            return None
        found = torch.stack(list(self._found.values())).tolist()
        bad = [
            (turn, time, who, names[part] if names else "")
            for (turn, time, part), (who, names) in zip(found, self._found, strict=True)
            if turn >= 0
        ]
        self._found.clear()
        if not bad:
            return None
        _, time, who, part = min(bad, key=lambda item: item[0])
        return Verdict(*divmod(int(time), _STEPS), who, part)


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
        self, who: Answerer, good: Tensor, when: tuple[int, int], describe: Callable[[], str], names: Sequence[str] = ()
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
        self, who: Answerer, good: Tensor, when: tuple[int, int], describe: Callable[[], str], names: Sequence[str]
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
