"""The gradient of the training loss to the inputs, and the options of ``ctx.grads``."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from buttress import Adv, Batch, Loss
from buttress.errors import HookError

from ..core.helpers import (
    assert_same,
    batch_of,
    clean_attack,
    engine_of,
    gradient,
    perturbation,
    plugin,
    snapshot,
    step,
)
from ..models import MLP, ConvNet

ATTACK = {"pgd": {"steps": 1, "step_size": "1/20"}}


def reader(seen: list[Any], **members: Any) -> Any:
    """A plugin that keeps the gradient to the inputs of every step."""
    members = {"input_grad": True, **members}
    return plugin("reader", adjust_grads=lambda self, ctx: seen.append(ctx.input_grad), **members)


def smooth() -> torch.nn.Module:
    return ConvNet().double()


def test_it_is_the_gradient_of_the_mean_loss_at_the_adversarial_examples():
    seen: list[Tensor] = []
    model = smooth()
    before = smooth()
    result = step(engine_of(model, ATTACK, reader(seen)))
    expected = gradient(before, result.adv.x, batch_of().y) / 6
    assert torch.allclose(seen[0], expected, rtol=1e-12, atol=1e-15)
    assert expected.abs().max() > 1e-4
    assert not seen[0].requires_grad
    assert not result.adv.x.requires_grad


def test_the_step_is_the_same_with_and_without_it():
    runs = []
    for trait in (True, False):
        model = smooth()
        engine = engine_of(model, ATTACK, "awp", reader([], input_grad=trait))
        for seed in range(3):
            step(engine, seed)
        runs.append(snapshot(model))
    assert_same(*runs)


def test_it_is_taken_at_the_perturbed_weights():
    seen: list[Tensor] = []
    unperturbed: list[Tensor] = []
    step(engine_of(smooth(), clean_attack(), perturbation(), reader(seen)))
    step(engine_of(smooth(), clean_attack(), reader(unperturbed)))
    moved = smooth()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(0.5 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    batch = batch_of(dtype=torch.float64)
    assert torch.allclose(seen[0], gradient(moved, batch.x, batch.y) / 6, rtol=1e-12, atol=1e-15)
    assert not torch.allclose(seen[0], unperturbed[0])


def test_a_penalty_counts_and_a_loss_without_the_inputs_gives_zero():
    def compute_loss(self: Any, model: Any, batch: Batch, adv: Adv) -> Loss:
        losses = F.cross_entropy(model(batch.x), batch.y, reduction="none")
        return Loss(losses, (adv.x**2).sum() if self.penalty else None)

    for penalty in (True, False):
        seen: list[Tensor] = []
        loss = plugin("loss", compute_loss=compute_loss, penalty=penalty)
        result = step(engine_of(smooth(), ATTACK, loss, reader(seen)))
        assert torch.equal(seen[0], 2 * result.adv.x * penalty)


def test_the_examples_take_a_gradient_in_the_training_loss_only():
    needs: list[tuple[str, bool]] = []

    def compute_loss(self: Any, adv: Adv, ctx: Any) -> Any:
        needs.append((ctx.phase, adv.x.requires_grad))
        return (yield)

    def perturb_weights(self: Any, adv: Adv, objective: Any) -> None:
        objective(adv)

    watching = plugin("watching", wrapper=True, compute_loss=compute_loss)
    asking = plugin("asking", perturb_weights=perturb_weights)
    step(engine_of(smooth(), ATTACK, asking, watching, reader([])))
    assert needs == [("perturb", False), ("train", True)]


def test_without_the_trait_there_is_none():
    seen: list[Any] = []
    step(engine_of(smooth(), ATTACK, reader(seen, input_grad=False)))
    assert seen == [None]


@pytest.mark.parametrize("hook", ["transform_batch", "start_run", "ensemble_weights"])
def test_elsewhere_it_is_refused(hook: str):
    early = plugin("early", input_grad=True, **{hook: lambda self, ctx: ctx.input_grad})
    with pytest.raises(HookError, match=r"plugin 'early' .*\n  RuntimeError: ctx\.input_grad is available in adjust_g"):
        step(engine_of(MLP(), clean_attack(), early))


def test_a_loss_of_the_inputs_alone_is_detached_still():
    loss = plugin("inputs", compute_loss=lambda self, adv: adv.x.flatten(1).sum(1))
    with pytest.raises(HookError, match=r"plugin 'inputs' .*\n  expected losses with a gradient to the weights"):
        step(engine_of(MLP(), clean_attack(), loss, reader([])))


def test_one_that_is_not_finite_is_a_fault_or_a_skipped_step():
    def compute_loss(self: Any, model: Any, batch: Batch, adv: Adv) -> Tensor:
        losses = F.cross_entropy(model(batch.x), batch.y, reduction="none")
        return losses + (adv.x - batch.x).flatten(1).norm(dim=1) + (adv.x - adv.x.detach()).abs().sum((1, 2, 3)).sqrt()

    loss = plugin("rooted", compute_loss=compute_loss)
    with pytest.raises(HookError, match=r"plugin 'rooted' .*\n  expected gradients of finite norm.*'adv\.x'"):
        step(engine_of(MLP(), ATTACK, loss, reader([])))
    engine = engine_of(MLP(), ATTACK, loss, reader([]), nonfinite="skip")
    before = snapshot(engine.model)
    step(engine)
    assert_same(before, snapshot(engine.model))
    assert "the gradient of 'adv.x' is not finite" in engine.read_checks()


# Options of ctx.grads


def test_gradients_with_a_graph_can_be_part_of_a_loss():
    seen: list[Tensor] = []

    def compute_loss(self: Any, model: Any, batch: Batch, adv: Adv, ctx: Any) -> Loss:
        weight = model.linear.weight
        losses = F.cross_entropy(model(adv.x), batch.y, reduction="none")
        (grad,) = ctx.grads(losses.mean(), [weight], create_graph=True)
        (again,) = ctx.grads(losses.mean(), [weight], retain_graph=True)
        assert grad.requires_grad
        assert not again.requires_grad
        seen.append(grad.detach() - again)
        return Loss(losses, (grad**2).sum())

    model, reference = smooth(), smooth()
    step(engine_of(model, clean_attack(compute_loss=compute_loss), lr=1.0, momentum=0.0))
    assert not seen[0].abs().max()

    batch = batch_of(dtype=torch.float64)
    loss = F.cross_entropy(reference(batch.x), batch.y)
    (grad,) = torch.autograd.grad(loss, [reference.linear.weight], create_graph=True)
    weights = list(reference.parameters())
    expected = torch.autograd.grad(loss + (grad**2).sum(), weights)
    for weight, before, step_taken in zip(model.parameters(), weights, expected, strict=True):
        assert torch.allclose(before - step_taken, weight, rtol=0, atol=1e-13)


def test_without_them_the_graph_is_freed():
    def compute_loss(self: Any, model: Any, batch: Batch, adv: Adv, ctx: Any) -> Tensor:
        losses = F.cross_entropy(model(adv.x), batch.y, reduction="none")
        ctx.grads(losses.mean(), [model.linear.weight])
        ctx.grads(losses.mean(), [model.linear.weight])
        return losses

    with pytest.raises(HookError, match="second time"):
        step(engine_of(smooth(), clean_attack(compute_loss=compute_loss)))
