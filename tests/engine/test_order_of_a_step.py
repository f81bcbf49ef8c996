"""The order of a step: which hooks fire when, in which phase, with which counters."""

import functools
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from buttress import Adv, Batch, Engine, Loss

from ..core.helpers import LINF, batch_of, clean_attack, engine_of, plugin, step
from ..models import MLP


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
