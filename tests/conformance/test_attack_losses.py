"""``pgd: {loss: objective}`` against the losses that it equals, and against the training losses written out again."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Adv, Loss, hookimpl
from buttress.errors import HookError

from . import references as ref
from .test_methods import batches, engine_of, model_of

kinds = pytest.mark.parametrize("kind", [ref.ConvNet, ref.MLP])


def attacked(kind: type[nn.Module], attack: dict[str, Any], *others: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The adversarial examples of one step, and the weights and buffers after two."""
    engine = engine_of(model_of(kind), [{"pgd": {"steps": ref.STEPS, "step_size": "3/100", **attack}}, *others])
    first, second = (engine.step(x, y, draws={"pgd.start": start}).adv.x for x, y, start in batches(2))
    assert not torch.equal(first, second)
    return first, engine.model.state_dict()


@kinds
@pytest.mark.parametrize(
    ("loss", "others"),
    [
        ("ce", ["cross_entropy"]),
        ("ce", []),  # the core's default loss
        ("kl", ["trades"]),
        ("kl", [{"trades": {"beta": 0.5}}, {"awp": {"gamma": 0.05}}]),
    ],
    ids=str,
)
def test_the_objective_is_the_loss_that_has_its_gradient(kind: type[nn.Module], loss: str, others: list[Any]):
    one, weights = attacked(kind, {"loss": "objective"}, *others)
    other, expected = attacked(kind, {"loss": loss}, *others)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert all(torch.allclose(weights[name], value, rtol=0, atol=1e-12) for name, value in expected.items())
    if loss == "kl":
        assert not torch.allclose(one, attacked(kind, {"loss": "ce"}, *others)[0])


Losses = Callable[..., Tensor]


@kinds
@pytest.mark.parametrize(("name", "losses"), [("trades", ref.trades), ("mart", ref.mart), ("alp", ref.alp)])
def test_the_objective_ascends_the_training_losses(kind: type[nn.Module], name: str, losses: Losses):
    """x' <- clip_[0,1](clip_{x +- eps}(x' + alpha sign(grad of the summed losses))), in eval mode."""
    reference = ref.Reference(model_of(kind), ref.plain())
    (x, y, start), _ = batches(2)
    reference.model.eval()
    adv = x + start
    for _ in range(ref.STEPS):
        adv = adv.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(losses(reference, x, adv, y).sum(), adv)
        adv = (adv + ref.ALPHA * gradient.sign()).clamp(x - ref.EPS, x + ref.EPS).clamp(0, 1)
    torch.testing.assert_close(attacked(kind, {"loss": "objective"}, name)[0], adv.detach(), rtol=0, atol=1e-12)


class Negative:
    """The training losses with the opposite sign; keeps the phases in which it was asked."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    @hookimpl(wrapper=True)
    def compute_loss(self, ctx: Any):
        self.phases.append(ctx.phase)
        loss = yield
        return Loss(-loss.per_example)


def test_wrappers_of_the_loss_are_part_of_the_objective():
    wrapper = Negative()
    one, _ = attacked(ref.MLP, {"loss": "objective", "steps": 1, "restarts": 1}, wrapper)
    (x, y, start), _ = batches(2)
    model = model_of(ref.MLP)
    point = (x + start).requires_grad_()
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(point), y, reduction="sum"), point)
    down = (point - ref.ALPHA * gradient.sign()).clamp(x - ref.EPS, x + ref.EPS).clamp(0, 1)
    torch.testing.assert_close(one, down.detach(), rtol=0, atol=1e-12)
    assert wrapper.phases == ["attack", "train"] * 2


class Blind:
    """A loss of clean inputs alone."""

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch.x), batch.y, reduction="none")


def test_a_training_loss_that_does_not_see_adversarial_examples_cannot_be_attacked():
    engine = engine_of(model_of(ref.MLP), [{"pgd": {"loss": "objective"}}, Blind()])
    with pytest.raises(HookError, match=r"'Blind' .*compute_loss.*\n.*these losses do not depend on adv\.x"):
        engine.step(*batches(1)[0][:2])


def test_the_losses_of_several_restarts_need_no_gradient():
    """The final losses, by which a start is chosen, are taken under ``no_grad``."""
    starts = torch.stack([0.02 * torch.randn((6, 1, 4, 4), dtype=torch.float64) for _ in range(3)])
    answers = []
    for loss in ("objective", "ce"):
        engine = engine_of(model_of(ref.ConvNet), [{"pgd": {"steps": 2, "restarts": 3, "loss": loss}}])
        x, y, _ = batches(1)[0]
        answers.append(engine.step(x, y, draws={"pgd.start": starts}).adv.x)
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=1e-12)


class Asks:
    """An attack of one's own on the run's losses, where it may ask and where it may not."""

    @hookimpl
    def generate_adv(self, batch: Any, ctx: Any) -> Adv:
        x = batch.x.clone().requires_grad_()
        losses = ctx.losses(x)
        assert losses.shape == (len(x),)
        (gradient,) = torch.autograd.grad(losses.sum(), x)
        return Adv(ctx.threat.project(batch.x + 0.05 * gradient.sign(), batch.x))

    @hookimpl
    def adjust_grads(self, ctx: Any) -> None:
        with pytest.raises(RuntimeError, match=r"ctx\.losses is available in generate_adv of a training attack only"):
            ctx.losses(torch.zeros(1))


def test_the_losses_are_there_in_an_attack_of_training_alone():
    x, y, _ = batches(1)[0]
    engine = engine_of(model_of(ref.MLP), [Asks()])
    adv = engine.step(x, y).adv
    expected = engine_of(model_of(ref.MLP), [{"fgsm": {"step_size": 0.05}}]).step(x, y).adv
    torch.testing.assert_close(adv.x, expected.x, rtol=0, atol=1e-12)
    assert all(weight.requires_grad for weight in engine.model.parameters())


def test_the_objective_moves_no_buffers_in_eval_mode_and_is_attacked_again_by_amp():
    plugins = [{"pgd": {"steps": 2, "loss": "objective"}}, "trades", {"amp": {"steps": 2}}]
    model = model_of(ref.ConvNet)
    engine = engine_of(model, plugins)
    calls = []
    model.bn1.register_forward_hook(lambda module, *_: calls.append(module.training))
    engine.step(*batches(1)[0][:2])
    assert calls.count(False) == 2 * 2 * 2  # two attacks of two steps, two forwards each
    assert int(model.bn1.num_batches_tracked) == 2


@functools.cache
def names() -> list[str]:
    from buttress.components.sources import sources

    return [source.name for source in sources("attack_loss") if source.distribution == "buttress"]


def test_the_losses_that_come_with_buttress():
    assert names() == ["ce", "dlr", "kl", "margin", "objective"]
