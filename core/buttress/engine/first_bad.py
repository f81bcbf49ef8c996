"""Remember the first bad answer of every giver on the device, without making the host wait."""

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

    def fault(self, message: str, when: tuple[int, int] | None = None) -> ButtressError:
        """An error about the present step, or about the epoch and step ``when`` the fault happened first."""

    def failure(self, problem: BaseException) -> ButtressError:
        """An error about an exception that the giver's code raised."""


class Provider(Giver, Protocol):
    """A giver that is a plugin, whose settings may be wrong."""

    def refusal(self, message: str) -> ButtressError: ...


class Verdict(NamedTuple):
    """A bad answer, the first of its giver.

    Args:
        epoch: epoch of the run, 0-based.
        step: step of the epoch, 0-based.
        who: giver of the answer.
        part: name of the part that was bad (``the gradient of 'conv.weight'``); empty where the answer has no parts.
    """

    epoch: int
    step: int
    who: Giver
    part: str


class FirstBad:
    """A record on the device: for every giver the first bad answer, and the part of it that was bad."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._records: dict[tuple[Giver, tuple[str, ...]], Tensor] = {}
        self._turn = 0  # number of the call, which orders faults within a step

    def note(self, who: Giver, good: Tensor, when: tuple[int, int], names: Sequence[str] = ()) -> None:
        """Note a verdict: ``good`` holds one bool for each of ``names``, or is 0-dim; nothing waits for the device."""
        key = who, tuple(names)  # one plugin gives several answers: a loss, its gradients
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = torch.full((3,), -1, dtype=torch.int64, device=self._device)
        self._turn += 1
        # Three where's and no if: an if on a value of the device would make the host wait in every step.
        turn, time, part = record.unbind()
        bad = ~good.flatten()
        first = (turn < 0) & bad.any()
        part.copy_(torch.where(first, bad.int().argmax(), part))
        time.copy_(torch.where(first, when[0] * _STEPS + when[1], time))
        turn.copy_(torch.where(first, self._turn, turn))

    def take(self) -> Verdict | None:
        """Return the earliest bad answer of all, and forget all; synchronises with the device."""
        if not self._records:
            return None
        records = torch.stack(list(self._records.values())).tolist()
        bad = [
            (turn, time, who, names[part] if names else "")
            for (turn, time, part), (who, names) in zip(records, self._records, strict=True)
            if turn >= 0
        ]
        self._records.clear()
        if not bad:
            return None
        _, time, who, part = min(bad, key=lambda item: item[0])
        return Verdict(*divmod(int(time), _STEPS), who, part)
