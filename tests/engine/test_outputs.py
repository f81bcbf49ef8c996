"""``ctx.outputs``: the logits that the loss has computed, for the loss and its wrappers, by identity of the input."""

import copy
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from buttress import Adv, Batch, Loss, hookimpl
from buttress.errors import HookError

from ..core.helpers import adding, batch_of, clean_attack, engine_of, plugin, snapshot, step
from ..models import MLP, ConvNet


def seeing(action: Any, label: str = "seeing") -> Any:
    """A wrapper that does ``action(batch, adv, ctx)`` after the loss."""

    def compute_loss(self: Any, batch: Batch, adv: Adv, ctx: Any) -> Any:
        loss = yield
        action(batch, adv, ctx)
        return loss

    return plugin(label, wrapper=True, compute_loss=compute_loss)


def loss_of(forward: Any) -> Any:
    """A loss on the logits ``forward(model, batch, adv)``."""

    def compute_loss(self: Any, model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
        return F.cross_entropy(forward(model, batch, adv), batch.y, reduction="none")

    return plugin("loss", compute_loss=compute_loss)


def outputs_of(forward: Any, model: nn.Module | None = None) -> tuple[Tensor | None, Tensor | None]:
    """The outputs for ``batch.x`` and ``adv.x`` that a wrapper sees around a loss on ``forward(model, batch, adv)``."""
    seen: list[Any] = []
    wrapper = seeing(lambda batch, adv, ctx: seen.append((ctx.outputs(batch.x), ctx.outputs(adv.x))))
    step(engine_of(model or MLP(), "fgsm", loss_of(forward), wrapper))
    return seen[0]


def test_the_loss_and_every_wrapper_see_the_very_logits_of_the_loss():
    seen: dict[str, Any] = {}

    def compute_loss(self: Any, model: nn.Module, batch: Batch, adv: Adv, ctx: Any) -> Tensor:
        seen["before"] = ctx.outputs(adv.x)
        seen["logits"] = logits = model(adv.x)
        seen["loss"] = ctx.outputs(adv.x)
        return F.cross_entropy(logits, batch.y, reduction="none")

    wrappers = [
        seeing(lambda batch, adv, ctx, w=w: seen.update({w: ctx.outputs(adv.x)}), w) for w in ("outer", "inner")
    ]
    step(engine_of(MLP(), "fgsm", *wrappers, plugin("loss", compute_loss=compute_loss)))
    assert seen["before"] is None
    assert seen["loss"] is seen["inner"] is seen["outer"] is seen["logits"]
    assert seen["logits"].requires_grad


def test_a_wrapper_may_add_a_term_to_the_logits_of_the_loss():
    def compute_loss(self: Any, adv: Adv, ctx: Any) -> Any:
        loss = yield
        return Loss(loss.per_example, 0.3 * ctx.outputs(adv.x).square().mean())

    model, reference, batch = MLP().double(), MLP().double(), batch_of(dtype=torch.float64)
    step(engine_of(model, clean_attack(), plugin("squares", wrapper=True, compute_loss=compute_loss), lr=1.0))
    logits = reference(batch.x)
    (F.cross_entropy(logits, batch.y) + 0.3 * logits.square().mean()).backward()
    for weight, start in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(weight, start - start.grad, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("forward", "clean", "attacked"),
    [
        (lambda model, batch, adv: model(adv.x), False, True),
        (lambda model, batch, adv: model(x=adv.x), False, True),
        (lambda model, batch, adv: model(batch.x) + model(adv.x), True, True),
        (lambda model, batch, adv: sum(model(torch.cat([batch.x, adv.x])).chunk(2)), False, False),
        (lambda model, batch, adv: model(adv.x.view_as(adv.x)), False, False),
        (lambda model, batch, adv: model(adv.x.clone()), False, False),
        (lambda model, batch, adv: model.second(torch.tanh(model.first(adv.x.flatten(1)))), False, False),
        (lambda model, batch, adv: copy.deepcopy(model)(adv.x) + model(batch.x), True, False),
        (lambda model, batch, adv: checkpoint(model, adv.x, use_reentrant=False), False, True),
        (lambda model, batch, adv: model(batch.x) + without_graph(model, adv.x), True, False),
        (lambda model, batch, adv: model(adv.x) + without_graph(model, adv.x), False, True),
    ],
    ids=(
        "adv",
        "keyword",
        "both",
        "joined",
        "view",
        "copy",
        "layers",
        "other model",
        "checkpoint",
        "no graph",
        "again",
    ),
)
def test_a_call_of_the_whole_model_on_the_very_tensor_counts(forward: Any, clean: bool, attacked: bool):
    of_clean, of_adv = outputs_of(forward)
    assert (of_clean is not None, of_adv is not None) == (clean, attacked)
    assert all(logits is None or (logits.shape == (6, 3) and logits.requires_grad) for logits in (of_clean, of_adv))


def without_graph(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x)


def test_the_last_of_several_calls_counts():
    logits: list[Tensor] = []

    def twice(model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
        logits.extend([model(adv.x), model(adv.x)])
        return logits[0] + logits[1]

    assert outputs_of(twice)[1] is logits[1]


def test_an_attack_that_returns_its_input_gives_one_answer_for_both():
    seen: list[Any] = []
    step(
        engine_of(
            MLP(), clean_attack(), seeing(lambda b, adv, ctx: seen.append((ctx.outputs(b.x), ctx.outputs(adv.x))))
        )
    )
    assert seen[0][0] is seen[0][1] is not None


def test_tensors_of_the_attack_s_own_count():
    def generate_adv(self: Any, batch: Batch) -> Adv:
        return Adv(batch.x, {"second": 1 - batch.x})

    seen: list[Any] = []
    wrapper = seeing(lambda batch, adv, ctx: seen.append(ctx.outputs(adv.aux["second"])))
    loss = loss_of(lambda model, batch, adv: model(adv.aux["second"]))
    step(engine_of(MLP(), plugin("attack", generate_adv=generate_adv), loss, wrapper))
    assert seen[0].shape == (6, 3)


def test_other_inputs_are_not_kept_nor_are_their_graphs():
    inputs: list[Tensor] = []

    def compute_loss(self: Any, model: nn.Module, batch: Batch, adv: Adv, ctx: Any) -> Tensor:
        inputs.append(adv.x + 0)
        model(inputs[0])
        assert ctx.outputs(inputs[0]) is None
        return F.cross_entropy(model(adv.x), batch.y, reduction="none")

    step(engine_of(MLP(), "fgsm", plugin("loss", compute_loss=compute_loss)))
    assert len(inputs) == 1


def test_the_objective_of_a_perturbation_shows_outputs_at_its_own_weights_and_inputs():
    seen: list[tuple[str, Tensor]] = []
    given: dict[str, Any] = {}

    def perturb_weights(self: Any, model: nn.Module, adv: Adv, objective: Any) -> Any:
        given["other"] = Adv(1 - adv.x)
        objective(adv)
        objective(given["other"])
        weights = list(model.parameters())
        return adding(weights, [torch.full_like(weight, 0.5) for weight in weights])

    wrapper = seeing(lambda batch, adv, ctx: seen.append((ctx.phase, ctx.outputs(adv.x))))
    model, batch = MLP().double(), batch_of(dtype=torch.float64)
    before = [MLP().double()(x) for x in (batch.x, 1 - batch.x)]
    step(engine_of(model, clean_attack(), plugin("perturbing", perturb_weights=perturb_weights), wrapper))
    assert [phase for phase, _ in seen] == ["perturb", "perturb", "train"]
    moved = MLP().double()
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(0.5)
    for (_, logits), expected in zip(seen, [*before, moved(batch.x)], strict=True):
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-14)


def test_losses_of_one_call_are_not_shown_in_the_next():
    seen: list[Any] = []

    def compute_loss(self: Any, adv: Adv, ctx: Any) -> Any:
        seen.append(ctx.outputs(adv.x))
        return (yield)

    engine = engine_of(MLP(), clean_attack(), plugin("early", wrapper=True, compute_loss=compute_loss))
    batch = batch_of()
    for _ in range(2):
        engine.step(batch.x, batch.y)
    assert seen == [None, None]


HOOKS = ["start_run", "transform_batch", "generate_adv", "perturb_weights", "adjust_grads", "ensemble_weights"]


@pytest.mark.parametrize("hook", HOOKS)
def test_outside_of_the_loss_the_outputs_are_refused(hook: str):
    def ask(self: Any, ctx: Any) -> None:
        ctx.outputs(torch.zeros(1))

    attack = [] if hook == "generate_adv" else [clean_attack()]
    with pytest.raises(
        HookError, match=rf"'asking'.*, hook {hook}(.|\n)*ctx\.outputs\(x\) is available in compute_loss"
    ):
        step(engine_of(MLP(), *attack, plugin("asking", **{hook: ask})))


def test_in_the_manager_of_a_perturbation_the_outputs_are_refused():
    @contextmanager
    def asking(ctx: Any) -> Any:
        ctx.outputs(torch.zeros(1))
        yield

    asker = plugin("asking", perturb_weights=lambda self, ctx: asking(ctx))
    with pytest.raises(HookError, match=r"'asking'(.|\n)*ctx\.outputs\(x\) is available in compute_loss"):
        step(engine_of(MLP(), clean_attack(), asker))


def test_after_a_loss_that_raises_the_outputs_are_refused_and_the_model_is_its_own():
    def fail(model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
        model(adv.x)
        raise ValueError("no")

    model = MLP()
    before = sorted(vars(model))
    engine = engine_of(model, clean_attack(), loss_of(fail))
    with pytest.raises(HookError, match="ValueError: no"):
        step(engine)
    assert sorted(vars(model)) == before
    assert engine.hooks.table["compute_loss"].providers[0].context._state.outputs is None


def test_nothing_looks_at_calls_outside_of_the_loss_but_the_one_way_into_the_model():
    model, seen = ConvNet(), []
    before = sorted(vars(model))
    looking = plugin("looking", adjust_grads=lambda self, model: seen.append(sorted(vars(model))))
    engine = engine_of(model, "fgsm", looking, seeing(lambda *_: None))
    for _ in range(2):
        step(engine)
    assert seen[1] == sorted([*before, "_compiled_call_impl"])  # the first step looks at all calls of the model
    assert sorted(vars(model)) == before
    assert not model._forward_hooks


def test_a_forward_hook_of_the_user_s_own_changes_the_outputs():
    model = MLP()
    model.register_forward_hook(lambda module, args, output: 2 * output)
    logits = outputs_of(lambda model, batch, adv: model(adv.x), model)[1]
    batch = batch_of()
    seen: list[Any] = []
    step(engine_of(model, clean_attack(), seeing(lambda batch, adv, ctx: seen.append(ctx.outputs(adv.x))), lr=0.0))
    torch.testing.assert_close(seen[0], model(batch.x))
    assert logits is not None


class Wrapped(nn.Module):
    """A model around a model."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return -self.inner(x)


def compiled_in_place(counter: Any) -> nn.Module:
    model = ConvNet()
    model.compile(backend=counter, fullgraph=True)
    return model


COMPILED = {
    "in place": compiled_in_place,
    "around": lambda counter: torch.compile(ConvNet(), backend=counter),
    "inside": lambda counter: Wrapped(torch.compile(ConvNet(), backend=counter)),
}


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_model_shows_its_outputs_and_is_not_compiled_for_it(name: str):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model, seen = COMPILED[name](counter), []
    batch, start = batch_of(), snapshot(model)
    engine = engine_of(model, clean_attack(), seeing(lambda b, adv, ctx: seen.append(ctx.outputs(adv.x))), lr=0.0)
    for _ in range(3):
        engine.step(batch.x, batch.y)
    assert counter.frame_count == 1
    plain = Wrapped(ConvNet()) if name == "inside" else ConvNet()
    plain.load_state_dict({key.replace("_orig_mod.", ""): value for key, value in start.items()})
    assert all(logits is not None for logits in seen)
    torch.testing.assert_close(seen[-1], plain(batch.x))


def test_the_training_accuracy_is_a_metric_that_costs_no_forward():
    class TrainingAccuracy:
        @hookimpl(wrapper=True)
        def compute_loss(self, batch: Batch, adv: Adv, ctx: Any) -> Any:
            loss = yield
            logits = ctx.outputs(adv.x)
            if ctx.phase == "train" and logits is not None:
                ctx.record("accuracy", (logits.argmax(1) == batch.y).float().mean())
            return loss

    batch, model, calls = batch_of(), MLP(), []
    expected = (MLP()(batch.x).argmax(1) == batch.y).float().mean()
    model.register_forward_hook(lambda *_: calls.append(1))
    engine = engine_of(model, clean_attack(), TrainingAccuracy())
    engine.step(batch.x, batch.y)
    assert len(calls) == 1
    assert engine.records()["TrainingAccuracy.accuracy"] == pytest.approx(float(expected))
