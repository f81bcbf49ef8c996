"""Passes through the bench's network, counted with the examples in them: a step with a plugin, and one without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from torch import nn

from buttress.nn.passes import PassCounter, counted
from buttress.testing.subject import EPOCHS, EXAMPLES, STEPS, Subject, step

Tree = dict[str, Any]
"""Numbers by name, or trees of them."""

KINDS = {
    "forwards": "forward{}",
    "input_backwards": "backward{} to the input",
    "weight_backwards": "backward{} to the weights",
}
"""Kinds of passes, as texts name them."""
NOTHING = "no passes"
PLACES = {"whole": "", "parts": " through parts of the model"}


@dataclass
class Counts:
    """Passes of one step.

    Args:
        whole: those through the whole model.
        parts: those that begin at one of its modules.
    """

    whole: PassCounter = field(default_factory=PassCounter)
    parts: PassCounter = field(default_factory=PassCounter)


@dataclass(frozen=True)
class Spread:
    """The lowest, the mean and the highest of some numbers, none of them negative."""

    low: float
    mean: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        return cls(min(numbers), fmean(numbers), max(numbers))

    def text(self, form: str = "g") -> str:
        """``"10"``, or ``"0 to 10"``."""
        return " to ".join(dict.fromkeys(format(number, form) for number in (self.low, self.high)))


@dataclass(frozen=True)
class Added:
    """The difference that a plugin makes to a step, over the steps of the bench.

    Args:
        more: passes and examples that it adds, as ``Counts`` of ``Spread``.
        fewer: those that it saves.
    """

    more: Tree
    fewer: Tree

    def __str__(self) -> str:
        """``"+10 forwards, +1 batch in backwards to the weights"``: passes of a batch each, and examples in batches."""
        return ", ".join([*_phrases(self.more, "+"), *_phrases(self.fewer, "saves ")]) or NOTHING

    def cell(self, kind: str) -> str:
        """The part of the text for one kind of passes through the whole model, without its name."""
        texts = [*_amounts(self.more["whole"], kind, ""), *_amounts(self.fewer["whole"], kind, "saves ")]
        return ", ".join(text for text, _ in texts) or "0"


def _phrases(tree: Tree, sign: str) -> Iterator[str]:
    for place, words in PLACES.items():
        for kind in KINDS:
            yield from (f"{text}{name}{words}" for text, name in _amounts(tree[place], kind, sign))


def _amounts(tally: Tree, kind: str, sign: str) -> Iterator[tuple[str, str]]:
    """The amount of one kind, if there is any, and the words that follow it."""
    passes, examples = tally["passes"][kind], tally["examples"][kind]
    batches = Spread(*(number / EXAMPLES for number in (examples.low, examples.mean, examples.high)))
    if passes.high:
        name = " " + KINDS[kind].format("" if passes.high == 1 else "s")
        whole = (batches.low, batches.high) == (passes.low, passes.high)
        yield f"{sign}{passes.text()}", name if whole else f"{name} over {_batches(batches)}"
    elif examples.high:
        yield f"{sign}{_batches(batches)}", f" in {KINDS[kind].format('s')}"


def _batches(number: Spread) -> str:
    return f"{number.text()} batch{'' if number.high == 1 else 'es'}"


@contextmanager
def all_counted(model: nn.Module) -> Iterator[Counts]:
    """Count the passes through ``model`` and those that begin at a module inside of it, with the examples in them."""
    depth = 0  # of calls of modules, within one another

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal depth
        depth += 1

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal depth
        depth -= 1
        if not depth and module is not model:
            learning = any(parameter.requires_grad for parameter in model.parameters())
            counts.parts.count(output, to_weights=learning)

    counts = Counts()
    with counted(model) as counts.whole, ExitStack() as hooks:
        for module in model.modules():
            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield counts


def run_counted(subject: Subject, *, without: bool) -> tuple[list[Counts], list[Counts]]:
    """Train on the bench with the plugin, or ``without`` it; returns the counts of every step and every epoch's end."""
    steps, ends = list[Counts](), list[Counts]()
    with subject.scratch() as scratch:
        engine = subject.engine(scratch, attack=attack_beside(subject), without=without)
        for epoch in range(EPOCHS):
            for number in range(STEPS):
                with all_counted(engine.model) as counts:
                    step(engine, STEPS * epoch + number)
                steps.append(counts)
            with all_counted(engine.model) as counts:
                engine.end_epoch()
            ends.append(counts)
    return steps, ends


def attack_beside(subject: Subject) -> str:
    """The attack of the stack with which a plugin is compared: none where the plugin attacks itself."""
    return "clean" if "generate_adv" in subject.provides else "fgsm"


def added_by(subject: Subject) -> Added:
    """The difference that a plugin makes to a step, over the steps of the bench.

    Raises:
        ButtressError: a step of the bench cannot be taken.
    """
    return added(*(run_counted(subject, without=without)[0] for without in (False, True)))


def added(own: Sequence[Counts], others: Sequence[Counts]) -> Added:
    """The differences between steps with a plugin, ``own``, and the same steps without it."""
    pairs = [asdict(counts) for counts in own], [asdict(counts) for counts in others]
    return Added(*(_spread([_above(*pair) for pair in zip(*each, strict=True)]) for each in (pairs, pairs[::-1])))


def spread_of(counts: Sequence[Counts]) -> Tree:
    """``Counts`` of ``Spread``, from the counts of several steps."""
    return _spread([asdict(each) for each in counts])


def _spread(trees: Sequence[Tree]) -> Tree:
    return {
        key: _spread([tree[key] for tree in trees]) if isinstance(value, dict) else Spread.of([t[key] for t in trees])
        for key, value in trees[0].items()
    }


def _above(tree: Tree, other: Tree) -> Tree:
    """The numbers of ``tree`` minus those of ``other``; 0 where that is negative."""
    return {
        key: _above(value, other[key]) if isinstance(value, dict) else max(0, value - other[key])
        for key, value in tree.items()
    }
