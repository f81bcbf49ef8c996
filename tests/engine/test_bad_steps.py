"""Bad steps: skipped on the device, counted, named; and nothing else of the run moves."""

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Engine, Loss
from buttress.errors import DivergenceError, HookError
from buttress_plugins import weights

from ..core.helpers import LINF, assert_same, clean_attack, engine_of, plugin, snapshot, step, weights_of
from ..models import ConvNet

BAD = 2  # the step that is bad, of 5


def spoiled_loss(at: int = BAD) -> Any:
    """Cross-entropy, but NaN at one step."""

    def compute_loss(self: Any, model: nn.Module, batch: Any, adv: Any, ctx: Any) -> Tensor:
        losses = nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none")
        return losses * (math.nan if ctx.step == at else 1.0)

    return plugin("spoiled_loss", compute_loss=compute_loss)


class _NaNBackwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, losses: Tensor) -> Tensor:
        return losses.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * math.nan


def spoiled_in(phase: str, what: str) -> Any:
    """Cross-entropy, but NaN, or with a gradient of NaN, at one step in one of its phases."""

    def compute_loss(self: Any, model: nn.Module, batch: Any, adv: Any, ctx: Any) -> Tensor:
        losses = nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none")
        if (ctx.step, ctx.phase) != (BAD, phase):
            return losses
        return losses * math.nan if what == "loss" else _NaNBackwards.apply(losses)

    return plugin("spoiled_loss", compute_loss=compute_loss)


def spoiled_gradient(at: int = BAD, value: float = math.inf) -> Any:
    def adjust_grads(self: Any, model: nn.Module, ctx: Any) -> None:
        if ctx.step == at:
            model.linear.weight.grad[0, 0] = value

    return plugin("spoiled_gradient", adjust_grads=adjust_grads)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.01)


def fused_sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, fused=True)


def fused_adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)


def plain_sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def skipping(model: nn.Module, *plugins: Any, optimizer: Callable[..., Any] = sgd, **options: Any) -> Engine:
    options = {"nonfinite": "skip", **options}
    return Engine(model, optimizer(model), [clean_attack(), *plugins], LINF, **options)


def steps(engine: Engine, count: int, read_at: int | None = None) -> None:
    for number in range(count):
        step(engine, seed=number)
        if number == read_at:
            engine.read_checks()


def everything(engine: Engine) -> dict[str, Tensor]:
    """Weights, buffers and the optimizer's state."""
    state = engine.optimizer.state_dict()["state"]
    own = {
        f"{number}.{key}": torch.as_tensor(v) for number, s in state.items() for key, v in s.items() if v is not None
    }
    return {**snapshot(engine.model), **{name: value.clone() for name, value in own.items()}}


@pytest.mark.parametrize("checks", ["always", "interval", "off"])
@pytest.mark.parametrize("optimizer", [sgd, plain_sgd, adamw, fused_sgd, fused_adamw])
@pytest.mark.parametrize("spoil", [spoiled_loss, spoiled_gradient, lambda: spoiled_gradient(value=math.nan)])
def test_a_bad_step_changes_nothing_and_is_named(spoil: Any, optimizer: Any, checks: Any):
    engine = skipping(ConvNet(), spoil(), optimizer=optimizer, checks=checks)
    for number in range(5):
        before = everything(engine)
        step(engine, seed=number)
        if number == BAD:
            assert_same(before, everything(engine))
        else:
            assert not torch.equal(before["conv.weight"], snapshot(engine.model)["conv.weight"])
    message = engine.read_checks()
    assert message.startswith("1 bad step skipped, the first at epoch 1, step 3: ")
    assert "plugin 'spoiled_" in message
    assert ("the loss" if spoil is spoiled_loss else "the gradient of 'linear.weight'") in message
    assert engine.bad_steps.skipped == 1
    assert engine.read_checks() == ""


@pytest.mark.parametrize("optimizer", [sgd, plain_sgd, adamw, fused_sgd, fused_adamw])
def test_a_first_step_that_is_bad_leaves_the_optimizer_as_new(optimizer: Any):
    engine = skipping(ConvNet(), spoiled_loss(at=0), optimizer=optimizer)
    before = everything(engine)
    step(engine)
    assert_same(before, everything(engine))
    assert not engine.optimizer.state or all(not own for own in engine.optimizer.state.values())


def test_weights_that_overflow_are_taken_back_and_blamed_on_the_update():
    def hot_sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=1e-30)

    engine = skipping(ConvNet(), spoiled_gradient(value=1e15), optimizer=hot_sgd)
    steps(engine, BAD)
    engine.optimizer.param_groups[0]["lr"] = 1e10
    before = snapshot(engine.model)
    step(engine)
    assert_same(before, snapshot(engine.model))
    assert "the weight 'linear.weight' is not finite (the optimizer's step)" in engine.read_checks()


def test_good_steps_are_the_same_with_and_without_skipping():
    plugins = [{"awp": {"gamma": 0.01}}, {"ema": {"tau": 0.5}}]
    stopping, other = skipping(ConvNet(), *plugins, nonfinite="stop"), skipping(ConvNet(), *plugins)
    for number in range(4):
        step(stopping, seed=number)
        step(other, seed=number)
    assert_same(everything(stopping), everything(other))
    assert other.read_checks() == ""


@pytest.mark.parametrize("exit_order", ["restore_then_step", "step_while_perturbed"])
def test_a_bad_step_inside_a_perturbation_ends_at_the_unperturbed_weights(exit_order: str):
    engine = skipping(ConvNet(), {"awp": {"gamma": 0.1, "exit_order": exit_order}}, spoiled_loss())
    for number in range(4):
        before = everything(engine)
        step(engine, seed=number)
        after = everything(engine)
        assert (number == BAD) == all(torch.equal(value, after[name]) for name, value in before.items())


# What plugins remember of a skipped step


def test_a_hook_after_the_update_sees_on_the_device_whether_the_step_was_skipped():
    seen: list[Tensor] = []

    def ensemble_weights(self: Any, event: str, ctx: Any) -> None:
        if event == "step":
            seen.append(ctx.skipped)

    asks = plugin("asks", ensemble_weights=ensemble_weights)
    for checks in ("always", "interval", "off"):
        steps(skipping(ConvNet(), spoiled_loss(), asks, checks=checks), 4)
    assert [bool(each) for each in seen] == [False, False, True, False] * 3
    seen.clear()
    steps(skipping(ConvNet(), asks, nonfinite="stop"), 2)
    assert [(each.shape, each.dtype, bool(each)) for each in seen] == [(torch.Size(), torch.bool, False)] * 2


@pytest.mark.parametrize("hook", ["transform_batch", "compute_loss", "adjust_grads", "start_run"])
def test_elsewhere_it_is_not_known_whether_the_step_is_skipped(hook: str):
    early = plugin("early", **{hook: lambda self, ctx: ctx.skipped})
    with pytest.raises(HookError, match=r"plugin 'early' .*\n  RuntimeError: ctx\.skipped is available in ensemble_w"):
        steps(skipping(ConvNet(), early), 1)


LAYERS = {"layers": [2], "groups": {"1": ["conv.*"], "2": ["bn.*", "linear.*"]}}
REMEMBER: dict[str, Any] = {
    "ema": {"ema": {"buffers": "ema"}},
    "ema, constant": {"ema": {"tau": 0.7, "warmup": False}},
    "rat_lr": {"rat_lr": {**LAYERS, "form": "corrected"}},
    "swa": {"swa": {"start": 0}},
    "piat": "piat",
    "meat": {"meat": {"start": 0, "history": "memory"}},
}


@pytest.mark.parametrize("checks", ["always", "interval"])
@pytest.mark.parametrize("entry", REMEMBER)
def test_built_in_plugins_remember_nothing_of_a_skipped_step(entry: str, checks: Any):
    factory = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01)

    def trained(bad: bool) -> Engine:
        plugins = [clean_attack(), REMEMBER[entry], spoiled_loss(BAD if bad else -1)]
        engine = Engine(ConvNet(), factory, plugins, LINF, nonfinite="skip", checks=checks)
        for number in range(5):
            engine.set_lr(0.5 if number >= BAD else 1.0, 0)  # rat_lr amplifies anew from the bad step on
            if bad or number != BAD:
                step(engine, seed=number)
        engine.end_epoch()
        return engine

    skipped, without = trained(bad=True), trained(bad=False)
    assert_same(everything(skipped), everything(without))
    assert str(skipped.state_dict()["plugins"]) == str(without.state_dict()["plugins"])
    for one, other in zip(skipped.tracks(), without.tracks(), strict=True):
        assert_same(dict(one.weights or {}), dict(other.weights or {}))


GROUPS = {"1": ["conv.*"], "2": ["bn.*", "linear.*"]}
PERTURBATIONS = {
    "amp": {"amp": {"steps": 2}},
    "awp": {"awp": {"gamma": 0.05}},
    "rwp": {"rwp": {"c_min": "inf", "k2": 2, "gamma": 0.05}},
    "rat_wp": {"rat_wp": {"layers": [2], "groups": GROUPS, "gamma": 0.05}},
}


def test_every_built_in_perturbation_is_in_the_table():
    built_in = Path(weights.__file__).parent.glob("*.py")
    assert {path.stem for path in built_in} - {"__init__"} == set(PERTURBATIONS)


@pytest.mark.parametrize("checks", ["always", "interval"])
@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("phase", ["perturb", "train"])
@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_bad_step_in_a_built_in_perturbation_has_not_happened(name: str, phase: str, what: str, checks: Any):
    torch.manual_seed(0)
    model = ConvNet()
    spoiled, sound = (
        skipping(own, PERTURBATIONS[name], spoiled_in(at, what), checks=checks)
        for own, at in ((copy.deepcopy(model), phase), (model, "never"))
    )
    for number in range(5):
        step(spoiled, seed=number)
        if number == BAD:
            sound._state.step += 1  # this step of its data is left out
        else:
            step(sound, seed=number)
    assert_same(everything(spoiled), everything(sound))
    message = spoiled.read_checks()
    hook = "perturb_weights" if (phase, what) == ("perturb", "gradient") else "compute_loss"
    assert message.startswith("1 bad step skipped, the first at epoch 1, step 3: the " + what)
    assert f"hook {hook}" in message


@pytest.mark.parametrize("checks", ["always", "interval"])
@pytest.mark.parametrize("name", PERTURBATIONS)
def test_stop_names_the_perturbation_whose_gradient_is_not_finite(name: str, checks: Any):
    engine = skipping(
        ConvNet(), PERTURBATIONS[name], spoiled_in("perturb", "gradient"), nonfinite="stop", checks=checks
    )
    with pytest.raises(HookError, match=rf"plugin '{name}'.*hook perturb_weights.*epoch 1, step 3(.|\n)*'\w+\.weight'"):
        steps(engine, BAD + 1, read_at=BAD)


def test_as_many_in_a_row_as_allowed_stop_the_run_and_a_good_one_between_them_counts_anew():
    def compute_loss(self: Any, model: nn.Module, batch: Any, adv: Any, ctx: Any) -> Tensor:
        losses = nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none")
        return losses * (math.nan if ctx.step not in (0, 3) else 1.0)

    for checks, stops_at in (("always", 6), ("interval", 7)):
        engine = skipping(ConvNet(), plugin("nan", compute_loss=compute_loss), max_skipped=3, checks=checks)
        message = r"3 steps in a row.*epoch 1, step 2: the loss is not finite \(plugin 'nan'"
        with pytest.raises(DivergenceError, match=message):
            steps(engine, 8, read_at=6)
        assert engine.global_step == stops_at + (checks == "always"), checks


@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
@pytest.mark.parametrize("checks", ["always", "interval"])
def test_a_gradient_is_named_where_the_loss_of_the_same_plugin_is_finite(checks: Any, nonfinite: Any):
    """The root of zero: a finite penalty with an infinite slope, at one parameter."""

    def compute_loss(self: Any, model: nn.Module, batch: Any, adv: Any, ctx: Any) -> Loss:
        losses = nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none")
        return Loss(losses, (0 * model.linear.bias).sum().sqrt() if ctx.step == BAD else losses.sum() * 0)

    engine = skipping(ConvNet(), plugin("root", compute_loss=compute_loss), checks=checks, nonfinite=nonfinite)
    try:
        steps(engine, 3)
        message = engine.read_checks()
    except HookError as problem:
        message = str(problem)
    assert "'linear.bias'" in message
    assert "epoch 1, step 3" in message


def test_records_of_a_skipped_step_do_not_count():
    def adjust_grads(self: Any, model: nn.Module, ctx: Any) -> None:
        ctx.record("seen", torch.tensor(math.nan if ctx.step == BAD else 2.0))

    engine = skipping(ConvNet(), spoiled_loss(), plugin("watch", adjust_grads=adjust_grads))
    for number in range(5):
        step(engine, seed=number)
    assert engine.records() == {"watch.seen": 2.0}


@pytest.mark.parametrize("read_at", [None, 3])
def test_counts_travel_with_the_state(read_at: int | None):
    engine, other = skipping(ConvNet(), spoiled_loss()), skipping(ConvNet(), spoiled_loss())
    steps(engine, 4, read_at)
    other.load_state_dict(engine.state_dict())
    assert other.bad_steps.skipped == 1
    assert other.read_checks() == ""


@pytest.mark.parametrize("checks", ["always", "interval"])
@pytest.mark.parametrize(("spoil", "names"), [(spoiled_loss, "loss"), (spoiled_gradient, "linear.weight")])
def test_stop_is_the_default_and_names_plugin_step_and_layer(spoil: Any, names: str, checks: Any):
    engine = engine_of(ConvNet(), clean_attack(), spoil(), checks=checks)
    with pytest.raises(HookError, match=rf"plugin '{spoil.__name__}'.*hook .*epoch 1, step 3") as caught:
        steps(engine, 5, read_at=4)
    assert names in str(caught.value)


def test_nothing_waits_for_the_device_in_a_step_that_is_skipped(monkeypatch: pytest.MonkeyPatch):
    engine = skipping(ConvNet(), spoiled_loss(), checks="interval")
    step(engine)  # the first, in which momentum is made, may ask

    def wait(*_: Any) -> Any:
        raise AssertionError("the host asked the device for a value")

    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu"):
        monkeypatch.setattr(Tensor, name, wait)
    for number in range(1, 4):
        step(engine, seed=number)
    monkeypatch.undo()
    assert engine.read_checks().startswith("1 bad step skipped")


def test_a_penalty_that_is_not_finite_is_a_bad_step_too():
    def compute_loss(self: Any, model: nn.Module, batch: Any, adv: Any) -> Loss:
        losses = nn.functional.cross_entropy(model(adv.x), batch.y, reduction="none")
        return Loss(losses, model.linear.weight.sum() * math.inf)

    engine = skipping(ConvNet(), plugin("penalty", compute_loss=compute_loss))
    before = snapshot(engine.model)
    step(engine)
    assert_same(before, snapshot(engine.model))


def test_state_that_an_optimizer_keeps_in_lists_is_taken_back_too():
    class Remembering(torch.optim.SGD):
        """Keeps the last gradients of every parameter in a list, and steps along their mean."""

        def step(self, closure: Any = None) -> None:
            for weight in self.param_groups[0]["params"]:
                held = self.state[weight].setdefault("held", [])
                held.append(weight.grad.clone())
                weight.data.add_(torch.stack(held).mean(0), alpha=-0.1)

    states = []
    for at in (1, 99):
        model = ConvNet()
        optimizer = Remembering(model.parameters(), lr=0.1)
        engine = Engine(model, optimizer, [clean_attack(), spoiled_gradient(at)], LINF, nonfinite="skip")
        for number in range(3):
            if (at, number) != (99, 1):
                step(engine, seed=number)
        states.append((weights_of(model), [len(own["held"]) for own in optimizer.state.values()]))
    assert_same(states[0][0], states[1][0])
    assert states[0][1] == states[1][1] == [2] * 5


@pytest.mark.parametrize("checks", ["always", "interval"])
@pytest.mark.parametrize("buffer", [torch.eye(3).to_sparse(), torch.zeros(1).expand(4)], ids=["sparse", "expanded"])
def test_a_buffer_without_memory_of_its_own_is_left_alone(buffer: Tensor, checks: Any):
    model = ConvNet()
    model.register_buffer("table", buffer)
    engine = skipping(model, spoiled_loss(1), checks=checks)
    step(engine)
    before = weights_of(model)
    step(engine, seed=1)
    assert_same(before, weights_of(model))
