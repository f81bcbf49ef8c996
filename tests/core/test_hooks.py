"""Hooks: resolved in the config's order, called by pluggy's protocol, every wrong answer named."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Adv, Batch, Engine, Loss, ThreatModel, Track, hookimpl
from buttress.components.loaded import as_loaded, provides
from buttress.engine.checks import ValueChecks
from buttress.engine.hooks import Hooks
from buttress.engine.resolution import resolve
from buttress.engine.state import RunState
from buttress.errors import ConfigError, HookError, PluginError
from buttress.hookspecs import CHAIN, EXCLUSIVE, HOOKS

from .helpers import CPU, LINF, MLP, ConvNet, batch_of, clean_attack, engine_of, plugin, step, weights_of


def hooks_of(*plugins: Any, threat: ThreatModel = LINF, epoch: int = 0, at_step: int = 0) -> Hooks:
    state = RunState(threat, CPU)
    state.epoch, state.step = epoch, at_step
    given = {hook for p in as_loaded(plugins) for hook in EXCLUSIVE if provides(p, hook)}
    attack = [] if "generate_adv" in given else ["clean"]
    loss = [] if "compute_loss" in given else ["cross_entropy"]
    return Hooks(as_loaded([*plugins, *attack, *loss]), state, ValueChecks("always", CPU))


def refused(*plugins: Any) -> str:
    with pytest.raises(PluginError) as caught:
        resolve(as_loaded(plugins), RunState(LINF, CPU))
    return str(caught.value)


# Resolution


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


# Classes that are no plugins


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
        (OtherSpecification, "is written for hook specification 2.1, this is 1.0; install another version"),
        (WrongArgument, "models"),
        (WrappedChain, "transform_batch is a chain hook; only exclusive hooks are wrapped"),
    ],
)
def test_a_class_that_is_no_plugin_is_refused_by_name(made: type, message: str):
    found = refused(made())
    assert message in found
    assert made.__name__ in found


@pytest.mark.parametrize("version", ["1", "1.0", "1.7", 1, 1.0])
def test_a_plugin_may_declare_any_minor_version_of_the_specification(version: Any):
    resolve(as_loaded([plugin("p", hookspec=version, adjust_grads=lambda self: None)]), RunState(LINF, CPU))


def test_plugins_that_compare_equal_are_refused():
    same = plugin("same", adjust_grads=lambda self: None)
    assert "same#2" in refused(same, same)


# Wrappers


def wrapping(calls: list[str], letter: str, change: Any = lambda answer: answer) -> Any:
    def around(self: Any) -> Any:
        calls.append(f"{letter}>")
        answer = yield
        calls.append(f"<{letter}")
        return change(answer)

    return around


def losses_of(*plugins: Any) -> Loss:
    batch = batch_of()
    return hooks_of(*plugins).compute_loss(MLP(), batch, Adv(batch.x))


def constant_loss(calls: list[str] | None = None, error: BaseException | None = None) -> Any:
    def compute_loss(self: Any, batch: Batch) -> Tensor:
        if calls is not None:
            calls.append("loss")
        if error is not None:
            raise error
        return torch.ones(len(batch.y))

    return plugin("loss", compute_loss=compute_loss)


def wrapper(label: str, around: Any) -> Any:
    return plugin(label, wrapper=True, compute_loss=around)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_first_listed_wrapper_is_outermost_wherever_the_provider_stands(position: int):
    calls: list[str] = []
    stack = [wrapper("a", wrapping(calls, "a")), wrapper("b", wrapping(calls, "b"))]
    stack.insert(position, constant_loss(calls))
    losses_of(*stack)
    assert calls == ["a>", "b>", "loss", "<b", "<a"]


def test_a_wrapper_may_change_the_answer():
    change = wrapping([], "w", lambda answer: Loss(answer.per_example * 3, torch.tensor(2.0)))
    loss = losses_of(wrapper("w", change), constant_loss())
    assert torch.equal(loss.per_example, torch.full((6,), 3.0))
    assert loss.penalty == 2


def test_a_wrapper_sees_the_exception_of_the_provider_and_may_answer_in_its_place():
    seen: list[str] = []

    def rescue(self: Any, batch: Batch) -> Any:
        try:
            return (yield)
        except HookError as error:
            seen.append(str(error))
            return Loss(torch.zeros(len(batch.y)))

    loss = losses_of(wrapper("w", rescue), constant_loss(error=ValueError("no")))
    assert torch.equal(loss.per_example, torch.zeros(6))
    assert "plugin 'loss'" in seen[0]


def test_a_provider_is_to_blame_for_its_exception_through_any_wrapper():
    calls: list[str] = []
    with pytest.raises(HookError, match=r"plugin 'loss' .*hook compute_loss, epoch 1, step 1:\n  ValueError: no"):
        losses_of(wrapper("w", wrapping(calls, "w")), constant_loss(error=ValueError("no")))
    assert calls == ["w>"]


def before(self: Any) -> Any:
    raise KeyError("before")
    yield


def after(self: Any) -> Any:
    yield
    raise KeyError("after")


def not_at_all(self: Any) -> Any:
    return
    yield


def twice(self: Any) -> Any:
    yield
    yield


def twice_on_error(self: Any) -> Any:
    try:
        yield
    except HookError:
        yield


@pytest.mark.parametrize(
    ("around", "message"),
    [
        (before, "KeyError: 'before'"),
        (after, "KeyError: 'after'"),
        (not_at_all, "a wrapper must yield exactly once, this one did not yield"),
        (twice, "a wrapper must yield exactly once, this one yielded twice"),
    ],
)
def test_a_wrapper_is_to_blame_for_its_own_faults(around: Any, message: str):
    outer: list[str] = []
    with pytest.raises(HookError, match=rf"plugin 'w' .*hook compute_loss, epoch 1, step 1:\n  {re.escape(message)}"):
        losses_of(wrapper("outer", wrapping(outer, "o")), wrapper("w", around), constant_loss())
    assert outer == ["o>"]  # the outer one saw the exception at its yield


def test_a_wrapper_that_yields_twice_after_an_exception_is_refused():
    with pytest.raises(HookError, match=r"plugin 'w' .*\n.*yielded twice"):
        losses_of(wrapper("w", twice_on_error), constant_loss(error=ValueError("no")))


def test_an_outer_wrapper_closes_when_an_inner_one_fails_before_its_yield():
    closed = []

    def closing(self: Any) -> Any:
        try:
            yield
        finally:
            closed.append(True)

    with pytest.raises(HookError, match="plugin 'inner'"):
        losses_of(wrapper("outer", closing), wrapper("inner", before), constant_loss())
    assert closed == [True]


def test_an_interruption_passes_through_wrappers_as_it_is():
    calls: list[str] = []

    def closing(self: Any) -> Any:
        try:
            yield
        finally:
            calls.append("closed")

    with pytest.raises(KeyboardInterrupt):
        losses_of(wrapper("w", closing), constant_loss(error=KeyboardInterrupt()))
    assert calls == ["closed"]


def test_the_attack_is_wrapped_inside_the_attack_mode():
    seen = []

    def around(self: Any, model: nn.Module) -> Any:
        seen.append(model.training)
        answer = yield
        seen.append(model.training)
        return answer

    step(engine_of(MLP(), "fgsm", plugin("w", wrapper=True, generate_adv=around)))
    assert seen == [False, False]


# Wrong answers


def call_generate_adv(hooks: Hooks) -> None:
    hooks.generate_adv(MLP(), batch_of())


def call_compute_loss(hooks: Hooks) -> None:
    hooks.compute_loss(MLP(), batch_of(), Adv(batch_of().x))


def call_transform_batch(hooks: Hooks) -> None:
    hooks.transform_batch(batch_of())


def call_perturb_weights(hooks: Hooks) -> None:
    hooks.perturb_weights(MLP(), batch_of(), Adv(batch_of().x), None)


def call_ensemble_weights(hooks: Hooks) -> None:
    hooks.tracks(MLP())


CALLS = {
    "generate_adv": call_generate_adv,
    "compute_loss": call_compute_loss,
    "transform_batch": call_transform_batch,
    "perturb_weights": call_perturb_weights,
    "ensemble_weights": call_ensemble_weights,
}
X = batch_of().x
Y = batch_of().y
NAN = torch.full((6,), torch.nan)


WRONG_ANSWERS = [
    ("generate_adv", None, r"expected an Adv or a tensor, got None \(is a 'return' missing\?\); return Adv\(x\)"),
    ("generate_adv", (X, {}), "expected an Adv or a tensor, got a tuple"),
    pytest.param("generate_adv", Adv(None), "expected an Adv or a tensor"),
    ("generate_adv", X[:5], r"expected adversarial examples like .*\(6, 1, 4, 4\).*got a tensor \(5, 1, 4, 4\)"),
    ("generate_adv", X.double(), "expected adversarial examples like .*torch.float32.*got.*torch.float64"),
    ("generate_adv", X.to("meta"), "expected adversarial examples like .*on cpu.*got.*on meta"),
    ("generate_adv", X.clone().requires_grad_(), r"expected detached adversarial examples; return x_adv\.detach\(\)"),
    (
        "generate_adv",
        Adv(X, {"kappa": torch.zeros(5)}),
        r"aux 'kappa': expected a tensor \[6,\.\.\.\], got a tensor \(5,\)",
    ),
    ("generate_adv", Adv(X, {"kappa": torch.zeros(())}), r"aux 'kappa': expected a tensor \[6,\.\.\.\]"),
    ("generate_adv", Adv(X, {"kappa": 3}), r"aux 'kappa': expected a tensor \[6,\.\.\.\], got a int"),
    ("generate_adv", X * torch.nan, "expected finite adversarial examples, got NaN or infinity"),
    ("generate_adv", X + 0.05 - X.min(), r"(?s)expected values in \[0, 1\], got .*use ctx\.threat\.project"),
    ("generate_adv", 1 - X, "within linf distance 1/10 of x, got"),
    ("compute_loss", None, r"expected losses \[B\] or a Loss, got None \(is a 'return' missing\?\)"),
    ("compute_loss", torch.zeros(()), r"expected floating-point losses of shape \(6,\).*one loss per example"),
    ("compute_loss", torch.zeros(6, 1), r"expected floating-point losses of shape \(6,\)"),
    ("compute_loss", torch.zeros(6, dtype=torch.int64), "expected floating-point losses"),
    pytest.param("compute_loss", Loss(None), "expected floating-point losses"),
    ("compute_loss", Loss(torch.zeros(6), torch.zeros(1)), r"expected a 0-dim penalty, got .*\(1,\)"),
    pytest.param("compute_loss", Loss(torch.zeros(6), 0.5), "expected a 0-dim penalty"),
    ("compute_loss", NAN, "expected a finite training loss"),
    ("compute_loss", Loss(torch.zeros(6), torch.tensor(torch.inf)), "expected a finite training loss"),
    ("transform_batch", None, r"expected a Batch, got None \(is a 'return' missing\?\)"),
    ("transform_batch", X, "expected a Batch, got a tensor"),
    ("transform_batch", Batch(X.double(), Y), r"expected x \[B,\*\] of torch.float32 on cpu"),
    ("transform_batch", Batch(X[:5], Y), r"expected int64 labels \[5\] .*, got a tensor \(6,\)"),
    pytest.param("transform_batch", Batch(X, None), "expected tensors x and y"),
    ("transform_batch", Batch(X + 1, Y), "expected inputs inside the threat model's box"),
    ("perturb_weights", X, "expected a context manager or None, got a tensor"),
    ("ensemble_weights", MLP(), "expected a Track or None at event 'evaluate', got a MLP"),
]


@pytest.mark.parametrize(("hook", "answer", "message"), WRONG_ANSWERS)
def test_a_wrong_answer_names_plugin_hook_epoch_and_step(hook: str, answer: Any, message: str):
    hooks = hooks_of(plugin("culprit", **{hook: lambda self: answer}), epoch=3, at_step=14)
    with pytest.raises(HookError, match=message) as caught:
        CALLS[hook](hooks)
    assert re.match(rf"plugin 'culprit' \(.*\), hook {hook}, epoch 4, step 15:\n  ", str(caught.value))


@pytest.mark.parametrize("hook", CALLS)
def test_an_exception_names_plugin_hook_epoch_and_step(hook: str):
    def fail(self: Any) -> None:
        raise ZeroDivisionError("oops")

    hooks = hooks_of(plugin("culprit", **{hook: fail}), epoch=3, at_step=14)
    with pytest.raises(
        HookError, match=rf"^plugin 'culprit' \(.*\), hook {hook}, epoch 4, step 15:\n  ZeroDivisionError: oops$"
    ) as caught:
        CALLS[hook](hooks)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_fault_of_an_installed_plugin_names_distribution_and_version():
    engine = engine_of(MLP(), {"pgd": {"loss": "margin"}})
    soft = torch.full((6, 3), 1 / 3)
    with pytest.raises(
        HookError, match=r"plugin 'pgd' \(buttress 0\.\S+\), hook generate_adv.*\n  ValueError: loss margin"
    ):
        engine.step(batch_of().x, soft)


def test_a_plugin_that_refuses_its_input_is_named_and_the_kind_of_error_stays():
    def fail(self: Any) -> None:
        raise ConfigError("start: too late")

    with pytest.raises(ConfigError, match=r"^plugin 'p' \(.*\): start: too late$"):
        call_transform_batch(hooks_of(plugin("p", transform_batch=fail)))


@pytest.mark.parametrize("event", ["step", "epoch"])
def test_a_track_is_expected_at_event_evaluate_only(event: str):
    hooks = hooks_of(plugin("eager", ensemble_weights=lambda self: Track("t", None)))
    with pytest.raises(HookError, match=rf"plugin 'eager'.*\n  expected None at event '{event}', got a Track"):
        hooks.ensemble_weights(MLP(), event)


def test_a_bare_tensor_stands_for_adv_and_loss():
    hooks = hooks_of(plugin("a", generate_adv=lambda self, batch: batch.x), constant_loss())
    adv = hooks.generate_adv(MLP(), batch_of())
    assert isinstance(adv, Adv)
    assert adv.aux == {}
    assert hooks.compute_loss(MLP(), batch_of(), adv).penalty is None


@pytest.mark.parametrize("yielded", [3, torch.zeros(1)])
def test_a_perturbation_that_yields_no_adv_is_named(yielded: Any):
    from contextlib import contextmanager

    @contextmanager
    def manager() -> Any:
        yield yielded

    with pytest.raises(HookError, match=r"plugin 'p'.*\n  its context manager must yield an Adv or nothing, got a"):
        step(engine_of(MLP(), clean_attack(), plugin("p", perturb_weights=lambda self: manager())))


def test_an_exception_at_the_exit_of_a_perturbation_is_named():
    from contextlib import contextmanager

    @contextmanager
    def manager() -> Any:
        yield
        raise ZeroDivisionError("at exit")

    with pytest.raises(HookError, match=r"plugin 'p'.*hook perturb_weights.*\n  ZeroDivisionError: at exit"):
        step(engine_of(MLP(), clean_attack(), plugin("p", perturb_weights=lambda self: manager())))


def test_detached_losses_are_a_wrong_answer_of_the_plugin():
    detached = plugin("detached", compute_loss=lambda self, batch: torch.ones(len(batch.y)))
    with pytest.raises(HookError, match=r"plugin 'detached'.*hook compute_loss"):
        step(engine_of(MLP(), clean_attack(), detached))


@pytest.mark.parametrize("hook", ["generate_adv", "compute_loss"])
def test_a_wrapper_sees_an_adv_or_a_loss_also_when_the_provider_answers_with_a_tensor(hook: str):
    seen = []
    watcher = plugin("w", wrapper=True, **{hook: wrapping([], "w", lambda answer: seen.append(answer) or answer)})
    answers = {"generate_adv": X, "compute_loss": torch.zeros(6)}
    CALLS[hook](hooks_of(watcher, plugin("p", **{hook: lambda self: answers[hook]})))
    assert [type(answer) for answer in seen] == [{"generate_adv": Adv, "compute_loss": Loss}[hook]]


@pytest.mark.parametrize("hook", ["generate_adv", "compute_loss"])
def test_a_wrapper_that_forgets_to_return_the_answer_is_named(hook: str):
    hooks = hooks_of(plugin("w", wrapper=True, **{hook: wrapping([], "w", lambda answer: None)}))
    with pytest.raises(HookError, match=r"plugin 'w' .*\n  a wrapper must return the answer, got None"):
        CALLS[hook](hooks)


@pytest.mark.parametrize(
    ("hook", "change"),
    [
        ("generate_adv", lambda adv: 3),
        ("generate_adv", lambda adv: Adv(adv.x[1:])),
        ("compute_loss", lambda loss: Loss(loss.per_example.mean())),
    ],
)
def test_a_wrong_answer_of_a_wrapper_is_not_blamed_on_the_provider(hook: str, change: Any):
    hooks = hooks_of(plugin("w", wrapper=True, **{hook: wrapping([], "w", change)}))
    with pytest.raises(HookError, match=r"plugin 'w' (?s:.*)expected "):
        CALLS[hook](hooks)


@pytest.mark.parametrize("hook", ["generate_adv", "compute_loss"])
def test_a_wrong_answer_of_the_provider_is_not_blamed_on_a_wrapper(hook: str):
    around = wrapping([], "w", lambda answer: answer.aux or answer.per_example)
    hooks = hooks_of(plugin("w", wrapper=True, **{hook: around}), plugin("p", **{hook: lambda self: None}))
    with pytest.raises(HookError, match=r"plugin 'p' (?s:.*)expected .*got None \(is a 'return' missing\?\)"):
        CALLS[hook](hooks)


def tracking(track: Track) -> Engine:
    return engine_of(
        ConvNet(),
        clean_attack(ensemble_weights=lambda self, event: track if event == "evaluate" else None),
    )


@pytest.mark.parametrize(
    "buffers",
    [
        {"ghost": torch.zeros(4)},
        {"bn.running_mean": torch.zeros(7)},
        {"bn.running_mean": torch.ones(1)},
        {"bn.running_mean": 3},
    ],
    ids=["unknown", "other shape", "broadcast", "no tensor"],
)
def test_the_given_buffers_of_a_track_are_those_of_the_model(buffers: Any):
    engine = tracking(Track("t", None, "given", buffers))
    with pytest.raises(HookError, match=r"plugin 'attack'.*hook ensemble_weights"):
        engine.tracks()


def test_a_track_with_a_mistyped_choice_of_buffers_is_refused():
    engine = tracking(Track("t", weights_of(ConvNet()), "re-estimate"))  # type: ignore[arg-type]
    with pytest.raises(HookError, match="reestimate"):
        engine.tracks()


def test_the_weights_of_a_track_are_tensors():
    engine = tracking(Track("t", dict.fromkeys(weights_of(ConvNet()), 3)))  # type: ignore[arg-type]
    with pytest.raises(HookError, match=r"plugin 'attack'.*hook ensemble_weights"):
        engine.tracks()


@pytest.mark.parametrize(
    "change",
    [
        {"y": torch.tensor(1)},
        {"x": torch.tensor(0.5)},
        {"x": torch.zeros(0, 1, 4, 4), "y": torch.zeros(0, dtype=torch.int64)},
        {"x": torch.zeros(2, 1, 4, 4), "y": torch.zeros(2, dtype=torch.int64)},
    ],
    ids=["0-dim y", "0-dim x", "empty", "index of other examples"],
)
def test_a_transformed_batch_has_as_many_labels_and_positions_as_examples(change: dict[str, Tensor]):
    batch = batch_of()
    bad = clean_attack(transform_batch=lambda self, batch: replace(batch, **change))
    with pytest.raises(HookError, match=r"plugin 'attack'.*hook transform_batch"):
        engine_of(MLP(), bad).step(batch.x, batch.y, index=batch.index)


def test_a_loss_under_another_method_name_is_the_provider():
    class Renamed:
        name = "renamed"

        @hookimpl(specname="compute_loss")
        def hinge(self, model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
            return F.cross_entropy(model(adv.x), batch.y, reduction="none")

    engine = engine_of(MLP(), clean_attack(), Renamed())
    assert [loaded.label for loaded in engine.plugins] == ["attack", "renamed"]
