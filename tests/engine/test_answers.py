"""Wrong answers of hooks: each named with plugin, hook, epoch and step."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress import Adv, Batch, Engine, Loss, Track, hookimpl
from buttress.engine.hooks import Hooks
from buttress.errors import ConfigError, HookError

from ..core.helpers import batch_of, clean_attack, engine_of, plugin, step, weights_of
from ..models import MLP, ConvNet
from .helpers import constant_loss, hooks_of, wrapping


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
    ("generate_adv", Adv(X, {"kappa": 3}), r"aux 'kappa': expected a tensor \[6,\.\.\.\], got an int"),
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
        HookError, match=rf"^plugin 'culprit' \(.*\), hook {hook}, epoch 4, step 15:\n  ZeroDivisionError: oops \(.*\)$"
    ) as caught:
        CALLS[hook](hooks)
    fault = caught.value
    assert isinstance(fault.__cause__, ZeroDivisionError)
    assert (fault.plugin, fault.hook, fault.epoch, fault.step) == ("culprit", hook, 3, 14)
    assert fault.place == f"test_answers.py:{fail.__code__.co_firstlineno + 1}"


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
