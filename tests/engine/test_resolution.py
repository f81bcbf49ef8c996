"""Hooks resolved in the order of the config; classes that are no plugins, refused by name."""

import re
from typing import Any

import pytest
import torch
from torch import nn

from buttress import Adv, Batch, hookimpl
from buttress.components.loaded import as_loaded
from buttress.engine.resolution import resolve
from buttress.engine.state import RunState
from buttress.errors import HookError, PluginError
from buttress.hookspecs import CHAIN, EXCLUSIVE, HOOKS

from ..core.helpers import CPU, LINF, batch_of, clean_attack, engine_of, plugin, step
from ..models import MLP
from .helpers import hooks_of, refused, wrapping


def test_every_hook_is_either_a_chain_or_exclusive():
    assert set(HOOKS) == CHAIN | EXCLUSIVE
    assert not CHAIN & EXCLUSIVE


def appending(label: str, letter: str, calls: list[str]) -> Any:
    return plugin(label, transform_batch=lambda self, batch: calls.append(letter) or batch)


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
def test_chains_run_in_the_order_of_the_config(order: str):
    calls: list[str] = []
    hooks = hooks_of(*(appending(f"p{letter}", letter, calls) for letter in order))
    hooks.transform_batch(batch_of())
    assert "".join(calls) == order
    assert hooks.order()["transform_batch"] == [f"p{letter}" for letter in order]


def test_a_chain_threads_its_value():
    def scale(factor: float) -> Any:
        return plugin(f"x{factor}", transform_batch=lambda self, batch: Batch(batch.x * factor, batch.y, batch.index))

    batch = batch_of()
    assert torch.equal(hooks_of(scale(0.5), scale(0.25)).transform_batch(batch).x, batch.x * 0.5 * 0.25)


def test_an_implementation_may_leave_out_arguments_and_change_their_order():
    seen: list[Any] = []
    greedy = plugin("greedy", adjust_grads=lambda self, ctx, model: seen.append((ctx.plugin, type(model))))
    modest = plugin("modest", adjust_grads=lambda self: seen.append("modest"))
    hooks_of(greedy, modest).adjust_grads(MLP(), None)
    assert seen == [("greedy", MLP), "modest"]


def test_order_lists_hooks_that_somebody_implements_with_wrappers_first():
    timer = plugin("timer", wrapper=True, generate_adv=wrapping([], "t"))
    order = hooks_of(clean_attack("mine"), timer).order()
    assert order == {"compute_loss": ["cross_entropy"], "generate_adv": ["timer", "mine"]}


@pytest.mark.parametrize(
    ("hook", "answer"),
    [
        ("generate_adv", lambda self, batch: Adv(batch.x)),
        ("compute_loss", lambda self, batch: torch.zeros(len(batch.y))),
        ("perturb_weights", lambda self: None),
    ],
)
def test_two_providers_of_an_exclusive_hook_are_both_named(hook: str, answer: Any):
    message = refused(plugin("one", **{hook: answer}), plugin("two", **{hook: answer}))
    assert re.search(rf"^{hook} takes one provider, got 'one' .* and 'two' .*; remove one", message)


def test_two_attacks_of_a_config_are_named_with_their_distribution():
    message = refused("pgd", "fgsm")
    assert re.search(
        r"generate_adv takes one provider, got 'pgd' \(buttress \S+\) and 'fgsm' \(buttress \S+\)", message
    )


def test_no_attack_is_an_error_with_the_cure():
    with pytest.raises(
        PluginError, match=r"no plugin provides generate_adv; add an attack, for example pgd \(or clean"
    ):
        engine_of(MLP(), plugin("p", adjust_grads=lambda self: None))


def test_a_plugin_listed_twice_is_labelled_by_number():
    engine = engine_of(MLP(), "clean", {"ema": {"tau": 0.5}}, {"ema": {"tau": 0.9, "track": "slow"}}, "ema")
    assert [loaded.label for loaded in engine.plugins] == ["clean", "ema", "ema#2", "ema#3", "cross_entropy"]


def test_faults_of_the_second_of_two_equal_plugins_name_its_number():
    def loud(bad: bool) -> Any:
        return plugin("loud", adjust_grads=lambda self: 1 / 0 if bad else None)

    with pytest.raises(HookError, match="plugin 'loud#2' "):
        step(engine_of(MLP(), clean_attack(), loud(False), loud(True)))


def test_the_loss_falls_back_to_cross_entropy_and_a_wrapper_is_no_provider():
    wrapper = plugin("w", wrapper=True, compute_loss=wrapping([], "w"))
    labels = [loaded.label for loaded in engine_of(MLP(), "clean", wrapper).plugins]
    assert labels == ["clean", "w", "cross_entropy"]


class TryFirst:
    @hookimpl(tryfirst=True)
    def adjust_grads(self) -> None: ...


class TryLast:
    @hookimpl(trylast=True)
    def adjust_grads(self) -> None: ...


class Mistyped:
    @hookimpl
    def generate_advs(self, batch: Batch) -> Adv: ...


class MistypedUnmarked:
    def compute_los(self) -> None: ...


class Unmarked:
    @hookimpl
    def adjust_grads(self) -> None: ...

    def compute_loss(self) -> None: ...


class NoHook:
    def something(self) -> None: ...


class OldWrapper:
    @hookimpl(hookwrapper=True)
    def compute_loss(self) -> Any:
        yield


class OtherSpecification:
    hookspec = "2.1"

    @hookimpl
    def adjust_grads(self) -> None: ...


class LaterSpecification:
    hookspec = "1.2"

    @hookimpl
    def adjust_grads(self) -> None: ...


class WrongArgument:
    @hookimpl
    def adjust_grads(self, models: nn.Module) -> None: ...


class WrappedChain:
    @hookimpl(wrapper=True)
    def transform_batch(self) -> Any:
        return (yield)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (TryFirst, "hook adjust_grads: tryfirst and trylast are refused; order is the config's"),
        (TryLast, "hook adjust_grads: tryfirst and trylast are refused"),
        (Mistyped, "'generate_advs' is not a hook; did you mean 'generate_adv'?"),
        (MistypedUnmarked, "implements no hook; 'compute_los' looks like one; did you mean 'compute_loss'?"),
        (Unmarked, "method compute_loss is named like a hook but not marked; put @hookimpl above it"),
        (NoHook, "implements no hook (a hook is a method marked @hookimpl)"),
        (OldWrapper, "hook compute_loss: old-style wrapper; write @hookimpl(wrapper=True)"),
        (OtherSpecification, "is written for hook specification 2.1, this is 1.1; install another version"),
        (LaterSpecification, "is written for hook specification 1.2, this is 1.1; install a newer buttress"),
        (WrongArgument, "models"),
        (WrappedChain, "transform_batch is a chain hook; only exclusive hooks are wrapped"),
    ],
)
def test_a_class_that_is_no_plugin_is_refused_by_name(made: type, message: str):
    error = refused(made())
    assert message in error
    assert made.__name__ in error


@pytest.mark.parametrize("version", ["1", "1.0", "1.1", 1, 1.0])
def test_a_plugin_may_declare_this_version_of_the_specification_or_an_earlier_one(version: Any):
    resolve(as_loaded([plugin("p", hookspec=version, adjust_grads=lambda self: None)]), RunState(LINF, CPU))


@pytest.mark.parametrize("version", ["1.2", "1.10", 1.2, "2", "2.0", "0.9", "1.x", "new"])
def test_a_plugin_may_not_declare_a_later_version_of_the_specification_or_another_one(version: Any):
    assert f"specification {version}, this is 1.1" in refused(
        plugin("p", hookspec=version, adjust_grads=lambda self: None)
    )


def test_plugins_that_compare_equal_are_refused():
    same = plugin("same", adjust_grads=lambda self: None)
    assert "same#2" in refused(same, same)
