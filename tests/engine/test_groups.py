"""Optimizers and parameter groups."""

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from buttress import Engine
from buttress.errors import HookError, PluginError
from buttress.types import ParamGroup

from ..core.helpers import LINF, batch_of, clean_attack, engine_of, step, weights_of
from ..models import MLP


def split_linear(self: Any, groups: list[ParamGroup], model: nn.Module) -> list[ParamGroup]:
    (group,) = groups
    first = tuple(name for name in group.names if name.startswith("first"))
    rest = tuple(name for name in group.names if name not in first)
    return [ParamGroup(first, frozen=True), ParamGroup(rest, {"weight_decay": 0.5}, lr_scale=lambda t: 10 + t)]


def test_a_ready_optimizer_is_kept_and_not_reset():
    model = MLP()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(model(batch_of().x), batch_of().y).backward()
    optimizer.step()
    momentum = [optimizer.state[p]["momentum_buffer"].clone() for p in model.parameters()]
    engine = Engine(model, optimizer, [clean_attack()], LINF)
    assert engine.optimizer is optimizer
    assert all(
        torch.equal(optimizer.state[p]["momentum_buffer"], b) for p, b in zip(model.parameters(), momentum, strict=True)
    )


def test_groups_of_a_plugin_reach_the_optimizer_and_frozen_ones_take_no_step():
    model = MLP()
    before = weights_of(model)
    engine = Engine(
        model,
        functools.partial(torch.optim.SGD, lr=0.1, weight_decay=0.01),
        [clean_attack(param_groups=split_linear)],
        LINF,
    )
    frozen, rest = engine.optimizer.param_groups
    assert (frozen["weight_decay"], rest["weight_decay"]) == (0.01, 0.5)
    assert [p.requires_grad for p in frozen["params"]] == [False, False]
    step(engine)
    after = weights_of(model)
    assert torch.equal(before["first.weight"], after["first.weight"])
    assert not torch.equal(before["second.weight"], after["second.weight"])


def test_frozen_groups_take_no_step_even_with_a_gradient_left_from_before():
    model = MLP()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = weights_of(model)
    splitting = clean_attack(param_groups=split_linear)
    step(Engine(model, functools.partial(torch.optim.SGD, lr=0.1), [splitting], LINF))
    assert torch.equal(before["first.weight"], model.first.weight)


def test_a_group_with_lr_scale_follows_it_and_the_others_the_schedule():
    engine = Engine(MLP(), functools.partial(torch.optim.SGD, lr=0.1), [clean_attack(param_groups=split_linear)], LINF)
    engine.set_lr(0.5, t=2.0)
    assert [group["lr"] for group in engine.optimizer.param_groups] == [0.05, pytest.approx(1.2)]
    engine.set_lr(1.0, t=0.0)
    assert [group["lr"] for group in engine.optimizer.param_groups] == [0.1, pytest.approx(1.0)]


def test_splitting_groups_needs_an_optimizer_factory():
    with pytest.raises(PluginError, match=r"'attack' .*splits parameter groups and needs an optimizer factory"):
        engine_of(MLP(), clean_attack(param_groups=split_linear))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda groups: None, r"expected a list of ParamGroup, got None \(is a 'return' missing\?\)"),
        (lambda groups: [ParamGroup(groups[0].names[1:])], "lost, made up or twice: first.weight"),
        (lambda groups: groups * 2, "lost, made up or twice: first.bias, first.weight"),
        (lambda groups: [*groups, ParamGroup(("ghost",))], "lost, made up or twice: ghost"),
    ],
)
def test_groups_must_hold_every_parameter_once(answer: Any, message: str):
    bad = clean_attack(param_groups=lambda self, groups: answer(groups))
    with pytest.raises(HookError, match=message):
        Engine(MLP(), functools.partial(torch.optim.SGD, lr=0.1), [bad], LINF)
