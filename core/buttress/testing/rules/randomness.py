"""Random draws: from streams of its own, the same every time, and moving nobody else's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from buttress import hookimpl
from buttress.components.sources import HOOKED
from buttress.engine.context import Context
from buttress.engine.objective import Objective
from buttress.errors import PluginError
from buttress.hookspecs import Event
from buttress.testing.promise import RUNS, expect, rule
from buttress.testing.subject import Subject, copied, differing, median_ensemble, outcome, train
from buttress.testing.use import use
from buttress.testing.views import state_copies
from buttress.types import Adv, Batch, BatchNormInputs, Track


class _Measured:
    """Gives the live weights as a track whose batch norm is measured on the training set, by the plugin's own hooks.

    Args:
        inputs: the examples that it is measured on, ``clean`` or ``adv``.
    """

    def __init__(self, inputs: BatchNormInputs) -> None:
        self._inputs = inputs

    @hookimpl
    def ensemble_weights(self, model: nn.Module, event: Event) -> Track | None:
        if event != "evaluate":
            return None
        return Track(f"measured-{self._inputs}", copied(dict(model.named_parameters())), bn_inputs=self._inputs)


class _Asks:
    """A weight perturbation that looks at the losses some times, and perturbs nothing.

    Args:
        times: number of looks in a step.
    """

    def __init__(self, times: int) -> None:
        self._times = times

    @hookimpl
    def perturb_weights(self, adv: Adv, objective: Objective, ctx: Context) -> None:
        for _ in range(self._times):
            objective(adv)
            objective.masked(adv, 1.0)
        ctx._state.rewind()  # the training loss draws what it draws in a step in which nobody has looked


# Where two runs of one seed differ anyhow, comparing runs tells nothing else.
REPEATS = (*RUNS, "equal_seeds_equal_draws")


class _Bystander:
    """Draws in every step and keeps what it drew; changes nothing."""

    name = "bystander"

    def __init__(self) -> None:
        self.drawn: list[Tensor] = []

    @hookimpl
    def transform_batch(self, batch: Batch, ctx: Context) -> Batch:
        self.drawn.append(torch.rand(4, generator=ctx.generator("noise")))
        return batch


@rule("the global random generators of torch, NumPy and Python are left alone", kinds=HOOKED)
def global_generators_untouched(subject: Subject) -> None:
    before = _generators()
    with subject.scratch() as scratch:
        use(subject, scratch)
    moved = [name for name, value in _generators().items() if not np.array_equal(value, before[name])]
    expect(not moved, f"moved the global generator of {', '.join(moved)}; draw with generator=ctx.generator(purpose)")


@rule("equal seeds give equal runs, bit for bit")
def equal_seeds_equal_draws(subject: Subject) -> None:
    runs = []
    for shift in (0, 17):
        with torch.random.fork_rng(devices=[]), subject.scratch() as scratch:
            torch.random.manual_seed(shift)  # the state of the global generator is nobody's input
            runs.append(outcome(train(subject.engine(scratch, seed=5))))
    changed = differing(*runs)
    expect(not changed, f"two runs with one seed differ in {', '.join(changed[:3])}; draw from ctx.generator(purpose)")


@rule("adding it moves nobody else's draws")
def moves_nobody_else(subject: Subject) -> None:
    drawn = []
    for without in (False, True):
        with subject.scratch() as scratch:
            bystander = _Bystander()
            train(subject.engine(scratch, beside=[bystander], without=without), 2)
            drawn.append(bystander.drawn[-1])
    expect(torch.equal(*drawn), "another plugin draws other numbers beside it; use ctx.generator(purpose) alone")


def _measured(subject: Subject) -> list[Any]:
    """MEAT, whose batch norm is measured at the median weights, where the core lets the two stand together."""
    median = median_ensemble("measured-median")
    with subject.scratch() as scratch:
        try:
            subject.engine(scratch, beside=[median])
        except PluginError:
            return []
    return [median]


@rule("asking for tracks, its own and MEAT's, as often as one likes, changes nothing in the training", presumes=REPEATS)
def evaluation_moves_nothing(subject: Subject) -> None:
    def asked(engine: Any, times: int) -> Any:
        for _ in range(times):
            for track in engine.tracks():
                with engine.track(track):
                    pass

    runs = []
    for times in (0, 2):
        with subject.scratch() as scratch:
            engine = subject.engine(scratch, beside=[*_measured(subject), _Measured("clean"), _Measured("adv")])
            train(engine, each=lambda where, e=engine, n=times: asked(e, n))  # type: ignore[misc]
            runs.append({**state_copies(engine, subject), **outcome(engine)})
    changed = differing(*runs)
    expect(not changed, f"after evaluating on the way, {', '.join(changed[:3])} differ from a run without")


def _gives_losses(subject: Subject) -> bool:
    return "compute_loss" in subject.provides | subject.wraps and "perturb_weights" not in subject.provides


@rule(
    "asking for its losses in a weight perturbation, as often as one likes, changes nothing in the training",
    _gives_losses,
    presumes=REPEATS,
)
def objective_moves_nothing(subject: Subject) -> None:
    runs = []
    for times in (0, 2):
        with subject.scratch() as scratch:
            engine = train(subject.engine(scratch, beside=[_Asks(times)]), 2)
            runs.append({**state_copies(engine, subject), **outcome(engine)})
    changed = differing(*runs)
    expect(
        not changed,
        f"after objective(adv), {', '.join(changed[:3])} differ from a run without; remember what a step leaves where "
        'ctx.phase is "train" alone',
    )


def _generators() -> dict[str, Any]:
    _, numbers, *rest = np.random.get_state()
    states: dict[str, Any] = {"torch": torch.get_rng_state().numpy(), "NumPy": np.array([*numbers, *rest[:1]])}
    states["Python"] = np.array(random.getstate()[1])
    if torch.cuda.is_available():
        states["CUDA"] = torch.cuda.get_rng_state().numpy()
    return states
