"""Whatever a hook does to the model before it raises, the model is put back; without raising, the hook is refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from buttress import Batch, Split, evaluate
from buttress.components.loaded import LoadedPlugin
from buttress.errors import HookError
from buttress.training.loggers import Loggers
from tests.core.helpers import LINF, assert_same, batch_of, engine_of, plugin, snapshot, step
from tests.models import ConvNet


def replaced_parameter(model: ConvNet) -> None:
    model.linear.weight = nn.Parameter(torch.zeros(3, 4))


def other_memory(model: ConvNet) -> None:
    model.conv.weight.data = torch.zeros(2, 2)


def computed_into(model: ConvNet) -> None:
    model.linear.weight.requires_grad_(False)
    model.linear.weight.mul_(torch.ones((), requires_grad=True))


EXCHANGES: dict[str, Callable[[ConvNet], object]] = {
    "bfloat16": lambda model: model.bfloat16(),
    "double": lambda model: model.double(),
    "half": lambda model: model.half(),
    "other memory": other_memory,
    "a parameter replaced": replaced_parameter,
    "a parameter removed": lambda model: delattr(model.linear, "bias"),
    "a parameter added": lambda model: model.linear.register_parameter("extra", nn.Parameter(torch.ones(2))),
    "a module replaced": lambda model: setattr(model, "linear", nn.Linear(4, 3)),
    "a module removed": lambda model: delattr(model, "bn"),
    "a module added": lambda model: model.add_module("extra", nn.Linear(2, 2)),
    "a parametrization": lambda model: parametrizations.weight_norm(model.linear),
}
"""What is refused also where the hook does not raise."""

OTHERS: dict[str, Callable[[ConvNet], object]] = {
    "a buffer removed": lambda model: delattr(model.bn, "running_mean"),
    "a buffer replaced": lambda model: setattr(model.bn, "running_var", torch.zeros(7)),
    "a buffer written": lambda model: model.bn.running_mean.fill_(torch.nan),
    "statistics moved": lambda model: model.train()(batch_of().x),
    "a hook on a module": lambda model: model.linear.register_forward_hook(lambda *_: None),
    "a gradient in another dtype": lambda model: model.bfloat16().double(),
    "computed into": computed_into,
    "a forward of its own": lambda model: setattr(model, "forward", lambda x: None),
    "modes and flags": lambda model: model.eval().requires_grad_(False),
}


def view(model: nn.Module) -> dict[str, Any]:
    """All that the model is made of, objects by their identity."""
    objects = {name: id(value) for name, value in [*model.named_modules(), *model.named_parameters()]}
    flags = {name: (w.requires_grad, w.grad is None, w.data_ptr()) for name, w in model.named_parameters()}
    modules = {
        name: (m.training, type(m), len(m._forward_hooks), sorted(m.__dict__)) for name, m in model.named_modules()
    }
    return {"objects": objects, "flags": flags, "modules": modules}


def values(model: nn.Module) -> dict[str, Tensor]:
    grads = {f"{name}.grad": w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}
    return snapshot(model) | grads


def spoiler(hook: str, now: Callable[[], object]) -> Any:
    """A plugin that calls ``now`` in ``hook``, which then answers as if nothing had happened."""

    @contextmanager
    def entering() -> Iterator[None]:
        now()
        yield

    def compute_loss(self: Any, model: nn.Module, batch: Batch) -> Tensor:
        losses = nn.functional.cross_entropy(model(batch.x), batch.y, reduction="none")
        now()
        return losses

    bodies = {
        "transform_batch": lambda self, batch: (now(), batch)[1],
        "generate_adv": lambda self, batch: (now(), batch.x)[1],
        "perturb_weights": lambda self: entering(),
        "compute_loss": compute_loss,
        "adjust_grads": lambda self: now(),
    }
    return plugin("bad", **{hook: bodies[hook]})


def spoiling(model: nn.Module, what: str, error: BaseException | None) -> Callable[[], None]:
    def now() -> None:
        (EXCHANGES | OTHERS)[what](model)
        if error is not None:
            raise error

    return now


def engine_after_a_step(hook: str, what: str, error: BaseException | None) -> Any:
    """The plugin begins to spoil the model in the next step."""
    model, armed = ConvNet(), []
    now = spoiling(model, what, error)
    bad = spoiler(hook, lambda: now() if armed else None)
    engine = engine_of(model, *([] if hook == "generate_adv" else ["fgsm"]), bad)
    step(engine)
    armed.append(True)
    return engine


HOOKS = ["transform_batch", "generate_adv", "perturb_weights", "compute_loss", "adjust_grads"]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("what", [*EXCHANGES, *OTHERS])
def test_a_hook_that_raises_leaves_the_model_bit_for_bit(what: str, hook: str):
    engine = engine_after_a_step(hook, what, MemoryError("the real reason"))
    seen, before = view(engine.model), values(engine.model)
    with pytest.raises(
        HookError,
        match=rf"(?s)plugin 'bad' .*hook {hook}, .*\n  MemoryError: the real reason \(.*\)$",
    ):
        step(engine, seed=1)
    assert view(engine.model) == seen
    assert_same(values(engine.model), before)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("what", EXCHANGES)
def test_a_hook_that_exchanges_a_part_is_refused(what: str, hook: str):
    engine = engine_after_a_step(hook, what, None)
    seen, before = view(engine.model), values(engine.model)
    with pytest.raises(HookError, match=rf"(?s)plugin 'bad' .*hook {hook}, .*\n  (parameter|module) '.*' (of the|was)"):
        step(engine, seed=1)
    assert view(engine.model) == seen
    assert_same(values(engine.model), before)


@pytest.mark.parametrize("what", [*EXCHANGES, *OTHERS])
def test_an_attack_that_raises_in_an_evaluation_leaves_the_model_bit_for_bit(what: str):
    model, given = ConvNet(), batch_of()
    attack = spoiler("generate_adv", spoiling(model, what, MemoryError("the real reason")))
    seen, before = view(model), values(model)
    with pytest.raises(
        HookError,
        match=r"(?s)plugin 'bad' .*, evaluation, batch 1:\n  MemoryError: the real reason \(.*\)$",
    ):
        evaluate(model, Split(given.x, given.y), LoadedPlugin("bad", attack), LINF)
    assert view(model) == seen
    assert_same(values(model), before)


def test_an_attack_of_an_evaluation_moves_neither_weights_nor_buffers():
    def spoil(model: ConvNet) -> None:
        model.bn.running_mean.fill_(torch.nan)
        model.conv.weight.data.zero_()  # a write that torch does not count

    model, given = ConvNet(), batch_of()
    before, attack = values(model), spoiler("generate_adv", lambda: spoil(model))
    scores = [evaluate(model, Split(given.x, given.y), each, LINF) for each in ("clean", LoadedPlugin("bad", attack))]
    assert_same(values(model), before)
    assert torch.equal(scores[0].robust_losses, scores[1].robust_losses)


def test_the_user_may_exchange_parts_between_steps():
    model = ConvNet()
    engine = engine_of(model, "fgsm")
    step(engine)
    model.linear = nn.Linear(4, 3)
    step(engine)


class MuteError(ValueError):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class UnusualError(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MuteError(), r"MuteError: \(no text: its __str__ raised RuntimeError\) \(.*\)$"),
        (ValueError("x" * 100_000), r"ValueError: x{2000}\.\.\. \(100,000 characters\) \(.*\)$"),
        (UnusualError("odd"), r"UnusualError: odd \(.*\)$"),
        (GeneratorExit("done"), r"GeneratorExit: done \(.*\)$"),
    ],
    ids=["mute", "endless", "no Exception", "GeneratorExit"],
)
def test_any_exception_carries_the_name_of_the_plugin(error: BaseException, text: str):
    def fail(self: Any, batch: Batch) -> Any:
        raise error

    with pytest.raises(HookError, match=rf"(?s)plugin 'bad' .*, epoch 1, step 1:\n  {text}"):
        step(engine_of(ConvNet(), plugin("bad", generate_adv=fail)))


@pytest.mark.parametrize("what", ["bfloat16", "a module removed", "a buffer written"])
def test_a_logger_that_fails_leaves_the_model_bit_for_bit(what: str, tmp_path: Path):
    engine, said = engine_of(ConvNet(), "fgsm"), list[str]()
    step(engine)
    now = spoiling(engine.model, what, ValueError("no"))
    loggers = Loggers([plugin("bad", log=lambda self: now())], engine, tmp_path, said.append)
    seen, before = view(engine.model), values(engine.model)
    loggers.log({"event": "train"})
    assert "ValueError: no" in said[0]
    assert view(engine.model) == seen
    assert_same(values(engine.model), before)
