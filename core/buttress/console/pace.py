"""Progress and remaining time of a job whose work is of several kinds, each with its own speed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class _Kind:
    """One kind of work: ``left`` units to do, ``done`` units that took ``seconds``, ``expected`` seconds a unit."""

    left: float = 0.0
    done: float = 0.0
    seconds: float = 0.0
    expected: float = 0.0

    @property
    def each(self) -> float:
        """Seconds a unit: as measured, or as expected where nothing has been measured yet."""
        return self.seconds / self.done if self.done else self.expected


class Pace:
    """Units of work, done and ahead, by kind (``"steps"``, ``"examples"``), each kind at its own measured speed."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}
        self._before: dict[str, float] = {}

    def expect(self, kind: str, units: float, each: float | None = None) -> None:
        """Set the number of units of a kind that are ahead; ``each``: seconds a unit, used until one is measured."""
        own = self._kinds.setdefault(kind, _Kind())
        own.left = units
        own.expected = own.expected if each is None else each

    def begin_with(self, kind: str, units: float) -> None:
        """Set the number of units of a kind that an earlier process did, before any measurement."""
        self._before[kind] = units

    def done(self, kind: str, units: float, seconds: float) -> None:
        """Record that ``units`` of a kind took ``seconds``."""
        own = self._kinds.setdefault(kind, _Kind())
        own.left = max(0.0, own.left - units)
        own.done += units
        own.seconds += seconds

    def skip(self, kind: str, units: float) -> None:
        """Drop ``units`` ahead that turned out not to be needed."""
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
        """Share of the total time that has passed, from 0 to 1."""
        left = sum(own.left * own.each for own in self._kinds.values())
        spent = sum(own.seconds for own in self._kinds.values())
        spent += sum(units * self._kinds[kind].each for kind, units in self._before.items() if kind in self._kinds)
        return spent / (spent + left) if spent else float(not any(own.left for own in self._kinds.values()))
