"""Every hook method is recognised, runs when it is called, and gets each argument that it names."""

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial, partialmethod, wraps
from pathlib import Path
from typing import Any

import pytest
import torch

from buttress import Adv, hookimpl, hookspecs
from buttress.authoring.inventory import facts_of
from buttress.cli import main
from buttress.components.loaded import as_loaded
from buttress.components.plugin_class import check_class
from buttress.components.sources import Source
from buttress.data import Split
from buttress.engine.resolution import resolve
from buttress.engine.state import RunState
from buttress.errors import HookError, PluginError
from buttress.hookspecs import CHAIN, EXCLUSIVE, HOOKS
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import evaluate
from buttress.training.loggers import Loggers

from ..core.helpers import CPU, LINF, batch_of, clean_attack, engine_of, plugin, step
from ..models import MLP

ALL = sorted(HOOKS)


def arguments(hook: str) -> list[str]:
    return list(getattr(hookspecs, hook).__annotations__)[:-1]


def function(hook: str, parameters: str, body: str = "pass", head: str = "def") -> Any:
    """A function called like the hook."""
    space: dict[str, Any] = {}
    exec(f"{head} {hook}({parameters}):\n    {body}", space)
    return space[hook]


def refusal(hook: str, member: Any) -> str:
    with pytest.raises(PluginError) as caught:
        check_class(type("Made", (), {hook: member}))
    message = str(caught.value)
    assert message.startswith("plugin Made"), message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("hook", ALL)
def test_each_argument_with_a_default_is_refused_by_its_name(hook: str):
    for name in arguments(hook):
        message = refusal(hook, hookimpl(function(hook, f"self, {name}=None")))
        assert f"hook {hook}: argument {name!r} has a default, and would always have it; write {name}" in message
        message = refusal(hook, hookimpl(function(hook, f"self, *, {name}")))
        assert f"hook {hook}: argument {name!r} stands after a '*'" in message


@pytest.mark.parametrize("hook", ALL)
def test_arguments_that_stay_empty_are_refused(hook: str):
    assert "*args would stay empty" in refusal(hook, hookimpl(function(hook, "self, *args")))
    assert "**kwargs would stay empty" in refusal(hook, hookimpl(function(hook, "self, ctx, **kwargs")))


@pytest.mark.parametrize("hook", ALL)
def test_a_method_without_self_is_refused(hook: str):
    first = arguments(hook)[0]
    message = refusal(hook, hookimpl(function(hook, ", ".join(arguments(hook)))))
    assert f"expected self as the first argument, got {first!r}" in message
    assert "expected self as the first argument, got none" in refusal(hook, hookimpl(function(hook, "")))


@pytest.mark.parametrize("hook", ALL)
def test_what_would_never_run_is_refused(hook: str):
    asynchronous = "it is 'async', and nobody awaits it"
    assert asynchronous in refusal(hook, hookimpl(function(hook, "self", head="async def")))
    assert asynchronous in refusal(hook, hookimpl(function(hook, "self", "yield", "async def")))
    message = refusal(hook, hookimpl(function(hook, "self", "yield")))
    assert "it has a yield and is not marked as a wrapper, so that nothing in it would run" in message
    assert ("leave the yield out" if hook in CHAIN else "write @hookimpl(wrapper=True)") in message


@pytest.mark.parametrize("hook", sorted(EXCLUSIVE))
def test_a_wrapper_has_a_yield(hook: str):
    wrapper = hookimpl(wrapper=True)
    message = refusal(hook, wrapper(function(hook, "self")))
    assert "it is marked as a wrapper and has no yield; write answer = yield, then return answer" in message
    assert "nobody awaits it" in refusal(hook, wrapper(function(hook, "self", "yield", "async def")))


@pytest.mark.parametrize("hook", ALL)
@pytest.mark.parametrize(
    ("made", "what"),
    [
        (lambda f: staticmethod(hookimpl(f)), "it is a staticmethod and no plain method"),
        (lambda f: hookimpl(staticmethod(f)), "it is a staticmethod and no plain method"),
        (lambda f: classmethod(hookimpl(f)), "it is a classmethod and no plain method"),
        (lambda f: hookimpl(classmethod(f)), "it is a classmethod and no plain method"),
        (lambda f: property(hookimpl(f)), "it is a property and no plain method"),
        (lambda f: cached_property(hookimpl(f)), "it is a cached_property and no plain method"),
        (lambda f: hookimpl(partial(f)), "it is a partial and no plain method"),
        (lambda f: partial(hookimpl(f)), "it is a partial and no plain method"),
        (lambda f: hookimpl(partialmethod(f)), "it is a partialmethod and no plain method"),
        (lambda f: partialmethod(hookimpl(f)), "it is a partialmethod and no plain method"),
        (lambda f: hookimpl(Called()), "it is a Called and no plain method"),
        (lambda f: hookimpl(lru_cache(f)), "it is a _lru_cache_wrapper and no plain method"),
        (lambda f: property(f), "is named like a hook but not marked"),
        (lambda f: classmethod(f), "is named like a hook but not marked"),
        (lambda f: staticmethod(f), "is named like a hook but not marked"),
    ],
)
def test_what_is_no_plain_method_is_refused(hook: str, made: Callable[[Any], Any], what: str):
    assert what in refusal(hook, made(function(hook, "self")))


class Called:
    def __call__(self) -> None:
        pass


def passed_on(inner: Any) -> Any:
    @wraps(inner)
    def outer(*args: Any) -> Any:
        return inner(*args)

    return outer


@pytest.mark.parametrize("made", [passed_on, torch.no_grad(), lambda f: f])
def test_decorated_methods_stay_hooks(made: Callable[[Any], Any]):
    seen: list[Any] = []

    def adjust_grads(self: Any, model: Any) -> None:
        seen.append(model)

    model = MLP()
    step(engine_of(model, clean_attack(), plugin("p", adjust_grads=made(adjust_grads))))
    assert seen == [model]


def test_a_context_manager_and_a_wrapper_that_is_decorated_stay_hooks():
    @contextmanager
    def perturb_weights(self: Any) -> Any:
        yield

    @torch.no_grad()
    def compute_loss(self: Any) -> Any:
        with torch.enable_grad():
            answer = yield
        return answer

    watcher = plugin("w", wrapper=True, compute_loss=compute_loss)
    step(engine_of(MLP(), clean_attack(), plugin("p", perturb_weights=perturb_weights), watcher))


# Objects


def test_an_attribute_of_the_object_does_not_hide_a_hook():
    logger = plugin("p", log=lambda self: None)
    logger.log = []
    with pytest.raises(PluginError, match="the attribute 'log' of the object hides the hook; give it another name"):
        resolve(as_loaded([logger]), RunState(LINF, CPU))


def test_a_hook_that_is_set_on_the_object_is_refused():
    for name in ("adjust_grads", "another_name"):
        made = plugin("p", transform_batch=lambda self, batch: batch)
        setattr(made, name, hookimpl(lambda model: None))
        with pytest.raises(PluginError, match=f"{name!r} is set on the object; a hook is a marked method of the class"):
            resolve(as_loaded([made]), RunState(LINF, CPU))


# The same for what is no plugin of a run


@pytest.mark.parametrize("parameters", ["self, model, batch=None", "self, *args"])
def test_attacks_of_evaluations_are_checked(parameters: str):
    attack = type("Attack", (), {"generate_adv": hookimpl(function("generate_adv", parameters))})()
    (loaded,) = as_loaded([attack])
    with pytest.raises(PluginError, match=r"plugin .*Attack, hook generate_adv: "):
        evaluate(MLP(), Split(batch_of().x, batch_of().y), loaded, LINF)


def test_a_wrapper_of_an_attack_is_no_attack():
    class Wrapper:
        @hookimpl(wrapper=True)
        def generate_adv(self) -> Any:
            return (yield)

    local = {"mine": (Wrapper, Source("plugin", "mine", "f:Wrapper", "f", "1"))}
    with pytest.raises(PluginError, match=r"attack 'mine' from f 1 does not implement generate_adv; choose an attack"):
        load_attack("mine", local=local)


@pytest.mark.parametrize("hook", ["start_run", "log", "end_run"])
def test_loggers_are_checked(hook: str, tmp_path: Any):
    members = {"log": hookimpl(function("log", "self, metrics"))} | {hook: hookimpl(function(hook, "self, ctx=None"))}
    engine = engine_of(MLP(), clean_attack())
    with pytest.raises(PluginError, match=f"hook {hook}: argument 'ctx' has a default"):
        Loggers([type("Mine", (), members)()], engine, tmp_path, print)


DEFAULTED = """
from buttress import hookimpl

class Robust:
    @hookimpl
    def compute_loss(self, model, batch, adv=None): ...
"""


def test_the_tools_name_the_shape_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    message = "hook compute_loss: argument 'adv' has a default, and would always have it; write adv without '= ...'"
    (tmp_path / "robust_module.py").write_text(DEFAULTED)
    assert main(["plugins", "check", str(tmp_path / "robust_module.py")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{message} (robust_module.py:6)")
    monkeypatch.syspath_prepend(str(tmp_path))
    facts = facts_of(Source("plugin", "robust", "robust_module:Robust", "mine", "1"))
    assert facts == {"status": f"broken: plugin 'robust' from mine 1, {message} (robust_module.py:6)"}


# What only a call shows


def later(self: Any) -> Any:
    yield


async def awaited(self: Any) -> None: ...


@pytest.mark.parametrize("hook", ["adjust_grads", "start_run", "end_epoch", "log", "end_run"])
@pytest.mark.parametrize("inner", [later, awaited, contextmanager(later)])
def test_an_answer_that_has_not_run_is_a_fault(hook: str, inner: Any):
    def unmarked(self: Any) -> Any:
        answer = inner(self)
        if asyncio.iscoroutine(answer):
            answer.close()
        return answer

    engine = engine_of(MLP(), clean_attack(), plugin("p", **{hook: unmarked}))

    def run() -> None:
        step(engine)
        engine.end_epoch()
        engine.log({})
        engine.close()

    with pytest.raises(HookError, match=rf"plugin 'p' .*, hook {hook}, (?s:.*) has not run"):
        run()


def test_the_losses_of_an_attack_that_is_paid_for_are_taken_at_it():
    """A loss whose ``adv`` has a default would train on clean images beside PGD."""

    class Robust:
        @hookimpl
        def compute_loss(self, model: Any, batch: Any, adv: Adv | None = None) -> Any: ...

    with pytest.raises(PluginError, match="Robust, hook compute_loss: argument 'adv' has a default"):
        engine_of(MLP(), "pgd", Robust())
