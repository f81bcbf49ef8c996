"""One training step: its order, its arithmetic, and everything that it must leave as found."""

import functools
import weakref
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Adv, Batch, Engine, Loss, Split, ThreatModel, Track, evaluate
from buttress.components.loaded import load_plugins
from buttress.engine.context import Context
from buttress.engine.state import RunState
from buttress.errors import CheckpointError, ConfigError, DataError, HookError, ModelError, PluginError
from buttress.types import ParamGroup

from .helpers import (
    LINF,
    MLP,
    SHORT_PGD,
    ConvNet,
    adding,
    assert_same,
    batch_of,
    clean_attack,
    context,
    engine_of,
    gradient,
    perturbation,
    plugin,
    snapshot,
    step,
    weights_of,
)

MODELS = pytest.mark.parametrize("make", [ConvNet, MLP])
ORDERS = pytest.mark.parametrize("exit_order", ["restore_then_step", "step_while_perturbed"])


# The order of a step


def spy_plugin() -> tuple[Any, list[tuple[Any, ...]]]:
    """A plugin with every hook, and the list in which it writes down each call with its phase."""
    calls: list[tuple[Any, ...]] = []

    def param_groups(self: Any, groups: Any, ctx: Any) -> Any:
        calls.append(("param_groups", ctx.phase))
        return groups

    def start_run(self: Any, model: nn.Module, ctx: Any) -> None:
        calls.append(("start_run", ctx.phase))

    def transform_batch(self: Any, batch: Batch, ctx: Any) -> Batch:
        calls.append(("transform_batch",))
        return batch

    def generate_adv(self: Any, batch: Batch, ctx: Any) -> Adv:
        calls.append(("generate_adv", ctx.phase))
        return Adv(batch.x)

    @contextmanager
    def manager() -> Any:
        calls.append(("enter",))
        yield
        calls.append(("exit",))

    def perturb_weights(self: Any, ctx: Any) -> Any:
        calls.append(("perturb_weights", ctx.phase))
        return manager()

    def compute_loss(self: Any, model: nn.Module, batch: Batch, adv: Adv, ctx: Any) -> Loss:
        calls.append(("compute_loss", ctx.phase))
        return Loss(F.cross_entropy(model(adv.x), batch.y, reduction="none"))

    def adjust_grads(self: Any, model: nn.Module, ctx: Any) -> None:
        assert all(parameter.grad is not None for parameter in model.parameters())
        calls.append(("adjust_grads",))

    def ensemble_weights(self: Any, event: str, ctx: Any) -> None:
        calls.append(("ensemble_weights", event, ctx.phase))

    def end_epoch(self: Any, metrics: Any, ctx: Any) -> None:
        calls.append(("end_epoch", dict(metrics)))

    def end_run(self: Any, ctx: Any) -> None:
        calls.append(("end_run",))

    hooks = {name: value for name, value in locals().items() if name not in ("calls", "manager")}
    return plugin("spy", **hooks), calls


def test_hooks_fire_in_the_order_of_the_step_with_their_phases():
    spy, calls = spy_plugin()

    class Recording(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            calls.append(("optimizer",))
            super().step(closure)

    engine = Engine(MLP(), functools.partial(Recording, lr=0.1), [spy], LINF)
    assert calls == [("param_groups", "setup")]
    calls.clear()
    step(engine)
    engine.end_epoch({"loss": 1.0})
    engine.tracks()
    engine.close()
    assert calls == [
        ("start_run", "setup"),
        ("transform_batch",),
        ("generate_adv", "attack"),
        ("perturb_weights", "perturb"),
        ("enter",),
        ("compute_loss", "train"),
        ("exit",),
        ("adjust_grads",),
        ("optimizer",),
        ("ensemble_weights", "step", "ensemble"),
        ("ensemble_weights", "epoch", "ensemble"),
        ("end_epoch", {"loss": 1.0}),
        ("ensemble_weights", "evaluate", "ensemble"),
        ("end_run",),
    ]


def test_start_run_and_end_run_fire_once():
    fired: list[str] = []
    counter = clean_attack(
        start_run=lambda self: fired.append("start"),
        end_run=lambda self: fired.append("end"),
    )
    engine = engine_of(MLP(), counter)
    engine.close()
    assert fired == []
    for seed in range(3):
        step(engine, seed)
    engine.close()
    engine.close()
    assert fired == ["start", "end"]


def test_counters_are_zero_based_and_step_starts_again_with_the_epoch():
    seen: list[tuple[int, int, int]] = []
    watcher = clean_attack(
        transform_batch=lambda self, batch, ctx: seen.append((ctx.epoch, ctx.step, ctx.global_step)) or batch
    )
    engine = engine_of(MLP(), watcher, epochs=2, steps_per_epoch=2)
    for _ in range(2):
        for seed in range(2):
            step(engine, seed)
        engine.end_epoch()
    assert seen == [(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3)]


def test_epoch_and_global_step_may_be_written():
    engine = engine_of(MLP(), clean_attack())
    step(engine)
    engine.epoch, engine.global_step = 7, 70
    assert (engine.epoch, engine.epoch_step, engine.global_step) == (7, 0, 70)


def test_the_step_returns_detached_losses_of_the_given_adv():
    model = MLP().double()
    batch = batch_of(dtype=torch.float64)
    expected = F.cross_entropy(model(batch.x), batch.y, reduction="none").detach()
    result = engine_of(model, clean_attack()).step(batch.x, batch.y)
    assert not result.losses.requires_grad
    torch.testing.assert_close(result.losses, expected, rtol=0, atol=1e-15)
    assert torch.equal(result.adv.x, batch.x)


# Its arithmetic, against plain torch


def reference_attack(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, steps: int, alpha: float) -> Tensor:
    """PGD, L-inf 1/10, in eval mode, written out."""
    model.eval()
    x_adv = x + start
    for _ in range(steps):
        grad = gradient(model, x_adv, y)
        x_adv = x_adv + alpha * grad.sign()
        x_adv = torch.max(torch.min(x_adv, x + 0.1), x - 0.1).clamp(0, 1)
    model.train()
    return x_adv


def reference_training(model: nn.Module, starts: list[Tensor], lr: float, momentum: float, decay: float) -> None:
    """Adversarial training with SGD, by hand."""
    velocity: dict[str, Tensor] = {}
    for number, start in enumerate(starts):
        batch = batch_of(seed=number, dtype=torch.float64)
        x_adv = reference_attack(model, batch.x, batch.y, start, 3, 0.04)
        model.zero_grad()
        F.cross_entropy(model(x_adv), batch.y).backward()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                assert weight.grad is not None
                grad = weight.grad + decay * weight
                velocity[name] = grad if name not in velocity else momentum * velocity[name] + grad
                weight -= lr * velocity[name]


@MODELS
def test_training_equals_plain_torch_in_float64(make: type[nn.Module]):
    ours, plain = make().double(), make().double()
    starts = [0.1 * (2 * torch.rand((6, 1, 4, 4), dtype=torch.float64, generator=g) - 1) for g in generators(5)]
    engine = engine_of(
        ours, {"pgd": {"steps": 3, "step_size": "1/25"}}, lr=0.3, momentum=0.9, weight_decay=0.01, attack_mode="eval"
    )
    for number, start in enumerate(starts):
        step(engine, number, draws={"pgd.start": start})
    reference_training(plain, starts, lr=0.3, momentum=0.9, decay=0.01)
    for (name, a), b in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


def generators(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(n)]


def test_a_penalty_is_added_to_the_mean_and_not_to_the_losses():
    def compute_loss(self: Any, model: nn.Module, batch: Batch, adv: Adv) -> Loss:
        losses = F.cross_entropy(model(adv.x), batch.y, reduction="none")
        return Loss(losses, 0.5 * sum(weight.square().sum() for weight in model.parameters()))

    with_penalty, with_decay = MLP().double(), MLP().double()
    engine = engine_of(with_penalty, clean_attack(compute_loss=compute_loss), momentum=0.0)
    expected = F.cross_entropy(with_decay(batch_of(dtype=torch.float64).x), batch_of().y, reduction="none").detach()
    torch.testing.assert_close(step(engine).losses, expected, rtol=0, atol=1e-14)
    step(engine_of(with_decay, clean_attack(), momentum=0.0, weight_decay=1.0))
    for a, b in zip(with_penalty.parameters(), with_decay.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_soft_labels_train_like_the_hard_ones_that_they_spell_out():
    hard, soft = MLP().double(), MLP().double()
    batch = batch_of(dtype=torch.float64)
    engine_of(hard, clean_attack()).step(batch.x, batch.y)
    engine_of(soft, clean_attack()).step(batch.x, F.one_hot(batch.y, 3).double())
    for a, b in zip(hard.parameters(), soft.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_gradients_of_an_earlier_step_do_not_add_up():
    model = MLP().double()
    engine = engine_of(model, clean_attack(), lr=0.0)
    step(engine)
    first = [parameter.grad.clone() for parameter in model.parameters()]
    step(engine)
    assert all(torch.equal(a, b.grad) for a, b in zip(first, model.parameters(), strict=True))


def test_adjust_grads_edits_what_the_optimizer_takes():
    def halve(self: Any, model: nn.Module, optimizer: Any) -> None:
        for parameter in model.parameters():
            parameter.grad.mul_(0.5)

    halved, slower = MLP().double(), MLP().double()
    step(engine_of(halved, clean_attack(adjust_grads=halve), lr=0.2, momentum=0))
    step(engine_of(slower, clean_attack(), lr=0.1, momentum=0))
    for a, b in zip(halved.parameters(), slower.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-15)


def test_transform_batch_is_what_attack_and_loss_see():
    batch = batch_of()
    seen = []
    darker = clean_attack(
        "darker",
        transform_batch=lambda self, batch: Batch(batch.x / 2, batch.y, batch.index),
    )
    watcher = plugin("watcher", transform_batch=lambda self, batch: seen.append(batch) or batch)
    result = engine_of(MLP(), darker, watcher).step(batch.x, batch.y, index=batch.index)
    assert torch.equal(seen[0].x, batch.x / 2)
    assert seen[0].index is batch.index
    assert torch.equal(result.adv.x, batch.x / 2)


# Optimizers and parameter groups


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


# Weight perturbation


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


def perturbing(action: Any) -> Any:
    """A plugin that does ``action(model, adv, objective, ctx)`` and perturbs nothing."""

    def perturb_weights(self: Any, model: nn.Module, adv: Adv, objective: Any, ctx: Any) -> None:
        action(model, adv, objective, ctx)

    return plugin("perturbing", perturb_weights=perturb_weights)


def test_the_objective_gives_the_training_losses_with_gradient():
    found = {}

    def action(model: nn.Module, adv: Adv, objective: Any, ctx: Any) -> None:
        losses = objective(adv)
        found["losses"] = losses.detach()
        found["grads"] = objective.grads(losses.mean(), list(model.parameters()))

    model = ConvNet().double()
    batch = batch_of(dtype=torch.float64)
    reference = ConvNet().double()
    expected = F.cross_entropy(reference(batch.x), batch.y, reduction="none")
    expected.mean().backward()
    result = step(engine_of(model, clean_attack(), perturbing(action)))
    torch.testing.assert_close(found["losses"], expected.detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(found["losses"], result.losses, rtol=0, atol=0)
    for grad, parameter in zip(found["grads"], reference.parameters(), strict=True):
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

    found = []
    perturber = perturbing(lambda model, adv, objective, ctx: found.append(objective(adv).detach()))
    wrapper = plugin("double", wrapper=True, compute_loss=double)
    batch, model = batch_of(), MLP()
    expected = 2 * F.cross_entropy(model(batch.x), batch.y, reduction="none").detach()
    result = step(engine_of(model, clean_attack(), perturber, wrapper))
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(result.losses, expected)


def masked_mean(*plugins: Any, batch: Any = None, **kwargs: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Mean, number kept and gradients of ``objective.masked`` in a step with these plugins."""
    found: list[Any] = []

    def action(model: nn.Module, adv: Adv, objective: Any, ctx: Any) -> None:
        mean, kept = objective.masked(adv, 1.1, **kwargs)
        found.extend([mean.detach(), kept, objective.grads(mean, list(model.parameters()))])

    engine = engine_of(ConvNet().double(), clean_attack(), perturbing(action), *plugins)
    batch = batch or batch_of(dtype=torch.float64)
    engine.step(batch.x, batch.y)
    assert int(engine.model.bn.num_batches_tracked) == 1  # the training forward alone
    return found[0], found[1], found[2]


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
        ((torch.tensor(1.0), 6), r"expected a 0-dim int64 number kept on cpu, got a int"),
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
    found = {}

    def action(model: nn.Module, adv: Adv, objective: Any, ctx: Any) -> None:
        found["same"] = objective.attack().x
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.neg_()
        found["negated"] = objective.attack().x
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
    assert torch.equal(found["same"], expected)
    assert torch.equal(found["negated"], at_negated)
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
    found: dict[str, Any] = {}

    def action(model: Any, adv: Adv, objective: Any, ctx: Any) -> None:
        loss, weights = model.first.bias.sum(), [model.first.bias, model.second.bias]
        found["objective"], found["context"] = objective.grads(loss, weights), ctx.grads(loss, weights)

    step(engine_of(MLP(), clean_attack(), perturbing(action)))
    assert [grad.tolist() for grad in found["objective"]] == [[1.0] * 5, [0.0] * 3]
    assert [grad if grad is None else grad.tolist() for grad in found["context"]] == [[1.0] * 5, None]


def test_an_unknown_exit_order_is_refused_by_name():
    with pytest.raises(PluginError, match=r"'perturbation'.*exit_order: expected one of restore_then_step, .*'later'"):
        engine_of(MLP(), clean_attack(), perturbation("later"))


# What an attack must leave as found


class Messy(nn.Module):
    """A convolution net with a frozen batch norm, dropout, a frozen weight and a buffer outside of norm layers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = ConvNet()
        self.frozen_bn = nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(0.5)
        self.net.linear.bias.requires_grad_(False)
        self.register_buffer("forwards", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.forwards += 1
        return self.net(self.dropout(self.frozen_bn(x)))


def messy() -> Messy:
    model = Messy()
    model.train()
    model.frozen_bn.eval()
    for position, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, float(position)) if position % 2 else None
    return model


def attack_doing(action: Any) -> Any:
    def generate_adv(self: Any, model: nn.Module, batch: Batch, ctx: Any) -> Adv:
        action(model, batch.x)
        return Adv(batch.x)

    return plugin("attack", generate_adv=generate_adv)


@pytest.mark.parametrize("mode", ["eval", "train", "train_notrack"])
@pytest.mark.parametrize("fails", [False, True])
def test_an_attack_leaves_modes_requires_grad_and_gradients_as_found(mode: str, fails: bool):
    model = messy()
    modes = {name: module.training for name, module in model.named_modules()}
    required = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    copies = {name: None if grad is None else grad.clone() for name, grad in grads.items()}
    after: dict[str, Any] = {}

    def action(model: Any, x: Tensor) -> None:
        assert not any(parameter.requires_grad for parameter in model.parameters())
        model(x)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        if fails:
            raise ValueError("attack failed")

    def compute_loss(self: Any, model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
        raise ValueError("unreachable when the attack fails")

    def look(self: Any, model: nn.Module) -> None:
        after["modes"] = {name: module.training for name, module in model.named_modules()}
        after["required"] = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        after["grads"] = {name: parameter.grad for name, parameter in model.named_parameters()}

    looking = plugin("looking", perturb_weights=look)
    engine = engine_of(model, attack_doing(action), looking, attack_mode=mode)
    if fails:
        with pytest.raises(HookError, match="attack failed"):
            step(engine)
        look(None, model)
    else:
        step(engine)
    assert after["modes"] == modes
    assert after["required"] == required
    for name, grad in grads.items():
        assert after["grads"][name] is grad, name
        assert grad is None or torch.equal(grad, copies[name]), name


@pytest.mark.parametrize(
    ("mode", "training"),
    [("eval", (False, False, False)), ("train", (True, True, False)), ("train_notrack", (True, True, False))],
)
def test_the_attack_runs_in_its_mode_with_frozen_norm_layers_frozen(mode: str, training: tuple[bool, ...]):
    seen = []
    engine = engine_of(
        messy(),
        attack_doing(lambda model, x: seen.append((model.training, model.net.bn.training, model.frozen_bn.training))),
        attack_mode=mode,
    )
    step(engine)
    assert seen == [training]


@pytest.mark.parametrize(("mode", "moves"), [("eval", 0), ("train", 5), ("train_notrack", 0)])
@pytest.mark.parametrize("fails", [False, True])
def test_batch_norm_buffers_move_as_often_as_the_mode_says(mode: str, moves: int, fails: bool):
    model = messy()
    before, found = snapshot(model), {}

    def action(model: Any, x: Tensor) -> None:
        for number in range(5):
            model(x * number / 5)
        if fails:
            found.update(snapshot(model))
            raise ValueError("attack failed")

    def stop(self: Any, model: nn.Module) -> None:
        found.update(snapshot(model))
        raise ValueError("stop before the training forward")

    engine = engine_of(model, attack_doing(action), plugin("stop", perturb_weights=stop), attack_mode=mode)
    with pytest.raises(HookError):
        step(engine)
    assert int(found["net.bn.num_batches_tracked"]) == moves
    assert fails or int(found["forwards"]) == moves  # the attack itself sees a copy of it, which is dropped
    assert torch.equal(found["frozen_bn.running_mean"], before["frozen_bn.running_mean"])
    assert torch.equal(before["net.bn.running_mean"], found["net.bn.running_mean"]) == (moves == 0)
    assert model.net.bn.track_running_stats
    assert_same(before, snapshot(model))


def test_train_notrack_attacks_with_batch_statistics():
    model = ConvNet().double()
    out = {}
    engine = engine_of(
        model, attack_doing(lambda model, x: out.update(attack=model(x).detach())), attack_mode="train_notrack"
    )
    reference = ConvNet().double().train()
    step(engine)
    expected = reference(batch_of(dtype=torch.float64).x)
    torch.testing.assert_close(out["attack"], expected.detach(), rtol=0, atol=1e-14)


def test_attack_mode_is_the_plugins_unless_the_engine_says_otherwise():
    assert engine_of(MLP(), "pgd").attack_mode == "eval"
    assert engine_of(MLP(), {"pgd": {"attack_mode": "train"}}).attack_mode == "train"
    assert engine_of(MLP(), {"pgd": {"attack_mode": "train"}}, attack_mode="eval").attack_mode == "eval"
    assert engine_of(MLP(), clean_attack()).attack_mode == "eval"


def test_attack_mode_may_be_written_between_steps():
    seen = []
    engine = engine_of(MLP(), attack_doing(lambda model, x: seen.append(model.training)))
    step(engine)
    engine.attack_mode = "train"
    step(engine)
    assert seen == [False, True]


class _Raises(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise ZeroDivisionError("in my backward")


def _overwritten(self: Any, model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
    losses = F.cross_entropy(model(adv.x), batch.y, reduction="none").exp()
    losses.mul_(2)
    return losses


def _raising(self: Any, model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
    return _Raises.apply(F.cross_entropy(model(adv.x), batch.y, reduction="none"))


def _wrapping(self: Any) -> Any:
    loss = yield
    return Loss(_Raises.apply(loss.per_example))


@pytest.mark.parametrize(
    ("members", "wrapper", "message"),
    [
        ({"compute_loss": _overwritten}, False, r"RuntimeError: .*modified by an inplace .*\(test_engine\.py:\d+\)"),
        ({"compute_loss": _raising}, False, r"ZeroDivisionError: in my backward \(test_engine\.py:\d+\)"),
        ({"compute_loss": _wrapping}, True, r"ZeroDivisionError: in my backward \(test_engine\.py:\d+\); beside it"),
    ],
)
def test_an_error_in_the_backward_of_the_core_names_the_plugin_and_its_line(members: Any, wrapper: bool, message: str):
    model = MLP()
    engine = engine_of(model, clean_attack(), plugin("mine", wrapper=wrapper, **members), perturbation())
    before = weights_of(model)
    with pytest.raises(HookError, match=r"^plugin 'mine' .*, hook compute_loss, epoch 1, step 1:\n  the gradient "):
        step(engine)
    with pytest.raises(HookError, match=message) as caught:
        step(engine)
    assert len(str(caught.value).splitlines()) == 2
    assert_same(before, weights_of(model))


def test_an_unknown_attack_mode_is_refused():
    with pytest.raises(
        ConfigError, match=r"^engine: attack_mode: expected one of train, train_notrack, eval, got 'test'"
    ):
        engine_of(MLP(), clean_attack(), attack_mode="test")


# Ensembles and tracks


def test_a_plugin_that_writes_back_is_called_first():
    calls = []

    def ensemble(label: str, **members: Any) -> Any:
        return plugin(label, ensemble_weights=lambda self, event: calls.append((event, label)), **members)

    engine = engine_of(
        MLP(),
        clean_attack(),
        ensemble("reads"),
        ensemble("writes", writes_back=True),
        ensemble("reads too", writes_back=False),
        ensemble("writes too", writes_back=True),
    )
    step(engine)
    engine.end_epoch()
    engine.tracks()
    names = ["writes", "writes too", "reads", "reads too"]
    assert calls == [(event, name) for event in ("step", "epoch", "evaluate") for name in names]


def tracking(label: str, track: Any) -> Any:
    return plugin(label, ensemble_weights=lambda self, model, event: track(model) if event == "evaluate" else None)


def test_track_names_are_unique():
    engine = engine_of(
        MLP(),
        clean_attack(),
        tracking("one", lambda model: Track("wa", None)),
        tracking("two", lambda model: Track("wa", None)),
    )
    with pytest.raises(PluginError, match=r"(?s)plugin 'two'.*the track name 'wa' is taken"):
        engine.tracks()


def test_a_track_may_not_be_called_live():
    engine = engine_of(MLP(), clean_attack(), tracking("one", lambda model: Track("live", None)))
    with pytest.raises(PluginError, match="the track name 'live' is taken"):
        engine.tracks()


@pytest.mark.parametrize("name", ["", "../../x", "a/b", ".hidden", "a b", None])
def test_a_track_is_named_as_a_file_can_be(name: Any):
    engine = engine_of(MLP(), clean_attack(), tracking("one", lambda model: Track(name, None)))
    with pytest.raises(PluginError, match=rf"plugin 'one' .*track name {name!r}: expected letters, digits"):
        engine.tracks()


@pytest.mark.parametrize(
    ("weights", "wrong"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "second.bias"}, "second.bias"),
        (lambda w: {**w, "ghost": torch.zeros(1)}, "ghost"),
        (lambda w: {**w, "first.bias": torch.zeros(6)}, "first.bias"),
    ],
)
def test_a_track_holds_every_parameter_in_its_shape(weights: Any, wrong: str):
    engine = engine_of(MLP(), clean_attack(), tracking("t", lambda model: Track("t", weights(weights_of(model)))))
    with pytest.raises(HookError, match=rf"track 't': expected a tensor for every parameter.*wrong: {wrong}"):
        engine.tracks()


@pytest.mark.parametrize("buffers", ["live", "given", "reestimate"])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("bn_inputs", ["clean", "adv"])
def test_a_track_swaps_in_its_weights_and_gives_everything_back_bit_for_bit(buffers: Any, fails: bool, bn_inputs: Any):
    model = ConvNet()
    engine = engine_of(model, {"pgd": {"steps": 2}})
    step(engine)
    before = snapshot(model)
    weights = {name: torch.full_like(weight, 0.1) for name, weight in model.named_parameters()}
    track = Track("t", weights, buffers, {"bn.running_mean": torch.full((4,), 5.0)}, bn_inputs)

    def look() -> None:
        with engine.track(track, lambda: [batch_of(seed=1)]) as inside:
            assert inside is model
            assert_same(weights, weights_of(model))
            moved = not torch.equal(model.bn.running_mean, before["bn.running_mean"])
            assert moved == (buffers != "live")
            if buffers == "given":
                assert torch.equal(model.bn.running_mean, torch.full((4,), 5.0))
                assert torch.equal(model.bn.running_var, before["bn.running_var"])
            if fails:
                raise ValueError("evaluation failed")

    if fails:
        with pytest.raises(ValueError, match="evaluation failed"):
            look()
    else:
        look()
    assert_same(before, snapshot(model))
    assert all(module.training for module in model.modules())


def test_a_track_is_reestimated_on_clean_inputs_unless_it_asks_for_adversarial_ones():
    model = ConvNet().double()
    engine = engine_of(model, "fgsm")
    step(engine)
    batch = batch_of(seed=1, dtype=torch.float64)
    model.eval()
    x_adv = (batch.x + 0.1 * gradient(model, batch.x, batch.y).sign()).clamp(0, 1)
    model.train()
    weights = {name: 2 * weight.detach() for name, weight in model.named_parameters()}
    for bn_inputs, inputs in (("clean", batch.x), ("adv", x_adv)):
        activations = F.conv2d(inputs, weights["conv.weight"], padding=1)
        with engine.track(Track("t", weights, "reestimate", bn_inputs=bn_inputs), lambda: [batch]):
            torch.testing.assert_close(model.bn.running_mean, activations.mean((0, 2, 3)), rtol=0, atol=1e-14)


@pytest.mark.parametrize("own", [True, False])
def test_a_track_is_reestimated_on_batches_as_training_transforms_them(own: bool):
    model = ConvNet().double()
    batches = [batch_of(seed=seed, dtype=torch.float64) for seed in (1, 2)]
    drawn: list[Tensor] = []

    def brighter(self: Any, batch: Batch, ctx: Context) -> Batch:
        noise = torch.rand(batch.x.shape, generator=ctx.generator("noise"), dtype=torch.float64)
        drawn.append(noise)
        return replace(batch, x=batch.x * noise)

    stack = [clean_attack(), plugin("brighter", transform_batch=brighter)]
    engine = engine_of(model, *stack, batches=(lambda: batches) if own else None)
    before = [step(engine, seed).adv.x for seed in (3, 4)][-1]
    weights = {name: 2 * weight.detach() for name, weight in model.named_parameters()}
    drawn.clear()
    with engine.track(Track("t", weights), None if own else lambda: batches):
        assert len({float(noise.flatten()[0]) for noise in drawn}) == len(drawn) == 2  # two batches, two draws
        x = torch.cat([batch.x * noise for batch, noise in zip(batches, drawn, strict=True)])
        activations = F.conv2d(x, weights["conv.weight"], padding=1)
        torch.testing.assert_close(model.bn.running_mean, activations.mean((0, 2, 3)), rtol=0, atol=1e-14)
    engine.epoch, engine.global_step = 0, 0
    step(engine, 3)
    assert torch.equal(step(engine, 4).adv.x, before)  # training's own draws are where they were


def test_a_track_without_weights_is_the_live_model():
    model = ConvNet()
    engine = engine_of(model, clean_attack())
    step(engine)
    before = snapshot(model)

    def never() -> Any:
        raise AssertionError("batch norm of the live model is not re-estimated")

    with engine.track(Track("t", None), never):
        assert_same(before, snapshot(model))


# Randomness


def pgd(engine: Engine, seeds: range) -> list[Tensor]:
    return [step(engine, seed).adv.x for seed in seeds]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def drawing(label: str = "drawing") -> Any:
    def transform_batch(self: Any, batch: Batch, ctx: Any) -> Batch:
        torch.rand(11, generator=ctx.generator("start"))
        return batch

    return plugin(label, transform_batch=transform_batch)


def test_equal_seeds_give_equal_runs_and_other_seeds_others():
    first, second, third = (pgd(engine_of(MLP(), SHORT_PGD, seed=seed), range(3)) for seed in (1, 1, 2))
    assert same(first, second)
    assert not any(torch.equal(a, b) for a, b in zip(first, third, strict=True))


def test_every_step_and_epoch_draws_anew():
    noise = []

    def transform_batch(self: Any, batch: Batch, ctx: Any) -> Batch:
        noise.append(tuple(torch.rand(2, generator=ctx.generator("a")).tolist()))
        noise.append(tuple(torch.rand(2, generator=ctx.generator("b")).tolist()))
        return batch

    engine = engine_of(MLP(), clean_attack(transform_batch=transform_batch))
    for _ in range(2):
        for _ in range(2):
            step(engine)
        engine.end_epoch()
    assert len(set(noise)) == len(noise) == 8


def test_adding_a_plugin_does_not_move_the_random_stream_of_another():
    alone = pgd(engine_of(MLP(), SHORT_PGD), range(3))
    accompanied = pgd(engine_of(MLP(), drawing(), SHORT_PGD, drawing("too")), range(3))
    assert same(alone, accompanied)


def test_streams_differ_by_plugin_and_by_purpose():
    state = RunState(LINF, torch.device("cpu"))
    draws = {
        (label, purpose): torch.rand(4, generator=Context(state, label).generator(purpose))
        for label in ("one", "two", "one#2")
        for purpose in ("start", "noise")
    }
    assert len({tuple(draw.tolist()) for draw in draws.values()}) == 6


def test_the_generator_continues_within_a_step():
    ctx = context(seed=3)
    first, second = (torch.rand(4, generator=ctx.generator("noise")) for _ in range(2))
    together = torch.rand(8, generator=context(seed=3).generator("noise"))
    assert torch.equal(torch.cat([first, second]), together)


def test_nothing_touches_the_global_generator():
    before = torch.random.get_rng_state()
    engine = engine_of(
        ConvNet(), SHORT_PGD, {"ema": {"tau": 0.5}}, {"meat": {"start": 0, "history": "memory"}}, epochs=1
    )
    before = torch.random.get_rng_state()
    step(engine)
    engine.end_epoch()
    for track in engine.tracks():
        with engine.track(track, lambda: [batch_of()]):
            pass
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("bn_data", "attack_mode"),
    [
        ("clean", "eval"),
        ("clean", "train"),
        ("adv", "eval"),
        ("adv", "train_notrack"),
        ("adv", "train"),
    ],
)
def test_evaluation_does_not_move_the_training(bn_data: str, attack_mode: Any):
    def train(evaluating: bool) -> dict[str, Tensor]:
        model = ConvNet()
        meat = {"meat": {"start": 0, "history": "memory", "bn_data": bn_data}}
        engine = engine_of(model, {"pgd": {"steps": 2}}, meat, epochs=3, attack_mode=attack_mode)
        split = Split(batch_of(seed=9).x, batch_of(seed=9).y)
        for epoch in range(3):
            for seed in range(2):
                step(engine, 10 * epoch + seed)
                if evaluating:
                    evaluate(model, split, {"pgd": {"steps": 2}}, LINF)
            engine.end_epoch()
            if evaluating:
                for track in engine.tracks():
                    with engine.track(track, lambda: [batch_of(seed=8)]):
                        evaluate(model, split, {"pgd": {"steps": 2}}, LINF)
        return snapshot(model)

    assert_same(train(False), train(True))


def test_an_injected_draw_replays_the_adversarial_examples():
    own = step(engine_of(MLP(), SHORT_PGD, seed=1)).adv.x
    x = batch_of().x
    start = LINF.random_start(x, context("pgd", seed=1).generator("start")) - x
    assert torch.equal(step(engine_of(MLP(), SHORT_PGD, seed=2), draws={"pgd.start": start}).adv.x, own)
    assert not torch.equal(step(engine_of(MLP(), SHORT_PGD, seed=2)).adv.x, own)


def test_a_draw_that_nobody_asks_for_is_an_error():
    with pytest.raises(DataError, match=r"draws \['pdg\.start'\] were not asked for.*asked for: \['pgd\.start'\]"):
        step(engine_of(MLP(), SHORT_PGD), draws={"pdg.start": torch.zeros(1)})


def test_injected_draws_serve_one_step_only():
    first, second = engine_of(MLP(), SHORT_PGD), engine_of(MLP(), SHORT_PGD)
    step(first, draws={"pgd.start": torch.zeros(6, 1, 4, 4)})
    step(second, draws={"pgd.start": torch.zeros(6, 1, 4, 4)})
    with_own = step(first, 1).adv.x
    zero_again = step(second, 1, draws={"pgd.start": torch.zeros(6, 1, 4, 4)}).adv.x
    assert not torch.equal(with_own, zero_again)


# State


def stateful_engine(model: nn.Module) -> Engine:
    return engine_of(
        model,
        "pgd",
        {"ema": {"tau": 0.5, "warmup": True}},
        {"swa": {"start": 0}},
        {"meat": {"start": 0, "history": "memory"}},
        epochs=4,
    )


def test_a_run_continued_from_its_state_is_the_same_run():
    whole, half, rest = ConvNet(), ConvNet(), ConvNet(seed=5)
    one, two = stateful_engine(whole), stateful_engine(half)
    for engine in (one, two):
        for seed in range(3):
            step(engine, seed)
        engine.end_epoch()
        step(engine, 3)
    three = stateful_engine(rest)
    rest.load_state_dict(half.state_dict())
    three.load_state_dict(two.state_dict())
    three.optimizer.load_state_dict(two.optimizer.state_dict())
    assert (three.epoch, three.epoch_step, three.global_step) == (1, 1, 4)
    for engine in (one, three):
        step(engine, 4)
        engine.end_epoch()
    assert_same(snapshot(whole), snapshot(rest))
    for a, b in zip(one.tracks(), three.tracks(), strict=True):
        assert a.name == b.name
        assert_same(dict(sorted(a.weights.items())), dict(sorted(b.weights.items())))


def test_going_back_in_time_draws_again_what_was_drawn():
    engine, seen = engine_of(MLP(), SHORT_PGD, lr=0.0), list[Tensor]()
    state = engine.state_dict()
    seen.append(step(engine).adv.x)
    engine.load_state_dict(state)
    seen.append(step(engine).adv.x)
    engine.epoch = 0
    seen.append(step(engine).adv.x)
    assert all(torch.equal(x, seen[0]) for x in seen)


def test_a_step_that_failed_draws_the_same_when_it_is_tried_again():
    fails = [False, True]

    def once(self: Any, model: nn.Module) -> None:
        if fails.pop():
            raise RuntimeError("not now")

    engine = engine_of(MLP(), SHORT_PGD, plugin("once", adjust_grads=once))
    with pytest.raises(HookError, match="not now"):
        step(engine)
    assert torch.equal(step(engine).adv.x, step(engine_of(MLP(), SHORT_PGD)).adv.x)


def test_a_start_run_that_raised_is_called_again():
    calls: list[str] = []

    def start_run(self: Any) -> None:
        calls.append("start")
        if len(calls) == 1:
            raise RuntimeError("no teacher")

    engine = engine_of(MLP(), clean_attack(), plugin("teacher", start_run=start_run))
    with pytest.raises(HookError, match="no teacher"):
        step(engine)
    step(engine)
    step(engine)
    assert len(calls) == 2


def test_the_loss_that_the_core_takes_is_said(caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", logger="buttress"):
        engine_of(MLP(), clean_attack(), "trades")
        assert not caplog.records
        engine_of(MLP(), clean_attack())
    assert "the loss is cross_entropy" in caplog.text


def test_an_engine_that_is_dropped_frees_its_model():
    model = ConvNet()
    engine = engine_of(model, "pgd", "ema", batches=lambda: [batch_of()])
    step(engine)
    there = weakref.ref(model)
    del engine, model
    assert there() is None


def test_training_on_does_not_change_a_state_that_was_loaded():
    one = stateful_engine(ConvNet())
    step(one)
    state = one.state_dict()
    kept = {name: value.clone() for name, value in state["plugins"]["ema"]["average"].items()}
    other = stateful_engine(ConvNet(seed=5))
    other.load_state_dict(state)
    step(other, 1)
    assert_same(kept, state["plugins"]["ema"]["average"])


def test_the_state_of_another_stack_is_refused():
    state = engine_of(MLP(), "pgd", "ema").state_dict()
    with pytest.raises(CheckpointError, match=r"plugins \['ema'\], this run has \['swa'\]; resume with the config"):
        engine_of(MLP(), "pgd", "swa", epochs=2).load_state_dict(state)


def test_records_are_means_and_survive_in_the_state():
    values = iter([1.0, torch.tensor(4.0), 7.0])
    recording = clean_attack(adjust_grads=lambda self, ctx: ctx.record("v", next(values)))
    one, two = engine_of(MLP(), recording), engine_of(MLP(), recording)
    step(one)
    step(one)
    two.load_state_dict(one.state_dict())
    step(two)
    assert one.records() == {"attack.v": 2.5}
    assert one.records() == {}
    assert two.records() == {"attack.v": 4.0}


@pytest.mark.parametrize("value", [torch.ones(3), torch.tensor(1j), "1", None, [1.0]], ids=str)
def test_a_record_that_is_no_number_is_refused_in_the_name_of_its_plugin(value: object):
    recording = clean_attack(adjust_grads=lambda self, ctx: ctx.record("v", value))
    with pytest.raises(HookError, match=r"(?s)attack.*ctx\.record\('v'\): expected a number"):
        step(engine_of(MLP(), recording))


# What is refused


def test_a_model_in_eval_mode_is_refused():
    model = MLP().eval()
    with pytest.raises(ModelError, match=r"the model is in eval mode; call model\.train\(\)"):
        step(engine_of(model, clean_attack()))


def test_a_model_without_parameters_is_refused():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(ModelError, match="expected a model with parameters on one device, got none"):
        Engine(nn.Identity(), optimizer, [clean_attack()], LINF)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (
            lambda b: b.x.long(),
            lambda b: b.y,
            r"expected dense floating-point x \[B,\*\] with .* on cpu, got .*torch.int64",
        ),
        (lambda b: b.x.flatten(), lambda b: b.y, r"expected dense floating-point x \[B,\*\]"),
        (lambda b: b.x, lambda b: b.y.int(), r"expected int64 labels \[6\] or soft labels \[6,K\].*torch.int32"),
        (lambda b: b.x, lambda b: b.y[:5], r"expected int64 labels \[6\].*\(5,\)"),
        (lambda b: b.x, lambda b: F.one_hot(b.y, 3), r"expected int64 labels"),
        (lambda b: b.x * 255, lambda b: b.y, "expected inputs inside the threat model's box, got values in"),
        (lambda b: b.x * torch.nan, lambda b: b.y, "expected finite inputs, got NaN or infinity"),
    ],
)
def test_a_batch_of_a_wrong_kind_is_refused(x: Any, y: Any, message: str):
    batch = batch_of()
    with pytest.raises(DataError, match=message):
        engine_of(MLP(), clean_attack()).step(x(batch), y(batch))


def test_a_fraction_of_unknown_epochs_is_refused_with_the_cure():
    with pytest.raises(ConfigError, match=r"0\.5 is a fraction of the epochs, .*pass Engine\(epochs=\.\.\.\)"):
        step(engine_of(MLP(), "pgd", "meat"))


# Checks of values


def leaving_the_ball(at: set[int]) -> Any:
    def generate_adv(self: Any, batch: Batch, ctx: Any) -> Adv:
        return Adv((batch.x + 0.2).clamp(0, 1) if ctx.global_step in at else batch.x)

    return plugin("far", generate_adv=generate_adv)


def test_checks_always_is_the_default_on_the_cpu_and_stops_at_the_step():
    model = MLP()
    engine = engine_of(model, leaving_the_ball({1}))
    step(engine)
    before = weights_of(model)
    with pytest.raises(
        HookError,
        match=r"plugin 'far' .*hook generate_adv, epoch 1, step 2:\n  expected adversarial examples within linf "
        r"distance 1/10 of x, got 0\.2",
    ):
        step(engine)
    assert_same(before, weights_of(model))


def test_checks_at_intervals_report_the_first_bad_step_when_read():
    engine = engine_of(MLP(), leaving_the_ball({2, 3}), checks="interval")
    for seed in range(5):
        step(engine, seed)
    with pytest.raises(HookError, match=r"plugin 'far' .*hook generate_adv, first at epoch 1, step 3:"):
        engine.read_checks()
    engine.read_checks()


def test_checks_at_intervals_are_read_at_the_end_of_the_epoch():
    engine = engine_of(MLP(), leaving_the_ball({0}), checks="interval")
    step(engine)
    with pytest.raises(HookError, match="first at epoch 1, step 1"):
        engine.end_epoch()


def test_checks_off_looks_at_shapes_only():
    engine = engine_of(MLP(), leaving_the_ball({0}), checks="off")
    step(engine)
    engine.end_epoch()
    short = plugin("short", generate_adv=lambda self, batch: Adv(batch.x[1:]))
    with pytest.raises(HookError, match="expected adversarial examples like the batch's x"):
        step(engine_of(MLP(), short, checks="off"))


def test_float64_and_an_unbounded_box_train():
    engine = engine_of(MLP().double(), "pgd", threat=ThreatModel("l2", "1/2", box=None))
    batch = batch_of(dtype=torch.float64)
    result = engine.step(10 * batch.x - 5, batch.y)
    assert result.losses.dtype == result.adv.x.dtype == torch.float64
    assert float((result.adv.x - (10 * batch.x - 5)).flatten(1).norm(dim=1).max()) <= 0.5 + 1e-12


def test_adding_is_a_perturbation_that_only_adds():
    weight = torch.zeros(2)
    with adding([weight], [torch.ones(2)]):
        assert torch.equal(weight, torch.ones(2))
    assert torch.equal(weight, torch.ones(2))


# Devices


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_a_loaded_average_follows_the_model_to_its_device(name: str):
    entry = {name: {"start": 0}}
    here, there = nn.Linear(2, 2), nn.Linear(2, 2, device="meta")  # meta: any device but that of the checkpoint
    (kept,), (resumed,) = load_plugins([entry]), load_plugins([entry])
    contexts = {"cpu": context(name), "meta": Context(RunState(LINF, torch.device("meta")), name)}
    for loaded, model in ((kept, here), (resumed, there)):
        if hasattr(loaded.plugin, "start_run"):
            loaded.plugin.start_run(model, contexts[model.weight.device.type])
    for event in ("step", "epoch"):
        kept.plugin.ensemble_weights(here, event, contexts["cpu"])
    resumed.plugin.load_state_dict(kept.plugin.state_dict())
    for event in ("step", "epoch"):
        resumed.plugin.ensemble_weights(there, event, contexts["meta"])
    track = resumed.plugin.ensemble_weights(there, "evaluate", contexts["meta"])
    assert {weight.device.type for weight in track.weights.values()} == {"meta"}


@pytest.mark.gpu
def test_training_on_cuda_equals_training_on_the_cpu():
    trained = []
    for device in ("cpu", "cuda"):
        model = ConvNet().double().to(device)
        engine = engine_of(model, SHORT_PGD, {"ema": {"tau": 0.5}}, weight_decay=0.01)
        for seed in range(3):
            batch, start = (
                batch_of(seed=seed, dtype=torch.float64),
                batch_of(seed=50 + seed, dtype=torch.float64).x / 50,
            )
            engine.step(batch.x.to(device), batch.y.to(device), draws={"pgd.start": start.to(device)})
        engine.end_epoch()
        (track,) = engine.tracks()
        trained.append([value.cpu() for value in (*snapshot(model).values(), *track.weights.values())])
    for on_cpu, on_cuda in zip(*trained, strict=True):
        torch.testing.assert_close(on_cuda, on_cpu, rtol=0, atol=1e-10)


@pytest.mark.gpu
def test_checks_on_cuda_are_read_at_intervals_by_default():
    engine = engine_of(MLP().cuda(), leaving_the_ball({1}))
    for seed in range(3):
        batch = batch_of(seed=seed)
        engine.step(batch.x.cuda(), batch.y.cuda())
    with pytest.raises(HookError, match="first at epoch 1, step 2"):
        engine.read_checks()


def test_a_draw_that_nobody_asks_for_leaves_weights_as_found():
    model = MLP()
    before = weights_of(model)
    with pytest.raises(DataError):
        step(engine_of(model, clean_attack()), draws={"pgd.start": torch.zeros(1)})
    assert_same(before, weights_of(model))


def test_an_empty_batch_is_refused():
    with pytest.raises(DataError, match="at least one example"):
        engine_of(MLP(), clean_attack()).step(torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64))


def test_an_index_of_another_length_is_refused():
    batch = batch_of()
    with pytest.raises(DataError, match="index"):
        engine_of(MLP(), clean_attack()).step(batch.x, batch.y, index=torch.arange(2))
