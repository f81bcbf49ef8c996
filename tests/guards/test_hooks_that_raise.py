"""Whatever hook raises: the error says who, where and when, and weights, modes and gradients are as before."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from buttress import Adv, Engine, Track
from buttress.components.loaded import LoadedPlugin
from buttress.components.sources import Source
from buttress.errors import HookError
from buttress.hookspecs import HOOKS
from tests.core.helpers import LINF, assert_same, plugin, step, weights_of
from tests.models import ConvNet

AT = 3  # steps done of epoch 2 when the hook raises


def mess(model: nn.Module) -> None:
    """All that a hook can leave behind."""
    model.eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    for weight in model.parameters():
        weight.requires_grad = False
        weight.grad = torch.ones_like(weight)


class Raises:
    """Messes the model up and raises, in one hook, at one step."""

    def __init__(self, hook: str, error: BaseException) -> None:
        self.hook, self.error, self.model, self.armed = hook, error, None, False

    def at(self, hook: str) -> None:
        if self.armed and hook == self.hook:
            mess(self.model)
            raise self.error


def raising(hook: str, error: BaseException) -> Any:
    """A plugin that has every hook."""
    state = Raises(hook, error)

    @contextmanager
    def manager() -> Iterator[None]:
        state.at("perturb_weights: entry")
        yield
        state.at("perturb_weights: exit")

    def perturb_weights(self: Any) -> Any:
        state.at("perturb_weights")
        return manager()

    def generate_adv(self: Any, batch: Any) -> Adv:
        state.at("generate_adv")
        return Adv(batch.x)

    def compute_loss(self: Any, model: nn.Module, batch: Any, adv: Any) -> torch.Tensor:
        losses = nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none")
        state.at("compute_loss")
        return losses

    def ensemble_weights(self: Any, event: str) -> Track | None:
        state.at(f"ensemble_weights: {event}")
        return None

    def quiet(name: str, answer: str | None) -> Callable[..., Any]:
        source = f"def {name}(self{', ' + answer if answer else ''}):\n    state.at({name!r})\n    return {answer}"
        scope: dict[str, Any] = {"state": state}
        exec(source, scope)
        return scope[name]

    simple = {"transform_batch": "batch", "param_groups": "groups"}
    rest = {name: quiet(name, simple.get(name)) for name in HOOKS}
    own = [perturb_weights, generate_adv, compute_loss, ensemble_weights]
    made = plugin("bad", **{**rest, **{function.__name__: function for function in own}})
    return made, state


CALLS: dict[str, Callable[[Engine], object]] = {
    "transform_batch": step,
    "generate_adv": step,
    "perturb_weights": step,
    "perturb_weights: entry": step,
    "perturb_weights: exit": step,
    "compute_loss": step,
    "adjust_grads": step,
    "ensemble_weights: step": step,
    "ensemble_weights: epoch": lambda engine: engine.end_epoch(),
    "ensemble_weights: evaluate": lambda engine: engine.tracks(),
    "end_epoch": lambda engine: engine.end_epoch(),
    "log": lambda engine: engine.log({"event": "train"}),
    "end_run": lambda engine: engine.close(),
    "start_run": lambda engine: engine.start(),
}


def test_every_hook_is_in_the_table():
    assert {name.split(":")[0] for name in CALLS} == set(HOOKS) - {"param_groups"}


def engine_with(hook: str, error: BaseException) -> tuple[Engine, Raises]:
    model = ConvNet()
    model.bn.eval()  # a mode of the user's own
    model.conv.weight.requires_grad = False
    made, state = raising(hook, error)
    state.model = model
    source = Source("plugin", "bad", "acme.bad:Plugin", "acme-bad", "1.2")
    # A factory, so that param_groups is called.
    engine = Engine(
        model, lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9), [LoadedPlugin("bad", made, source)], LINF
    )
    return engine, state


def look(model: nn.Module) -> tuple[Any, ...]:
    modes = [module.training for module in model.modules()]
    flags = [weight.requires_grad for weight in model.parameters()]
    grads = {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}
    return modes, flags, grads


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(0)], ids=["ValueError", "SystemExit"])
@pytest.mark.parametrize("hook", CALLS)
def test_a_hook_that_raises_is_named_and_leaves_the_model_as_found(hook: str, error: BaseException):
    engine, state = engine_with(hook, error)
    if hook != "start_run":
        step(engine)
        engine.end_epoch()
        for seed in range(AT):
            step(engine, seed=seed)
    model = engine.model
    weights, (modes, flags, grads) = weights_of(model), look(model)
    state.armed = True
    with pytest.raises(HookError) as caught:
        CALLS[hook](engine)
    when = f"epoch 2, step {AT + 1}" if CALLS[hook] is step else f"after step {AT} of epoch 2"
    when = "before the first step" if hook == "start_run" else when
    name, kind = hook.split(":")[0], type(error).__name__
    assert str(caught.value).startswith(f"plugin 'bad' (acme-bad 1.2), hook {name}, {when}:\n  {kind}: ")
    assert caught.value.__cause__ is error
    assert look(model)[:2] == (modes, flags)
    assert_same(look(model)[2], grads)
    if hook != "ensemble_weights: step":  # it comes after the update
        assert_same(weights_of(model), weights)


def test_param_groups_that_raises_leaves_the_model_as_found():
    model = ConvNet()
    made, state = raising("param_groups", ValueError("no"))
    state.model, state.armed = model, True
    weights, (modes, flags, grads) = weights_of(model), look(model)
    with pytest.raises(HookError, match=r"hook param_groups, before the first step:\n  ValueError: no"):
        Engine(model, lambda groups: torch.optim.SGD(groups, lr=0.1), [made], LINF)
    assert look(model) == (modes, flags, grads)
    assert_same(weights_of(model), weights)


def test_a_step_that_failed_can_be_made_again_as_if_it_had_not():
    engine, state = engine_with("adjust_grads", ValueError("no"))
    other, _ = engine_with("none", ValueError("no"))
    for seed in range(2):
        step(engine, seed=seed)
        step(other, seed=seed)
    state.armed = True
    with pytest.raises(HookError):
        step(engine, seed=2)
    state.armed = False
    step(engine, seed=2)
    step(other, seed=2)
    assert_same(weights_of(engine.model), weights_of(other.model))
