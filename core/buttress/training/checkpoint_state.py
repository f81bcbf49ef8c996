"""Check the state in a checkpoint before anything is made of it, since its file may come from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from types import NoneType
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge, Le, Len
from pydantic import Field, StringConstraints, model_validator
from torch import Tensor
from torch.optim import Optimizer

from buttress.errors import CheckpointError, ModelError, kind_and_text
from buttress.storage.names import PlainName
from buttress.storage.shapes import Shape
from buttress.training.length import Length

Count = Annotated[int, Ge(0), Le(2**62)]
Digest = Annotated[str, StringConstraints(pattern="^([0-9a-f]{64})?$")]
WeightsName = Annotated[PlainName, StringConstraints(pattern=r"\.safetensors$")]


_AS_THE_PARAMETER = (
    *("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf"),
    *("square_avg", "grad_avg", "acc_delta", "sum", "prev", "step_size", "ax"),
)
"""State of torch's optimizers in the shape of the parameter; only the next step would notice a wrong shape."""


class EvaluationRecord(Shape):
    """One evaluation of one track on one split."""

    epoch: Annotated[Count, Ge(1)]
    track: str
    split: str
    clean: Annotated[float, Ge(0), Le(1)]
    robust: Annotated[float, Ge(0), Le(1)]
    n: Annotated[Count, Ge(1)]


class RngStates(Shape):
    """The states of the random generators of one rank."""

    cpu: Tensor
    cuda: Tensor | None


class EngineState(Shape):
    """Counters of the engine, what plugins record, and their states."""

    epoch: Count
    step: Count
    global_step: Count
    records: dict[str, list[float | Tensor]]
    bad_steps: dict[str, Any] | None = None
    plugins: dict[str, Any]

    @model_validator(mode="after")
    def _records_are_totals_and_counts(self) -> Self:
        if any(len(total) != 2 for total in self.records.values()):
            raise ValueError("expected two numbers in each of records, a total and a count")
        return self


class CheckpointState(Shape):
    """The mutable state of a run, as a checkpoint holds it."""

    data: dict[str, dict[str, Any]] | None = None
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    engine: EngineState
    global_rng: Tensor
    cuda_rng: Tensor | None
    processes: Annotated[int, Ge(1), Le(2**20)] = 1  # older versions trained in one
    other_rngs: list[RngStates] = Field([])
    records: list[EvaluationRecord]
    rollbacks: Count
    epoch_loss: Tensor
    interval_loss: Tensor
    rank_losses: list[Annotated[list[Tensor], Len(2, 2)]] = Field([])
    weights: dict[WeightsName, Digest] = Field({})
    metrics_bytes: Count
    metrics_sha256: Digest

    @model_validator(mode="after")
    def _evaluations_are_whole(self) -> Self:
        """The best epoch of each track is chosen on one split, and reported on another."""
        places: dict[str, set[tuple[str, int]]] = {"test": set()}
        for each in self.records:
            places.setdefault(each.split, set()).add((each.track, each.epoch))
        if any(epochs != places["test"] for split, epochs in places.items() if split != "train"):
            raise ValueError("expected records of every track on the validation and test splits alike")
        if any(each.epoch > self.engine.epoch for each in self.records):
            raise ValueError("expected records of epochs that are over")
        return self


def expect_place(run: CheckpointState, length: Length) -> None:
    """Compare the counters of a state with the length of the run that is to take it.

    Raises:
        CheckpointError: no run of that length comes to them, or its last evaluation is missing.
    """
    state, last = run.engine, length.epochs
    if state.epoch == last and not any(each.epoch == last for each in run.records):
        raise CheckpointError(f"the checkpoint is of the end of the run, and holds no evaluation of epoch {last}")
    if not length.reaches(state.epoch, state.step, state.global_step):
        raise CheckpointError(
            f"the checkpoint is of epoch {state.epoch}, step {state.step}, global step {state.global_step} (from 0), "
            f"and a run of {length} never comes there"
        )


@contextmanager
def unusable() -> Iterator[None]:
    """Turn the errors of libraries about a state that they cannot take into one error.

    Raises:
        CheckpointError: they cannot take it.
    """
    try:
        yield
    except torch.OutOfMemoryError:  # not the fault of the state
        raise
    except (ModelError, KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as problem:
        raise CheckpointError(f"the checkpoint's state cannot be taken: {kind_and_text(problem)}") from problem


def expect_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Compare a saved state of an optimizer with the optimizer that is to take it.

    Raises:
        CheckpointError: it is of other parameters, or not of the kind that an optimizer saves.
    """
    own = optimizer.state_dict()["param_groups"]
    groups, states = state.get("param_groups"), state.get("state")
    if not (isinstance(groups, list) and len(groups) == len(own) and all(isinstance(group, dict) for group in groups)):
        raise CheckpointError(f"the optimizer's state: expected {len(own)} groups of parameters")
    for before, now in zip(groups, own, strict=True):
        if before.get("params") != now["params"]:
            raise CheckpointError("the optimizer's state is of other parameters than those of the model")
        for key in now:
            is_form = key == "fused" and isinstance(before.get(key), (bool, NoneType))  # that of an older run is None
            if key in before and not is_form and not _is_like(before[key], now[key]):
                raise CheckpointError(f"the optimizer's state: {key}: expected {now[key]!r} or the like")
    if not isinstance(states, dict) or not all(isinstance(each, dict) for each in states.values()):
        raise CheckpointError("the optimizer's state: expected a state of each parameter")
    shapes = _shapes(optimizer)
    for number, key, value in ((number, *item) for number, each in states.items() for item in each.items()):
        if not (value is None or isinstance(value, Tensor) or (key == "step" and _is_number(value))):
            raise CheckpointError(f"the optimizer's state: {key}: expected a tensor, got {type(value).__name__}")
        if isinstance(value, Tensor) and key in _AS_THE_PARAMETER and value.shape != shapes.get(number):
            raise CheckpointError(
                f"the optimizer's state: {key} of parameter {number}: expected shape "
                f"{tuple(shapes.get(number, ()))}, got {tuple(value.shape)}"
            )


def _shapes(optimizer: Optimizer) -> dict[int, torch.Size]:
    """Shape of each parameter, by the number that an optimizer's state gives it."""
    return dict(enumerate(each.shape for group in optimizer.param_groups for each in group["params"]))


def _is_like(value: object, own: object) -> bool:
    if _is_number(own):
        return _is_number(value)
    if isinstance(own, (list, tuple)):
        return isinstance(value, (list, tuple)) and len(value) == len(own) and all(map(_is_like, value, own))
    return type(value) is type(own)


def _is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e300 if isinstance(value, int) else isfinite(value)
