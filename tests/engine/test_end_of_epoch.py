"""What a plugin may measure at the end of an epoch: the attack of training on any batch, and the validation split."""

from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Adv, Batch, Engine
from buttress.errors import ButtressError, ConfigError, HookError
from buttress.nn import evaluating

from ..core.helpers import (
    SHORT_PGD,
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


def asking(action: Callable[[Any, nn.Module], Any], hook: str = "ensemble_weights", label: str = "asking") -> Any:
    """A plugin that does ``action(ctx, model)`` at the end of an epoch."""
    models: list[nn.Module] = []

    def ensemble_weights(self: Any, model: nn.Module, event: str, ctx: Any) -> None:
        models[:] = [model]
        if event == "epoch" and hook == "ensemble_weights":
            action(ctx, model)

    def end_epoch(self: Any, ctx: Any) -> None:
        if hook == "end_epoch":
            action(ctx, models[0])

    return plugin(label, ensemble_weights=ensemble_weights, end_epoch=end_epoch)


def attacked(
    *plugins: Any, hook: str = "ensemble_weights", batches: int = 1, **options: Any
) -> tuple[list[Tensor], Engine]:
    """The adversarial examples for ``batches`` equal batches after an epoch of two steps."""
    seen: list[Tensor] = []
    asker = asking(lambda ctx, model: seen.extend(ctx.attack(batch_of(seed=9)).x for _ in range(batches)), hook)
    engine = engine_of(ConvNet(), *plugins, asker, **options)
    for seed in range(2):
        step(engine, seed)
    engine.end_epoch()
    return seen, engine


@pytest.mark.parametrize("hook", ["ensemble_weights", "end_epoch"])
@pytest.mark.parametrize("mode", ["eval", "train", "train_notrack"])
def test_the_attack_of_training_runs_in_eval_mode_at_the_current_weights(hook: str, mode: Any):
    batch = batch_of(seed=9, dtype=torch.float64)
    seen: list[Tensor] = []
    engine = engine_of(
        ConvNet().double(), "fgsm", asking(lambda ctx, model: seen.append(ctx.attack(batch).x), hook), attack_mode=mode
    )
    step(engine)
    before = snapshot(engine.model)
    engine.end_epoch()
    assert_same(before, snapshot(engine.model))
    with evaluating(engine.model):
        expected = (batch.x + 0.1 * gradient(engine.model, batch.x, batch.y).sign()).clamp(0, 1)
    assert torch.equal(seen[0], expected)


def test_nothing_of_the_run_moves():
    def ask(ctx: Any, model: nn.Module) -> None:
        before, flags = snapshot(model), [(w.requires_grad, id(w.grad)) for w in model.parameters()]
        modes = [module.training for module in model.modules()]
        for _ in range(2):
            ctx.attack(batch_of(seed=9))
        assert_same(before, snapshot(model))
        assert flags == [(w.requires_grad, id(w.grad)) for w in model.parameters()]
        assert modes == [module.training for module in model.modules()]
        assert ctx.phase == "ensemble"

    def generate_adv(self: Any, batch: Batch, ctx: Any) -> Adv:
        ctx.record("called", 1.0)
        return Adv(batch.x + 0 * torch.rand(1, generator=ctx.generator("noise")))

    recording = plugin("attack", generate_adv=generate_adv)
    runs = []
    for action in (ask, lambda ctx, model: None):
        engine = engine_of(ConvNet(), recording, asking(action), "awp", {"augment": {"pad": 1}})
        adv = []
        for seed in range(2):
            step(engine, seed)
            engine.end_epoch()
            adv.append(step(engine, seed).adv.x)
        runs.append((snapshot(engine.model), adv, engine.records()))
    assert_same(runs[0][0], runs[1][0])
    assert all(map(torch.equal, runs[0][1], runs[1][1]))
    assert runs[0][2] == runs[1][2] == {**runs[1][2], "attack.called": 1.0}


def test_the_records_of_the_attack_are_no_metrics_of_the_run():
    def generate_adv(self: Any, batch: Batch, ctx: Any) -> Adv:
        ctx.record("size", float(len(batch.x)))
        return Adv(batch.x)

    engine = engine_of(
        MLP(), plugin("attack", generate_adv=generate_adv), asking(lambda ctx, model: ctx.attack(batch_of(n=2)))
    )
    step(engine)
    engine.end_epoch()
    assert engine.records()["attack.size"] == 6


def test_draws_are_the_asking_plugin_s_own_continue_and_begin_anew_in_each_epoch():
    (first, second), _ = attacked(SHORT_PGD, batches=2)
    assert not torch.equal(first, second)
    again, _ = attacked(SHORT_PGD, batches=2)
    assert torch.equal(again[0], first)
    assert torch.equal(again[1], second)
    seen: dict[str, Tensor] = {}
    pair = [
        asking(lambda ctx, model, label=label: seen.update({label: ctx.attack(batch_of(seed=9)).x}), label=label)
        for label in ("one", "other")
    ]
    lone = engine_of(ConvNet(), SHORT_PGD, *pair)
    lone.end_epoch()
    at_first = dict(seen)
    lone.end_epoch()
    assert not torch.equal(at_first["one"], at_first["other"])
    assert not torch.equal(at_first["one"], seen["one"])


def test_a_resumed_run_makes_the_same_examples():
    seen: list[Tensor] = []
    asker = asking(lambda ctx, model: seen.append(ctx.attack(batch_of(seed=9)).x))
    engine = engine_of(ConvNet(), SHORT_PGD, asker)
    step(engine)
    saved, weights, optimizer = engine.state_dict(), snapshot(engine.model), deepcopy(engine.optimizer.state_dict())
    resumed = engine_of(ConvNet(seed=1), SHORT_PGD, asker)
    resumed.model.load_state_dict(weights)
    resumed.optimizer.load_state_dict(optimizer)
    resumed.load_state_dict(saved)
    for each in (engine, resumed):
        step(each, 1)
        each.end_epoch()
    assert torch.equal(seen[0], seen[1])


def test_injected_draws_serve_no_such_attack():
    noise = torch.zeros(6, 1, 4, 4)
    seen: list[Any] = []

    def generate_adv(self: Any, batch: Batch, ctx: Any) -> Adv:
        seen.append(ctx.draw("start", batch.x.shape))
        return Adv(batch.x)

    engine = engine_of(
        MLP(), plugin("attack", generate_adv=generate_adv), asking(lambda ctx, model: ctx.attack(batch_of()))
    )
    step(engine, draws={"attack.start": noise})
    engine.end_epoch()
    assert seen[0] is noise
    assert seen[1:] == [None]


def elsewhere(where: str) -> Any:
    """A plugin that attacks where it cannot."""

    def ask(self: Any, ctx: Any) -> None:
        ctx.attack(batch_of())

    @contextmanager
    def manager(ctx: Any) -> Any:
        ctx.attack(batch_of())
        yield

    def wrapper(self: Any, ctx: Any) -> Any:
        ctx.attack(batch_of())
        return (yield)

    if where in ("step", "evaluate"):
        return plugin(
            "asking", ensemble_weights=lambda self, event, ctx: ctx.attack(batch_of()) if event == where else None
        )
    if where == "manager":
        return plugin("asking", perturb_weights=lambda self, ctx: manager(ctx))
    if where in ("compute_loss", "generate_adv"):
        return plugin("asking", wrapper=True, **{where: wrapper})
    return plugin("asking", **{where: ask})


def run(engine: Engine) -> None:
    step(engine)
    engine.log({})
    engine.tracks()
    engine.close()


PLACES = ["start_run", "transform_batch", "generate_adv", "perturb_weights", "manager", "compute_loss", "adjust_grads"]


@pytest.mark.parametrize("where", [*PLACES, "step", "evaluate", "end_run", "log"])
def test_anywhere_else_the_attack_is_refused(where: str):
    engine = engine_of(MLP(), clean_attack(), elsewhere(where))
    with pytest.raises(
        HookError, match=r"'asking'(.|\n)*ctx\.attack\(batch\) is available in ensemble_weights at event"
    ):
        run(engine)


def test_an_attack_that_attacks_is_refused():
    def generate_adv(self: Any, batch: Batch, ctx: Any) -> Adv:
        return ctx.attack(batch) if ctx.step else Adv(batch.x)

    engine = engine_of(
        MLP(), plugin("attack", generate_adv=generate_adv), asking(lambda ctx, model: ctx.attack(batch_of()))
    )
    step(engine)
    with pytest.raises(HookError, match=r"'attack'(.|\n)*ctx\.attack\(batch\) is available in"):
        engine.end_epoch()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(2), r"ctx\.attack: expected a Batch, got a tensor"),
        (Batch(batch_of().x + 1, batch_of().y), r"ctx\.attack: expected inputs inside the threat model's box"),
        (Batch(batch_of().x, batch_of().y + 9), r"ctx\.attack: expected labels"),
    ],
)
def test_a_wrong_batch_is_refused_in_the_name_of_who_asks(batch: Any, message: str):
    engine = engine_of(MLP(), clean_attack(), asking(lambda ctx, model: ctx.attack(batch)))
    step(engine)
    with pytest.raises(ButtressError, match=rf"plugin 'asking'(.|\n)*{message}"):
        engine.end_epoch()


def test_an_attack_that_fails_is_blamed_itself():
    def generate_adv(self: Any, batch: Batch, ctx: Any) -> Adv:
        if ctx.step:
            raise ValueError("no")
        return Adv(batch.x)

    engine = engine_of(
        MLP(), plugin("attack", generate_adv=generate_adv), asking(lambda ctx, model: ctx.attack(batch_of()))
    )
    step(engine)
    with pytest.raises(HookError, match=r"plugin 'attack'.*plugin asking, after step 1 of epoch 1:\n  ValueError: no"):
        engine.end_epoch()


# The validation split


def test_the_validation_split_comes_in_its_order_as_it_is_and_without_positions():
    batches, seen = [batch_of(seed=seed) for seed in range(3)], []

    def ask(ctx: Any, model: nn.Module) -> None:
        seen.extend(ctx.batches("validation"))
        seen.extend(ctx.batches("validation"))

    doubling = plugin("flip", transform_batch=lambda self, batch: Batch(1 - batch.x, batch.y, batch.index))
    engine = engine_of(MLP(), clean_attack(), doubling, asking(ask), validation=lambda: iter(batches))
    step(engine)
    engine.end_epoch()
    assert len(seen) == 6
    for batch, given in zip(seen, [*batches, *batches], strict=True):
        assert batch.x is given.x
        assert batch.y is given.y
        assert batch.index is None


def test_the_training_set_is_still_the_default():
    seen: list[Batch] = []
    asker = asking(lambda ctx, model: seen.extend([*ctx.batches(), *ctx.batches("train")]))
    engine = engine_of(
        MLP(), clean_attack(), asker, batches=lambda: [batch_of()], validation=lambda: [batch_of(seed=1)]
    )
    engine.end_epoch()
    assert all(torch.equal(batch.x, batch_of().x) for batch in seen)


def test_a_missing_validation_split_is_refused_in_the_name_of_who_asks():
    engine = engine_of(MLP(), clean_attack(), asking(lambda ctx, model: list(ctx.batches("validation"))))
    with pytest.raises(
        ConfigError, match=r"plugin 'asking'.*the run has no validation split: set data\.validation, or"
    ):
        engine.end_epoch()


def test_a_split_of_another_name_is_refused():
    engine = engine_of(MLP(), clean_attack(), asking(lambda ctx, model: list(ctx.batches("test"))))
    with pytest.raises(HookError, match=r"'asking'(.|\n)*expected 'train' or 'validation', got 'test'"):
        engine.end_epoch()


@pytest.mark.parametrize("option", ["batches", "validation"])
def test_batches_that_are_no_function_are_refused_when_the_engine_is_made(option: str):
    with pytest.raises(ConfigError, match=rf"engine: {option}: expected a function that makes an iterable of batches"):
        engine_of(MLP(), clean_attack(), **{option: [batch_of()]})


# Eval mode


def test_a_model_is_in_eval_mode_for_a_block_and_each_module_in_its_own_afterwards():
    model = ConvNet().train()
    model.bn.eval()
    before = [module.training for module in model.modules()]
    seen: list[bool] = []
    with pytest.raises(IndexError), evaluating(model):
        seen.extend([module.training for module in model.modules()] + [seen[0]])
    with evaluating(model):
        seen.extend(module.training for module in model.modules())
    assert not any(seen)
    assert [module.training for module in model.modules()] == before


def test_a_perturbed_and_wrapped_stack_measures_like_a_plain_one():
    plain, _ = attacked("fgsm", lr=0.0)
    stacked, _ = attacked("fgsm", perturbation(size=0.01), lr=0.0)
    assert torch.equal(plain[0], stacked[0])
