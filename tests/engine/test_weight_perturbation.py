"""Weight perturbations within a step: what the loss and the optimizer see, and what comes back."""

from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Adv, Engine
from buttress.errors import HookError, PluginError

from ..core.helpers import LINF, assert_same, batch_of, clean_attack, engine_of, perturbation, plugin, step, weights_of
from ..models import MLP, ConvNet

ORDERS = pytest.mark.parametrize("exit_order", ["restore_then_step", "step_while_perturbed"])


class RecordingSGD(torch.optim.SGD):
    """Keeps the weights before and after its last step."""

    def step(self, closure: Any = None) -> None:
        parameters = [p for group in self.param_groups for p in group["params"]]
        self.before = [p.detach().clone() for p in parameters]
        super().step(closure)
        self.after = [p.detach().clone() for p in parameters]


def recording_engine(model: nn.Module, *plugins: Any, lr: float = 0.2) -> Engine:
    optimizer = RecordingSGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=0.1)
    return Engine(model, optimizer, [clean_attack(), *plugins], LINF)


def test_the_loss_is_taken_at_the_perturbed_weights():
    model = MLP().double()
    shifted = MLP().double()
    seen = {}
    watch = plugin(
        "watch",
        compute_loss=lambda self, model, batch, adv: (
            seen.update(weights_of(model)) or F.cross_entropy(model(adv.x), batch.y, reduction="none")
        ),
    )
    before = weights_of(model)
    engine = recording_engine(model, perturbation("restore_then_step"), watch)
    losses = step(engine).losses
    generator = torch.Generator().manual_seed(7)
    for name in before:
        v = 0.5 * torch.randn(before[name].shape, generator=generator, dtype=torch.float64)
        assert torch.equal(seen[name], before[name] + v)
    shifted.load_state_dict(seen)
    batch = batch_of(dtype=torch.float64)
    expected = F.cross_entropy(shifted(batch.x), batch.y, reduction="none")
    torch.testing.assert_close(losses, expected.detach(), rtol=0, atol=1e-14)


def test_restore_then_step_gives_the_optimizer_the_saved_weights_bit_for_bit():
    model = ConvNet()
    before = [p.detach().clone() for p in model.parameters()]
    engine = recording_engine(model, perturbation("restore_then_step", size=1e3))
    step(engine)
    optimizer = engine.optimizer
    assert all(torch.equal(a, b) for a, b in zip(before, optimizer.before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), optimizer.after, strict=True))


def test_restore_then_step_is_the_default_exit_order():
    model = MLP()
    before = [p.detach().clone() for p in model.parameters()]
    engine = recording_engine(model, perturbation(None))
    step(engine)
    assert all(torch.equal(a, b) for a, b in zip(before, engine.optimizer.before, strict=True))


def test_step_while_perturbed_ends_at_the_saved_weights_plus_the_update():
    model = ConvNet()
    before = [p.detach().clone() for p in model.parameters()]
    engine = recording_engine(model, perturbation("step_while_perturbed"))
    step(engine)
    optimizer = engine.optimizer
    assert not any(torch.equal(a, b) for a, b in zip(before, optimizer.before, strict=True))
    for weight, w0, perturbed, stepped in zip(
        model.parameters(), before, optimizer.before, optimizer.after, strict=True
    ):
        assert torch.equal(weight, w0 + (stepped - perturbed))


def test_step_while_perturbed_leaves_the_stepped_value_of_unperturbed_elements():
    model = MLP()
    before = weights_of(model)
    chosen = perturbation("step_while_perturbed", names=lambda name: name.startswith("first"))
    engine = recording_engine(model, chosen, lr=30.0)  # so large that w0 + (w - w0) is rounded
    step(engine)
    rounded = False
    for (name, weight), stepped in zip(model.named_parameters(), engine.optimizer.after, strict=True):
        assert torch.equal(weight, stepped) == (not name.startswith("first")), name
        rounded |= not torch.equal(before[name] + (stepped - before[name]), stepped)
    assert rounded


@ORDERS
def test_weight_decay_sees_the_weights_of_the_exit_order(exit_order: str):
    model = MLP().double()
    before = [p.detach().clone() for p in model.parameters()]
    engine = recording_engine(model, perturbation(exit_order))
    step(engine)
    generator = torch.Generator().manual_seed(7)
    for weight, w0 in zip(model.parameters(), before, strict=True):
        v = 0.5 * torch.randn(w0.shape, generator=generator, dtype=torch.float64)
        seen = w0 + v if exit_order == "step_while_perturbed" else w0
        torch.testing.assert_close(weight, w0 - 0.2 * (weight.grad + 0.1 * seen), rtol=0, atol=1e-14)


@ORDERS
def test_a_zero_learning_rate_gives_back_exactly_the_weights(exit_order: str):
    model = ConvNet()
    before = weights_of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=0.1)
    engine = Engine(model, optimizer, [clean_attack(), perturbation(exit_order, size=1e3)], LINF)
    for seed in range(3):
        step(engine, seed)
    assert_same(before, weights_of(model))


def failing(place: str, error: BaseException) -> Any:
    def fail(*_: Any) -> Any:
        raise error

    if place == "loss":
        return plugin("failing", compute_loss=lambda self, model: fail())
    return plugin("failing", adjust_grads=lambda self, model: fail())


@ORDERS
@pytest.mark.parametrize("place", ["loss", "adjust_grads"])
@pytest.mark.parametrize(("error", "raised"), [(ValueError("no"), HookError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_an_exception_brings_the_weights_back_bit_for_bit(
    exit_order: str, place: str, error: BaseException, raised: type[BaseException]
):
    model = ConvNet()
    before = weights_of(model)
    engine = recording_engine(model, perturbation(exit_order, size=1e3), failing(place, error))
    with pytest.raises(raised):
        step(engine)
    assert_same(before, weights_of(model))


@ORDERS
def test_an_exception_restores_even_when_the_plugin_takes_its_perturbation_back_itself(exit_order: str):
    @contextmanager
    def tidy(weights: list[Tensor]) -> Any:
        with torch.no_grad():
            for weight in weights:
                weight.add_(0.1)
        try:
            yield
        finally:
            with torch.no_grad():
                for weight in weights:
                    weight.sub_(0.1)

    model = ConvNet()
    before = weights_of(model)
    tidying = plugin(
        "tidying",
        exit_order=exit_order,
        perturb_weights=lambda self, model: tidy(list(model.parameters())),
    )
    engine = recording_engine(model, tidying, failing("loss", ValueError("no")))
    with pytest.raises(HookError):
        step(engine)
    assert_same(before, weights_of(model))


def test_a_manager_that_fails_halfway_leaves_the_weights_as_found():
    @contextmanager
    def halfway(weights: list[Tensor]) -> Any:
        with torch.no_grad():
            weights[0].add_(1.0)
        raise ValueError("halfway")
        yield

    model = MLP()
    before = weights_of(model)
    bad = plugin("bad", perturb_weights=lambda self, model: halfway(list(model.parameters())))
    with pytest.raises(HookError, match=r"plugin 'bad'.*hook perturb_weights, epoch 1, step 1:\n  ValueError: halfway"):
        step(recording_engine(model, bad))
    assert_same(before, weights_of(model))


def test_a_manager_cannot_swallow_an_exception_of_the_step():
    class Swallowing:
        def __enter__(self) -> None:
            return None

        def __exit__(self, *_: Any) -> bool:
            return True

    from contextlib import AbstractContextManager

    AbstractContextManager.register(Swallowing)
    swallowing = plugin("swallowing", perturb_weights=lambda self: Swallowing())
    with pytest.raises(HookError, match="no"):
        step(recording_engine(MLP(), swallowing, failing("loss", ValueError("no"))))


def test_perturb_weights_may_answer_none_for_no_perturbation():
    ours, plain = MLP(), MLP()
    step(engine_of(ours, clean_attack(), plugin("warm_up", perturb_weights=lambda self: None)))
    step(engine_of(plain, clean_attack()))
    assert_same(weights_of(ours), weights_of(plain))


def test_a_manager_may_yield_other_adversarial_examples_for_the_loss():
    @contextmanager
    def yielding(adv: Adv) -> Any:
        yield adv

    x = batch_of().x
    other = Adv((x + 0.05).clamp(0, 1))
    seen = []
    watch = plugin(
        "watch",
        compute_loss=lambda self, model, batch, adv: (
            seen.append(adv) or F.cross_entropy(model(adv.x), batch.y, reduction="none")
        ),
    )
    result = step(engine_of(MLP(), clean_attack(), plugin("p", perturb_weights=lambda self: yielding(other)), watch))
    assert seen == [other]
    assert result.adv is other


def test_an_unknown_exit_order_is_refused_by_name():
    with pytest.raises(PluginError, match=r"'perturbation'.*exit_order: expected one of restore_then_step, .*'later'"):
        engine_of(MLP(), clean_attack(), perturbation("later"))
