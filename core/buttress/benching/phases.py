"""The phases of a training step, told apart from outside: by functions that stand before the hooks of one engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Any

from buttress.engine.engine import Engine
from buttress.types import Adv

DATA, LOSS, PERTURBATION, OPTIMIZER, ENSEMBLES = "data", "loss and backward", "perturbation", "optimizer", "ensembles"
EPOCH_END, EVALUATION = "end of epoch", "evaluation"
ENGINE = "engine"
"""The rest of a step: copies, checks, and the calls of hooks."""
PHASES = (
    DATA, "transform", "attack", PERTURBATION, LOSS, "adjust", OPTIMIZER, ENSEMBLES, ENGINE, EPOCH_END, EVALUATION,
)  # fmt: skip
"""All phases, in the order of a run."""

_HOOKS = {
    "transform_batch": "transform",
    "generate_adv": "attack",
    "adjust_grads": "adjust",
    "ensemble_weights": ENSEMBLES,
    "end_epoch": EPOCH_END,
}
"""Hooks that are a phase from their call to their return."""


def phases_of(engine: Engine) -> tuple[str, ...]:
    """The phases of a run, in order: those that every run has, and those of hooks that a plugin of it has."""
    hooks = {**_HOOKS, "perturb_weights": PERTURBATION}
    absent = {phase for hook, phase in hooks.items() if hook not in engine.hooks.order()}
    return tuple(phase for phase in PHASES if phase not in absent)


class PhaseMeter:
    """Splits a quantity that only grows, such as seconds or FLOPs, among phases.

    A phase that begins within another one is a part of that one.

    Args:
        read: returns the quantity so far.
    """

    def __init__(self, read: Callable[[], float]) -> None:
        self.amounts: dict[str, float] = {}
        self.phase = ""
        self.read, self._before = read, 0.0

    def begin(self, phase: str) -> None:
        """Begin a phase, unless another one is going on."""
        if not self.phase:
            self.phase, self._before = phase, self.read()

    def end(self, phase: str) -> None:
        """End a phase, if it is the one that is going on."""
        if self.phase == phase:
            self.amounts[phase] = self.amounts.get(phase, 0.0) + self.read() - self._before
            self.phase = ""

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count the block as a part of ``phase``, or of the phase that is going on."""
        is_within = bool(self.phase)
        self.begin(phase)
        try:
            yield
        finally:
            if not is_within:
                self.end(phase)


@contextmanager
def phases_metered(engine: Engine, meter: PhaseMeter) -> Iterator[None]:
    """Let ``meter`` know of every phase of the steps of ``engine`` in the block."""
    hooks = engine.hooks
    with ExitStack() as stack:
        for name, phase in _HOOKS.items():
            stack.enter_context(_replaced(hooks, name, _metered(getattr(hooks, name), phase, meter)))
        stack.enter_context(_replaced(hooks, "perturb_weights", _perturbation_metered(hooks.perturb_weights, meter)))
        # The backward of the training loss lies between these two.
        stack.enter_context(_replaced(hooks, "compute_loss", _loss_begun(hooks.compute_loss, meter)))
        stack.enter_context(_replaced(hooks, "expect_gradients", _loss_ended(hooks.expect_gradients, meter)))
        # Not ``optimizer.step``: where that is not torch's own, or has hooks, the engine copies all weights before.
        step = engine._step
        stack.enter_context(_replaced(step, "_take_step", _metered(step._take_step, OPTIMIZER, meter)))
        yield


@contextmanager
def _replaced(owner: object, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let one object have another method in the block."""
    setattr(owner, name, function)
    try:
        yield
    finally:
        delattr(owner, name)


def _metered(method: Callable[..., Any], phase: str, meter: PhaseMeter) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with meter.during(phase):
            return method(*args, **kwargs)

    return call


def _loss_begun(method: Callable[..., Any], meter: PhaseMeter) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        meter.begin(LOSS)
        return method(*args, **kwargs)

    return call


def _loss_ended(method: Callable[..., Any], meter: PhaseMeter) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        method(*args, **kwargs)
        meter.end(LOSS)

    return call


def _perturbation_metered(method: Callable[..., Any], meter: PhaseMeter) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with meter.during(PERTURBATION):
            manager = method(*args, **kwargs)
        return None if manager is None else _PerturbationMetered(manager, meter)

    return call


class _PerturbationMetered:
    """The manager of a perturbation; what it does on entry and on exit is metered, and the block within is not."""

    def __init__(self, manager: AbstractContextManager[Adv | None], meter: PhaseMeter) -> None:
        self._manager, self._meter = manager, meter

    def __enter__(self) -> Adv | None:
        with self._meter.during(PERTURBATION):
            return self._manager.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        with self._meter.during(PERTURBATION):
            return self._manager.__exit__(kind, error, tb)
