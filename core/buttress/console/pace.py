"""How far a job is and how long it will still take, where its work is of several kinds that take different times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class _Kind:
    """One kind of work: ``left`` units to do; ``done`` units took ``seconds``; ``expected`` seconds a unit before."""

    left: float = 0.0
    done: float = 0.0
    seconds: float = 0.0
    expected: float = 0.0

    @property
    def each(self) -> float:
        """Seconds a unit: measured, or as expected where nothing has been measured yet."""
        return self.seconds / self.done if self.done else self.expected


class Pace:
    """Units of work done and ahead, by kind (``"steps"``, ``"examples"``), each at its own measured speed."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}
        self._before: dict[str, float] = {}

    def expect(self, kind: str, units: float, each: float | None = None) -> None:
        """So many units of a kind are ahead; ``each``: seconds a unit, used until some have been measured."""
        own = self._kinds.setdefault(kind, _Kind())
        own.left = units
        own.expected = own.expected if each is None else each

    def begin_with(self, kind: str, units: float) -> None:
        """So many units were done before anything was measured, by a process that has ended."""
        self._before[kind] = units

    def done(self, kind: str, units: float, seconds: float) -> None:
        """So many units of a kind took so many seconds."""
        own = self._kinds.setdefault(kind, _Kind())
        own.left = max(0.0, own.left - units)
        own.done += units
        own.seconds += seconds

    def skip(self, kind: str, units: float) -> None:
        """So many of the units ahead turned out not to be needed."""
        own = self._kinds.setdefault(kind, _Kind())
        own.left = max(0.0, own.left - units)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until everything is done, or None before anything has been measured."""
        left = sum(own.left * own.each for own in self._kinds.values())
        known = any(own.done for own in self._kinds.values())
        return left if known else None

    @property
    def share(self) -> float:
        """The part that is done, from 0 to 1, in time."""
        left = sum(own.left * own.each for own in self._kinds.values())
        spent = sum(own.seconds for own in self._kinds.values())
        spent += sum(units * self._kinds[kind].each for kind, units in self._before.items() if kind in self._kinds)
        return spent / (spent + left) if spent else float(not any(own.left for own in self._kinds.values()))
