"""The cost of a plugin: the passes through the model that it adds to a step, and the time on the bench."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

from torch import Tensor, nn

from buttress.engine.engine import Engine
from buttress.testing.subject import Subject, step
from buttress.training.forecast import Passes, counted

# Steps with and without the plugin, in turns, after one of each to warm up.
_ROUNDS = 9


@dataclass
class PassCounts:
    """Passes through a model in one step, and the examples in them.

    Args:
        passes: passes through the whole model.
        examples: number of examples in the forwards through the whole model.
        part_forwards: number of forwards that begin inside the model, at one of its modules.
        part_backwards: number of backwards through what these forwards gave.
    """

    passes: Passes
    examples: int = 0
    part_forwards: int = 0
    part_backwards: int = 0

    @property
    def batch(self) -> float:
        """Mean number of examples in a forward through the whole model."""
        return self.examples / max(1, self.passes.forwards)


@dataclass(frozen=True)
class Added:
    """Passes that a plugin adds to a step.

    Args:
        passes: passes through the whole model; negative where the plugin saves some.
        part_forwards: number of forwards that begin inside the model.
        part_backwards: number of backwards through what these gave.
        growth: examples of a forward through the whole model, relative to a step without the plugin.
    """

    passes: Passes
    part_forwards: int = 0
    part_backwards: int = 0
    growth: float = 1.0

    def __str__(self) -> str:
        parts = [passes_text(self.passes)]
        if self.part_forwards or self.part_backwards:
            parts.append(f"+{self.part_forwards} forwards and +{self.part_backwards} backwards through parts of it")
        if self.growth != 1:
            parts.append(f"batches {self.growth:.3g} times as large")
        return ", ".join(part for part in parts if len(parts) == 1 or part != _NOTHING)


@dataclass(frozen=True)
class Cost:
    """Cost of a plugin in one training step: its stack against the stack without it (an attack: with ``clean``).

    Args:
        added: passes through the model that it adds.
        milliseconds: median time that it adds, on a network of a few hundred weights: passes and its own overhead;
            negative where it saves passes; 0 where the steps with and without it could not be told apart.
    """

    added: Added
    milliseconds: float

    def __str__(self) -> str:
        time = f"{'saves ' if self.milliseconds < 0 else '+'}{abs(self.milliseconds):.2f} ms a step"
        measured = time if self.milliseconds else "no time that could be measured"
        return f"{self.added} a step; {measured} on the bench's small network"


_NOTHING = "no passes"


def passes_text(passes: Passes) -> str:
    """``"+10 forwards, +10 backwards to the input"``; ``"saves 1 forward"``."""
    names = {"forwards": "forward{}", "input_backwards": "backward{} to the input"}
    names["weight_backwards"] = "to the weights" if passes.input_backwards else "backward{} to the weights"
    parts = [
        f"{'saves ' if number < 0 else '+'}{abs(number)} {names[key].format('' if number == -1 else 's')}"
        for key, number in asdict(passes).items()
        if number
    ]
    return ", ".join(parts) or _NOTHING


def passes_added(subject: Subject) -> Passes:
    """Passes through the whole model that the plugin adds to the first step."""
    return added_by(subject).passes


def added_by(subject: Subject) -> Added:
    """Passes that the plugin adds to the first step, compared with a step without it."""
    counted_steps = []
    for without in (False, True):
        with subject.scratch() as scratch:
            engine = subject.engine(scratch, attack=_attack(subject), without=without)
            with all_counted(engine.model) as counts:
                step(engine, 0)
            counted_steps.append(counts)
    own, other = counted_steps
    passes = {key: value - asdict(other.passes)[key] for key, value in asdict(own.passes).items()}
    growth = own.batch / other.batch if own.passes.forwards else 1.0
    return Added(Passes(**passes), own.part_forwards, own.part_backwards, growth)


@contextmanager
def all_counted(model: nn.Module) -> Iterator[PassCounts]:
    """Count the passes through ``model`` and the examples in them, and those that begin at a module inside of it."""
    depth = 0  # of calls of modules, within one another

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal depth
        depth += 1
        if module is model and inputs and isinstance(inputs[0], Tensor):
            counts.examples += len(inputs[0])

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth or module is model:
            return
        counts.part_forwards += 1
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(went_back)  # type: ignore[no-untyped-call]

    def went_back(_: Tensor) -> None:
        counts.part_backwards += 1

    with counted(model) as passes, ExitStack() as hooks:
        counts = PassCounts(passes)
        for module in model.modules():
            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield counts


def cost_of(subject: Subject) -> Cost:
    """Passes and time; the steps with and without the plugin alternate, so that a busy machine slows both."""
    differences = []
    with subject.scratch() as scratch:
        engines = [subject.engine(scratch, attack=_attack(subject), without=without) for without in (False, True)]
        for number in range(_ROUNDS + 1):
            spent = [_milliseconds(engine, number) for engine in engines]
            differences.append(spent[0] - spent[1])
    added = added_by(subject)
    return Cost(added, _typical(differences[1:], may_save=min(asdict(added.passes).values()) < 0))


def _typical(differences: Sequence[float], *, may_save: bool) -> float:
    """The median, or 0 where more than one of the differences has another sign, or nothing is there to be saved."""
    typical = median(differences)
    others = sum(each * typical <= 0 for each in differences)
    return typical if others <= 1 and (typical > 0 or may_save) else 0.0


def _milliseconds(engine: Engine, number: int) -> float:
    """How long a step takes."""
    start = perf_counter()
    step(engine, number)
    return 1000 * (perf_counter() - start)


def _attack(subject: Subject) -> str:
    return "clean" if "generate_adv" in subject.provides else "fgsm"
