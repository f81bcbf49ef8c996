"""What a plugin adds to a step: passes through the model, counted, and time on the bench."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

from buttress.forecast import Passes, counted
from buttress.testing.subject import Subject, step

# Steps with and without the plugin, in turns, after one of each to warm up.
_ROUNDS = 9


@dataclass(frozen=True)
class Cost:
    """Of one training step, compared with the same stack without the plugin (where it attacks: with ``clean``).

    Args:
        passes: through the model, that it adds; negative: that it saves.
        milliseconds: median time that it adds, on a network of a few hundred weights: passes and its own overhead.
    """

    passes: Passes
    milliseconds: float

    def __str__(self) -> str:
        return f"{passes_text(self.passes)} a step; {self.milliseconds:+.2f} ms a step on the bench's small network"


def passes_text(passes: Passes) -> str:
    """``"+10 forwards, +10 backwards to the input"``."""
    names = {"forwards": "forwards", "input_backwards": "backwards to the input"}
    names["weight_backwards"] = "to the weights" if passes.input_backwards else "backwards to the weights"
    parts = [f"{number:+d} {names[key]}" for key, number in asdict(passes).items() if number]
    return ", ".join(parts) or "no passes"


def passes_added(subject: Subject) -> Passes:
    """Passes that the plugin adds to the first step."""
    found = []
    for without in (False, True):
        with subject.scratch() as scratch:
            engine = subject.engine(scratch, attack=_attack(subject), without=without)
            with counted(engine.model) as passes:
                step(engine, 0)
            found.append(asdict(passes))
    return Passes(**{key: found[0][key] - found[1][key] for key in found[0]})


def cost_of(subject: Subject) -> Cost:
    """Passes and time; the steps with and without the plugin alternate, so that a busy machine slows both."""
    with subject.scratch() as scratch:
        engines = [subject.engine(scratch, attack=_attack(subject), without=without) for without in (False, True)]
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(_ROUNDS + 1):
            for engine, spent in zip(engines, times, strict=True):
                start = perf_counter()
                step(engine, number)
                spent.append(perf_counter() - start)
    return Cost(passes_added(subject), 1000 * (median(times[0][1:]) - median(times[1][1:])))


def _attack(subject: Subject) -> str:
    return "clean" if "generate_adv" in subject.provides else "fgsm"
