"""Wrappers: called by pluggy's protocol, the first listed outermost, each to blame for its own faults."""

import re
from typing import Any

import pytest
import torch
from torch import nn

from buttress import Adv, Batch, Loss
from buttress.errors import HookError

from ..core.helpers import batch_of, engine_of, plugin, step
from ..models import MLP
from .helpers import constant_loss, hooks_of, wrapping


def losses_of(*plugins: Any) -> Loss:
    batch = batch_of()
    return hooks_of(*plugins).compute_loss(MLP(), batch, Adv(batch.x))


def wrapper(label: str, around: Any) -> Any:
    return plugin(label, wrapper=True, compute_loss=around)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_first_listed_wrapper_is_outermost_wherever_the_provider_stands(position: int):
    calls: list[str] = []
    stack = [wrapper("a", wrapping(calls, "a")), wrapper("b", wrapping(calls, "b"))]
    stack.insert(position, constant_loss(calls))
    losses_of(*stack)
    assert calls == ["a>", "b>", "loss", "<b", "<a"]


def test_a_wrapper_may_change_the_answer():
    change = wrapping([], "w", lambda answer: Loss(answer.per_example * 3, torch.tensor(2.0)))
    loss = losses_of(wrapper("w", change), constant_loss())
    assert torch.equal(loss.per_example, torch.full((6,), 3.0))
    assert loss.penalty == 2


def test_a_wrapper_sees_the_exception_of_the_provider_and_may_answer_in_its_place():
    seen: list[str] = []

    def rescue(self: Any, batch: Batch) -> Any:
        try:
            return (yield)
        except HookError as error:
            seen.append(str(error))
            return Loss(torch.zeros(len(batch.y)))

    loss = losses_of(wrapper("w", rescue), constant_loss(error=ValueError("no")))
    assert torch.equal(loss.per_example, torch.zeros(6))
    assert "plugin 'loss'" in seen[0]


def test_a_provider_is_to_blame_for_its_exception_through_any_wrapper():
    calls: list[str] = []
    with pytest.raises(HookError, match=r"plugin 'loss' .*hook compute_loss, epoch 1, step 1:\n  ValueError: no"):
        losses_of(wrapper("w", wrapping(calls, "w")), constant_loss(error=ValueError("no")))
    assert calls == ["w>"]


def before(self: Any) -> Any:
    raise KeyError("before")
    yield


def after(self: Any) -> Any:
    yield
    raise KeyError("after")


def not_at_all(self: Any) -> Any:
    return
    yield


def twice(self: Any) -> Any:
    yield
    yield


def twice_on_error(self: Any) -> Any:
    try:
        yield
    except HookError:
        yield


@pytest.mark.parametrize(
    ("around", "message"),
    [
        (before, "KeyError: 'before'"),
        (after, "KeyError: 'after'"),
        (not_at_all, "a wrapper must yield exactly once, this one did not yield"),
        (twice, "a wrapper must yield exactly once, this one yielded twice"),
    ],
)
def test_a_wrapper_is_to_blame_for_its_own_faults(around: Any, message: str):
    outer: list[str] = []
    with pytest.raises(HookError, match=rf"plugin 'w' .*hook compute_loss, epoch 1, step 1:\n  {re.escape(message)}"):
        losses_of(wrapper("outer", wrapping(outer, "o")), wrapper("w", around), constant_loss())
    assert outer == ["o>"]  # the outer one saw the exception at its yield


def test_a_wrapper_that_yields_twice_after_an_exception_is_refused():
    with pytest.raises(HookError, match=r"plugin 'w' .*\n.*yielded twice"):
        losses_of(wrapper("w", twice_on_error), constant_loss(error=ValueError("no")))


def test_an_outer_wrapper_closes_when_an_inner_one_fails_before_its_yield():
    closed = []

    def closing(self: Any) -> Any:
        try:
            yield
        finally:
            closed.append(True)

    with pytest.raises(HookError, match="plugin 'inner'"):
        losses_of(wrapper("outer", closing), wrapper("inner", before), constant_loss())
    assert closed == [True]


def test_an_interruption_passes_through_wrappers_as_it_is():
    calls: list[str] = []

    def closing(self: Any) -> Any:
        try:
            yield
        finally:
            calls.append("closed")

    with pytest.raises(KeyboardInterrupt):
        losses_of(wrapper("w", closing), constant_loss(error=KeyboardInterrupt()))
    assert calls == ["closed"]


def test_the_attack_is_wrapped_inside_the_attack_mode():
    seen = []

    def around(self: Any, model: nn.Module) -> Any:
        seen.append(model.training)
        answer = yield
        seen.append(model.training)
        return answer

    step(engine_of(MLP(), "fgsm", plugin("w", wrapper=True, generate_adv=around)))
    assert seen == [False, False]
