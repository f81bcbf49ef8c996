"""The cost of a plugin on the bench: passes and examples in a step with it and in one without, and the time of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

from buttress.console.tables import WIDTH, fitted
from buttress.engine.engine import Engine
from buttress.testing.passes import KINDS, Spread, Tree, attack_beside, run_counted, spread_of
from buttress.testing.subject import EPOCHS, STEPS, Net, Subject, batch_of, bench_text, step
from buttress.testing.waiting import Waits

# Columns that a report leaves free to the left.
_INDENT = 4
# Steps with and without the plugin that are timed, in turns, after one of each to warm up.
_ROUNDS = 9


@dataclass(frozen=True)
class Load:
    """The work of a stack on the bench; spreads are over its steps, or over the ends of its epochs.

    Args:
        step: passes and examples of a step, as ``Counts`` of ``Spread``.
        epoch_end: those at the end of an epoch.
        milliseconds: time of a step.
    """

    step: Tree
    epoch_end: Tree
    milliseconds: Spread


@dataclass(frozen=True)
class Cost:
    """Cost of a plugin: its stack beside the stack without it (for an attack: with ``clean``).

    Args:
        bench: description of the network and the batches.
        steps: number of steps that were counted.
        own: work of the stack with the plugin.
        without: work of the stack without it.
        waits: places at which the host waits for the device in a step with the plugin, as on CUDA.
    """

    bench: str
    steps: int
    own: Load
    without: Load
    waits: Sequence[str]

    def __str__(self) -> str:
        loads = self.own, self.without
        rows = [
            *_rows([load.step["whole"] for load in loads], always=True),
            *_rows([load.step["parts"] for load in loads], "begun inside the model:"),
            *_rows([load.epoch_end["whole"] for load in loads], "at the end of an epoch:"),
            *_rows([load.epoch_end["parts"] for load in loads], "there, begun inside the model:"),
            [f"milliseconds, of {_ROUNDS} steps", *(load.milliseconds.text(".2f") for load in loads)],
        ]
        header = [f"of {self.steps} steps", "with it", "without it"]
        table = fitted(header, rows, WIDTH - _INDENT, names=1)
        waits = "\n  ".join(["waits for the device in a step:", *self.waits]) if self.waits else "waits for no device"
        return f"{table}\n{waits}\nbench: {self.bench}"


def _rows(tallies: Sequence[Tree], title: str = "", *, always: bool = False) -> Iterator[list[str]]:
    """Two rows for each kind of passes that occurs (``always``: for each kind), below the title."""
    for kind, name in KINDS.items():
        passes, examples = ([tally[what][kind] for tally in tallies] for what in ("passes", "examples"))
        if always or any(spread.high for spread in passes):
            if title:
                yield [title, "", ""]
                title = ""
            yield [name.format("s"), *map(_text, passes)]
            yield ["examples in them", *map(_text, examples)]


def _text(spread: Spread) -> str:
    """``"1"``, or ``"0 to 10, mean 2.5"``."""
    return spread.text() if spread.low == spread.high else f"{spread.text()}, mean {spread.mean:.3g}"


def cost_of(subject: Subject) -> Cost:
    """Count and time the bench with the plugin and without it.

    Raises:
        ButtressError: a step of the bench cannot be taken.
    """
    loads = []
    for without, milliseconds in zip((False, True), _timed(subject), strict=True):
        steps, ends = run_counted(subject, without=without)
        loads.append(Load(spread_of(steps), spread_of(ends), milliseconds))
    return Cost(bench_text(), EPOCHS * STEPS, own=loads[0], without=loads[1], waits=_waits(subject))


def _waits(subject: Subject) -> list[str]:
    """The places at which steps of the bench would wait for a GPU, but for the first, in which state is made."""
    batches, model, places = [batch_of(number) for number in range(EPOCHS * STEPS)], Net(), dict[str, None]()
    with subject.scratch() as scratch, Waits() as waits:
        engine = subject.engine(scratch, model=model, attack=attack_beside(subject), checks="interval")
        for number, batch in enumerate(batches):
            waits.places.clear()
            engine.step(batch.x, batch.y, index=batch.index)
            places |= dict.fromkeys(waits.places if number else [])
            if (number + 1) % STEPS == 0:
                engine.end_epoch()
    return list(places)


def _timed(subject: Subject) -> list[Spread]:
    """Milliseconds of a step with and without the plugin; they alternate, so that a busy machine slows both."""
    spent: list[list[float]] = [[], []]
    with subject.scratch() as scratch:
        engines = [subject.engine(scratch, attack=attack_beside(subject), without=without) for without in (False, True)]
        for number in range(_ROUNDS + 1):
            for times, engine in zip(spent, engines, strict=True):
                times.append(_milliseconds(engine, number))
    return [Spread.of(times[1:]) for times in spent]


def _milliseconds(engine: Engine, number: int) -> float:
    """How long a step takes."""
    start = perf_counter()
    step(engine, number)
    return 1000 * (perf_counter() - start)
