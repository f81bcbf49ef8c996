"""The first bad answer of everybody who answers, remembered on the device without making the host wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from buttress.errors import ButtressError

# Epoch and step travel to the device as one number: more steps than any epoch has.
_STEPS = 1 << 32


class Giver(Protocol):
    """Whoever gave an answer; makes the error that names them."""

    def fault(self, message: str, when: str = "") -> ButtressError: ...


class Provider(Giver, Protocol):
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
    who: Giver
    part: str


class FirstBad:
    """Remembers on the device, for everybody who answers, the first bad answer and which part of it was bad."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._found: dict[tuple[Giver, tuple[str, ...]], Tensor] = {}
        self._turn = 0  # of all calls of ``note``: in one step a bad gradient makes the loss after it bad

    def note(self, who: Giver, good: Tensor, when: tuple[int, int], names: Sequence[str] = ()) -> None:
        """``good`` are bools, one for each of ``names``, or a 0-dim one; nothing here waits for the device."""
        key = who, tuple(names)  # one plugin answers with several things: a loss, its gradients
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = torch.full((3,), -1, dtype=torch.int64, device=self._device)
        self._turn += 1
        # Three where's and no if: asking the device which case it is would make the host wait in every step.
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
