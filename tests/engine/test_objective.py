"""The objective of a weight perturbation: losses, masked means, gradients and attacks at the current weights."""

from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Adv, Batch, Loss
from buttress.errors import HookError

from ..core.helpers import batch_of, clean_attack, engine_of, gradient, plugin, snapshot, step
from ..models import MLP, ConvNet


def perturbing(action: Any) -> Any:
    """A plugin that does ``action(model, adv, objective, ctx)`` and perturbs nothing."""

    def perturb_weights(self: Any, model: nn.Module, adv: Adv, objective: Any, ctx: Any) -> None:
        action(model, adv, objective, ctx)

    return plugin("perturbing", perturb_weights=perturb_weights)


def test_the_objective_gives_the_training_losses_with_gradient():
    seen = {}

    def action(model: nn.Module, adv: Adv, objective: Any, ctx: Any) -> None:
        losses = objective(adv)
        seen["losses"] = losses.detach()
        seen["grads"] = objective.grads(losses.mean(), list(model.parameters()))

    model = ConvNet().double()
    batch = batch_of(dtype=torch.float64)
    reference = ConvNet().double()
    expected = F.cross_entropy(reference(batch.x), batch.y, reduction="none")
    expected.mean().backward()
    result = step(engine_of(model, clean_attack(), perturbing(action)))
    torch.testing.assert_close(seen["losses"], expected.detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(seen["losses"], result.losses, rtol=0, atol=0)
    for grad, parameter in zip(seen["grads"], reference.parameters(), strict=True):
        torch.testing.assert_close(grad, parameter.grad, rtol=0, atol=1e-14)


@pytest.mark.parametrize("update_bn", [False, True])
def test_the_objective_leaves_buffers_and_gradients_unless_asked(update_bn: bool):
    model = ConvNet()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)

    def action(model: Any, adv: Adv, objective: Any, ctx: Any) -> None:
        before = snapshot(model)
        for _ in range(2):
            objective(adv, update_bn=update_bn)
        assert int(model.bn.num_batches_tracked) == (2 if update_bn else 0)
        assert torch.equal(before["bn.running_mean"], model.bn.running_mean) == (not update_bn)
        assert model.bn.track_running_stats
        assert model.training
        assert all(bool((parameter.grad == 3.0).all()) for parameter in model.parameters())

    step(engine_of(model, clean_attack(), perturbing(action)))
    assert int(model.bn.num_batches_tracked) == (3 if update_bn else 1)


def test_the_objective_goes_through_the_wrappers_of_the_loss():
    def double(self: Any, ctx: Any) -> Any:
        loss = yield
        return Loss(2 * loss.per_example)

    seen = []
    perturber = perturbing(lambda model, adv, objective, ctx: seen.append(objective(adv).detach()))
    wrapper = plugin("double", wrapper=True, compute_loss=double)
    batch, model = batch_of(), MLP()
    expected = 2 * F.cross_entropy(model(batch.x), batch.y, reduction="none").detach()
    result = step(engine_of(model, clean_attack(), perturber, wrapper))
    torch.testing.assert_close(seen[0], expected)
    torch.testing.assert_close(result.losses, expected)


def masked_mean(*plugins: Any, batch: Any = None, **kwargs: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Mean, number kept and gradients of ``objective.masked`` in a step with these plugins."""
    seen: list[Any] = []

    def action(model: nn.Module, adv: Adv, objective: Any, ctx: Any) -> None:
        mean, kept = objective.masked(adv, 1.1, **kwargs)
        seen.extend([mean.detach(), kept, objective.grads(mean, list(model.parameters()))])

    engine = engine_of(ConvNet().double(), clean_attack(), perturbing(action), *plugins)
    batch = batch or batch_of(dtype=torch.float64)
    engine.step(batch.x, batch.y)
    assert int(engine.model.bn.num_batches_tracked) == 1  # the training forward alone
    return seen[0], seen[1], seen[2]


def losses_of_cross_entropy(**members: Any) -> Any:
    """The plugin ``cross_entropy`` without its ``masked_loss``, or with another."""

    def compute_loss(self: Any, model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
        return F.cross_entropy(model(adv.x), batch.y, reduction="none")

    return plugin("losses", compute_loss=compute_loss, **members)


@pytest.mark.parametrize("inclusive", [True, False])
def test_the_masked_objective_is_the_same_with_and_without_a_fused_loss(inclusive: bool):
    fused = masked_mean("cross_entropy", inclusive=inclusive)
    separate = masked_mean(losses_of_cross_entropy(), inclusive=inclusive)
    assert 0 < int(fused[1]) < 6
    assert int(fused[1]) == int(separate[1])
    torch.testing.assert_close(fused[0], separate[0], rtol=1e-13, atol=0)
    for one, other in zip(fused[2], separate[2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-15)


def test_the_masked_objective_goes_through_the_wrappers_of_the_loss():
    def double(self: Any) -> Any:
        loss = yield
        return Loss(2 * loss.per_example)

    def never(self: Any, *_: Any) -> Any:
        raise AssertionError("the loss is wrapped")

    wrapper = plugin("double", wrapper=True, compute_loss=double)
    wrapped = masked_mean(wrapper, losses_of_cross_entropy(masked_loss=never))
    losses = 2 * F.cross_entropy(ConvNet().double()(batch_of(dtype=torch.float64).x), batch_of().y, reduction="none")
    assert int(wrapped[1]) == int((losses <= 1.1).sum())
    torch.testing.assert_close(wrapped[0], losses.detach()[losses <= 1.1].sum() / 6)


def test_the_masked_objective_takes_soft_labels():
    batch = batch_of(dtype=torch.float64)
    soft = Batch(batch.x, F.one_hot(batch.y, 3).double())
    torch.testing.assert_close(masked_mean("cross_entropy", batch=soft)[0], masked_mean("cross_entropy")[0])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, r"expected \(mean, kept\), got None"),
        (torch.zeros(2), r"expected \(mean, kept\), got a tensor \(2,\)"),
        ((torch.zeros(6), torch.tensor(6)), r"expected a 0-dim floating-point mean on cpu, got a tensor \(6,\)"),
        ((torch.tensor(1), torch.tensor(6)), r"expected a 0-dim floating-point mean on cpu, got .*int64"),
        ((torch.tensor(1.0), 6), r"expected a 0-dim int64 number kept on cpu, got an int"),
        ((torch.tensor(1.0), torch.tensor(6.0)), r"expected a 0-dim int64 number kept on cpu, got .*float32"),
        ((torch.tensor(torch.nan), torch.tensor(6)), r"expected a finite mean of losses"),
    ],
    ids=["none", "one", "shape", "integer", "no tensor", "float", "nan"],
)
def test_a_wrong_masked_loss_is_blamed_on_the_loss(answer: Any, message: str):
    loss = losses_of_cross_entropy(masked_loss=lambda self, *_: answer)
    with pytest.raises(HookError, match=r"plugin 'losses'.*, hook compute_loss \(masked_loss\),(.|\n)*" + message):
        masked_mean(loss)


def test_a_masked_loss_that_raises_is_named():
    def fail(self: Any, *_: Any) -> Any:
        raise ValueError("no")

    with pytest.raises(HookError, match=r"plugin 'losses'.*, hook compute_loss \(masked_loss\),(.|\n)*ValueError: no"):
        masked_mean(losses_of_cross_entropy(masked_loss=fail))


def test_the_objective_attacks_again_at_the_current_weights():
    seen = {}

    def action(model: nn.Module, adv: Adv, objective: Any, ctx: Any) -> None:
        seen["same"] = objective.attack().x
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.neg_()
        seen["negated"] = objective.attack().x
        assert ctx.phase == "perturb"
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.neg_()

    model = MLP().double()
    batch = batch_of(dtype=torch.float64)
    expected = (batch.x + 0.1 * gradient(model, batch.x, batch.y).sign()).clamp(0, 1)
    negated = MLP().double()
    with torch.no_grad():
        for parameter in negated.parameters():
            parameter.neg_()
    at_negated = (batch.x + 0.1 * gradient(negated, batch.x, batch.y).sign()).clamp(0, 1)
    step(engine_of(model, "fgsm", perturbing(action)))
    assert torch.equal(seen["same"], expected)
    assert torch.equal(seen["negated"], at_negated)
    assert not torch.equal(expected, at_negated)


def test_the_objective_attacks_no_more_once_the_perturbation_is_complete():
    kept: list[Any] = []
    late = plugin("late", adjust_grads=lambda self: kept[0].attack())
    perturber = perturbing(lambda model, adv, objective, ctx: kept.append(objective))
    with pytest.raises(HookError, match=r"objective\.attack\(\) is available within perturb_weights only"):
        step(engine_of(MLP(), clean_attack(), perturber, late))


def test_the_objective_attacks_no_more_after_the_yield_of_the_perturbation():
    @contextmanager
    def perturbed(objective: Any) -> Any:
        yield
        objective.attack()

    perturber = plugin("perturber", perturb_weights=lambda self, objective: perturbed(objective))
    with pytest.raises(HookError, match=r"'perturber'(.|\n)*objective\.attack\(\) is available within perturb_weights"):
        step(engine_of(MLP(), clean_attack(), perturber))


def test_gradients_of_the_objective_are_zero_where_nothing_flows_and_none_in_the_context():
    seen: dict[str, Any] = {}

    def action(model: Any, adv: Adv, objective: Any, ctx: Any) -> None:
        loss, weights = model.first.bias.sum(), [model.first.bias, model.second.bias]
        seen["objective"], seen["context"] = objective.grads(loss, weights), ctx.grads(loss, weights)

    step(engine_of(MLP(), clean_attack(), perturbing(action)))
    assert [grad.tolist() for grad in seen["objective"]] == [[1.0] * 5, [0.0] * 3]
    assert [grad if grad is None else grad.tolist() for grad in seen["context"]] == [[1.0] * 5, None]
