"""Weights are copied only where somebody may write into them before an error; the promise to restore them holds."""

import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Batch, Context
from buttress.components.loaded import as_loaded
from buttress.components.sources import find, load
from buttress.engine.perturbation import Copies
from buttress.engine.writers import BEFORE_UPDATE, is_own
from buttress.errors import HookError
from buttress.functional import InputLoss
from buttress.hookspecs import HOOKS
from buttress.scoring.evaluator import Evaluator
from buttress.testing import subject as bench
from buttress.testing.subject import Subject
from buttress.training.loggers import Loggers, load_loggers
from buttress_plugins.attacks.pgd import PGD

from ..core.helpers import (
    LINF,
    assert_same,
    batch_of,
    clean_attack,
    engine_of,
    perturbation,
    plugin,
    step,
    weights_of,
)
from ..models import MLP, ConvNet
from ..plugins.catalogue import CATALOGUE


class OwnPGD(PGD):
    pass


class OwnLoss:
    def input_loss(self, model: nn.Module, batch: Batch, ctx: Context) -> InputLoss:
        return lambda x: model(x).logsumexp(1)


class OwnSGD(torch.optim.SGD):
    pass


class Clamped(MLP):
    """A network that keeps its weights small by itself."""

    def forward(self, x: Tensor) -> Tensor:
        self.first.weight.data.clamp_(-1e-3, 1e-3)
        return super().forward(x)


def attack_with(**members: Any) -> PGD:
    attack = PGD(steps=1)
    vars(attack).update(members)
    return attack


def hooked(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda *_: None)
    return optimizer


def scheduled(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.step = optimizer.step
    return optimizer


STACKS: dict[str, tuple[list[Any], bool]] = {
    "built in": (["fgsm", "trades", "clip_grad"], False),
    "an ensemble from elsewhere": (["fgsm", plugin("own", ensemble_weights=lambda self: None)], False),
    "an attack from elsewhere": ([clean_attack()], True),
    "a hook from elsewhere": (["fgsm", plugin("own", adjust_grads=lambda self: None)], True),
    "a wrapper from elsewhere": (["fgsm", plugin("own", wrapper=True, compute_loss=lambda self: (yield))], True),
    "a class of one's own": ([OwnPGD(steps=1)], True),
    "a loss of one's own": ([attack_with(_loss=replace(PGD()._loss, component=OwnLoss()))], True),
    "a function of one's own": ([attack_with(extra={"loss": [partial(lambda losses: losses)]})], True),
    "a perturbation": (["fgsm", "awp"], True),
    "a perturbation from elsewhere": (["fgsm", perturbation()], True),
}


def quiet(hook: str) -> Any:
    """A plugin from elsewhere that does nothing."""
    return plugin("own", **{hook: lambda self: None})


def holds(copies: Copies) -> bool:
    """Whether there is memory for copies of weights."""
    return bool(copies.before._held)


def copied(engine: Any) -> bool:
    """Whether the last step has copied the weights."""
    return holds(engine._step.copies)


@pytest.mark.parametrize("name", STACKS)
def test_a_step_copies_weights_only_where_a_plugin_may_write(name: str):
    stack, expected = STACKS[name]
    engine = engine_of(ConvNet(), *stack)
    step(engine)
    step(engine)
    assert copied(engine) == expected


@pytest.mark.parametrize("made", [partial(OwnSGD, lr=0.1), hooked, scheduled], ids=["class", "hook", "step"])
def test_a_step_copies_weights_where_the_optimizer_runs_code_of_others(made: Callable[[Any], Any]):
    model = MLP()
    optimizer = made(model) if made in (hooked, scheduled) else made(model.parameters())
    engine = engine_of(model, "fgsm")
    for replacement in (optimizer, torch.optim.SGD(model.parameters(), lr=0.1)):
        engine._step.optimizer = replacement
        step(engine)
        step(engine)
        assert copied(engine) == (replacement is optimizer)


@pytest.mark.parametrize("checks", ["always", "interval"])
@pytest.mark.parametrize(("make", "expected"), [(MLP, False), (Clamped, True)])
def test_a_step_copies_weights_where_the_model_writes_into_its_own(make: Any, expected: bool, checks: Any):
    engine = engine_of(make(), "fgsm", checks=checks)
    step(engine)
    assert copied(engine)  # not known yet
    engine.end_epoch()  # reads the verdict
    step(engine)
    assert copied(engine) == expected


@pytest.mark.parametrize(
    ("model", "attack", "expected"),
    [(MLP(), "fgsm", False), (Clamped(), "fgsm", True), (MLP(), clean_attack(), True)],
)
def test_an_evaluation_copies_weights_only_where_attack_or_model_may_write(model: Any, attack: Any, expected: bool):
    (loaded,) = as_loaded([attack])
    evaluator, before = Evaluator(model, loaded, LINF), weights_of(model)
    for _ in range(2):
        evaluator.attacked(batch_of())
        assert_same(weights_of(model), before)
    assert holds(evaluator._copies) == expected


def test_hooks_between_steps_copy_weights_only_where_a_plugin_may_write():
    median = {"meat": {"start": 0, "history": "memory"}}
    for stack, expected in ((["fgsm", median], False), (["fgsm", "piat"], True), (["fgsm", quiet("log")], True)):
        engine = engine_of(ConvNet(), *stack, epochs=2)
        step(engine)
        engine.end_epoch()
        assert holds(engine._between_steps.copies) == expected, stack


def test_a_logger_from_elsewhere_alone_lets_weights_be_copied(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    for logger, expected in ((load_loggers(["tensorboard"])[0], False), (quiet("log"), True)):
        loggers = Loggers([logger], engine_of(MLP(), "fgsm"), tmp_path, print)
        loggers.log({"event": "epoch"})
        assert holds(loggers._copies) == expected


def test_code_of_a_built_in_plugin_is_own():
    for name, row in CATALOGUE.items():
        assert is_own(Subject(load(find("plugin", name)), row.settings, name=name).plugin().plugin), name
    assert not is_own(OwnPGD(steps=1))


def test_code_around_that_of_a_built_in_plugin_is_not_own():
    @wraps(PGD.generate_adv)
    def around(*arguments: Any) -> Any:
        return PGD.generate_adv(*arguments)

    assert not is_own(around)
    assert not is_own(MethodType(around, PGD(steps=1)))
    assert not is_own(torch.no_grad()(around))


class FaultError(Exception):
    pass


def fails_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        function(*arguments)
        raise FaultError

    return call


def forwards_of(engine: Any, raising_at: int, seed: int) -> int:
    """The number of forwards of a step on the bench; that of number ``raising_at`` raises."""
    number = 0

    def count(*_: Any) -> None:
        nonlocal number
        number += 1
        if number == raising_at:
            raise FaultError

    handle = engine.model.register_forward_pre_hook(count)
    try:
        bench.step(engine, seed)
    finally:
        handle.remove()
    return number


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_step_with_a_built_in_plugin_that_fails_anywhere_leaves_the_weights(name: str, tmp_path: Path):
    subject = Subject(load(find("plugin", name)), CATALOGUE[name].settings, name=name)
    engine = subject.engine(tmp_path)
    bench.step(engine, 0)
    count = forwards_of(engine, 0, seed=1)
    assert copied(engine) == ("perturb_weights" in subject.provides)
    before = weights_of(engine.model)
    for number in {1, min(2, count), -(-count // 2), count}:
        with pytest.raises(HookError, match="FaultError"):
            forwards_of(engine, number, seed=2)
        assert_same(before, weights_of(engine.model))
    hooks = [engine.hooks.table[hook] for hook in BEFORE_UPDATE]
    for implementation in [each for hook in hooks for each in (*hook.providers, *hook.wrappers)]:
        function, implementation.function = implementation.function, fails_after(implementation.function)
        with pytest.raises(HookError, match="FaultError"):
            bench.step(engine, 2)
        implementation.function = function
        assert_same(before, weights_of(engine.model))


def test_the_hooks_before_an_update_are_those_of_a_step():
    assert set(BEFORE_UPDATE) <= HOOKS
    assert HOOKS - set(BEFORE_UPDATE) == {
        *("param_groups", "start_run", "ensemble_weights", "end_epoch", "log", "end_run")
    }


def test_an_interruption_waits_for_the_end_of_the_update(monkeypatch: pytest.MonkeyPatch):
    sgd = sys.modules["torch.optim.sgd"]
    update = sgd._single_tensor_sgd

    def interrupted(params: list[Tensor], grads: list[Tensor], buffers: list[Any], **options: Any) -> None:
        update(params[:1], grads[:1], buffers[:1], **options)
        signal.raise_signal(signal.SIGINT)
        update(params[1:], grads[1:], buffers[1:], **options)

    engine, other = engine_of(ConvNet(), "fgsm", momentum=0.0), engine_of(ConvNet(), "fgsm", momentum=0.0)
    step(engine)
    step(other)
    assert_same(weights_of(engine.model), weights_of(other.model))
    monkeypatch.setattr(sgd, "_single_tensor_sgd", interrupted)
    with pytest.raises(KeyboardInterrupt):
        step(engine, seed=1)
    monkeypatch.undo()
    step(other, seed=1)
    assert_same(weights_of(engine.model), weights_of(other.model))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
