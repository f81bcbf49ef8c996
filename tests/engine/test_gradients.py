"""Gradients on their way to the optimizer: each in memory of its own, finite, or the step is not taken."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Loss
from buttress.errors import DivergenceError, HookError

from ..core.helpers import LINF, assert_same, clean_attack, engine_of, plugin, snapshot, step
from ..models import MLP


class Sum(MLP):
    """Two parameters that autograd sends one gradient tensor, and one that only a penalty sees."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Parameter(torch.full((3,), value)) for value in (0.1, 0.2, 0.3))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (self.a + self.b)


def summed(self: Any, model: Sum, batch: Any, adv: Any) -> Loss:
    losses = nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none")
    return Loss(losses, model.c.sum())


def halve(self: Any, model: nn.Module) -> None:
    for weight in model.parameters():
        assert weight.grad is not None
        weight.grad.mul_(0.5)


def test_editing_a_gradient_in_place_edits_no_other_one():
    plain, halved = Sum(), Sum()
    loss = plugin("loss", compute_loss=summed)
    step(engine_of(plain, clean_attack(), loss, lr=0.1))
    step(engine_of(halved, clean_attack(), loss, plugin("half", adjust_grads=halve), lr=0.2))
    assert_same(snapshot(plain), snapshot(halved))


def test_ctx_grads_hands_out_gradients_of_their_own():
    model = Sum()

    def look(self: Any, model: nn.Module, ctx: Any) -> None:
        weights = [model.a, model.b, model.c]
        grads = ctx.grads((model.a + model.b).sum() + 2 * model.c.sum(), weights)
        for grad in grads:
            grad.add_(1)
        assert [grad.tolist() for grad in grads] == [[2.0] * 3, [2.0] * 3, [3.0] * 3]

    step(engine_of(model, clean_attack(), plugin("loss", compute_loss=summed), plugin("look", adjust_grads=look)))


class Root(MLP):
    """A finite loss whose gradient to ``scale`` is 0/0: the root of a square at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (self.scale**2).sqrt()


def spoil(self: Any, model: MLP) -> None:
    assert model.second.bias.grad is not None
    model.second.bias.grad[1] = torch.inf


@pytest.mark.parametrize(
    ("make", "plugins", "message"),
    [
        (Root, [], r"(?s)'cross_entropy'.*compute_loss, epoch 1, step 1.*1 parameters, the first 'scale'"),
        (
            MLP,
            [plugin("fine", adjust_grads=lambda self: None), plugin("spoils", adjust_grads=spoil)],
            r"(?s)plugin 'spoils' .*adjust_grads, epoch 1, step 1.*the first 'second\.bias'",
        ),
    ],
)
def test_a_gradient_that_is_not_finite_stops_the_step_before_it_is_taken(make: Any, plugins: Any, message: str):
    model = make()
    engine = engine_of(model, clean_attack(), *plugins)
    before = snapshot(model)
    with pytest.raises(HookError, match=message):
        step(engine)
    assert_same(before, snapshot(model))
    assert not engine.optimizer.state


def test_a_gradient_of_a_weight_perturbation_that_is_not_finite_stops_the_step_in_its_name():
    def ascend(self: Any, model: nn.Module, objective: Any, adv: Any) -> None:
        objective.grads(objective(adv).mean(), list(model.parameters()))

    model = Root()
    before = snapshot(model)
    with pytest.raises(
        HookError, match=r"(?s)'ascends'.*perturb_weights, epoch 1, step 1.*1 parameters, the first 'scale'"
    ):
        step(engine_of(model, clean_attack(), plugin("ascends", perturb_weights=ascend)))
    assert_same(before, snapshot(model))


def test_at_intervals_a_bad_gradient_is_found_when_checks_are_read_and_named_with_its_step():
    engine = engine_of(Root(), clean_attack(), checks="interval")
    step(engine)
    with pytest.raises(HookError, match=r"compute_loss, first at epoch 1, step 1"):
        engine.read_checks()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_found_at_the_end_of_the_epoch_before_any_ensemble_sees_them(value: float):
    seen: list[str] = []
    model = MLP()
    spy = plugin("spy", ensemble_weights=lambda self, event: seen.append(event))
    engine = engine_of(model, clean_attack(), spy)
    step(engine)
    with torch.no_grad():
        model.first.weight[0, :2] = value
    with pytest.raises(DivergenceError, match=r"'first\.weight' holds 2 non-finite values after step 1 of epoch 1"):
        engine.end_epoch()
    assert seen == ["step"]


def test_large_weights_are_not_taken_for_infinite_ones():
    model = MLP()
    engine = engine_of(model, clean_attack())
    with torch.no_grad():
        model.first.weight.fill_(3e38)  # their sum is beyond float32
    engine.read_checks()


def test_checks_off_looks_at_no_gradient():
    engine = engine_of(Root(), clean_attack(), checks="off", threat=LINF)
    step(engine)
    engine.end_epoch()
