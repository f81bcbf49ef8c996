"""Inputs from a caller of an evaluation: checked before the attack, which is not to blame for it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Batch, Split, evaluate
from buttress.components.loaded import LoadedPlugin
from buttress.console.reporter import Reporter
from buttress.errors import ConfigError, DataError, ModelError
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import Evaluator
from buttress.scoring.worst_case import attack_all

from ..core.helpers import LINF, assert_same, batch_of, plugin, snapshot
from ..models import MLP, ConvNet

ATTACKS = ("fgsm", "clean", {"pgd": {"steps": 2}}, {"cw": {}}, {"pgd": {"loss": "margin"}})


def split_of(x: Any = None, y: Any = None) -> Split:
    batch = batch_of()
    return Split(batch.x if x is None else x, batch.y if y is None else y)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
@pytest.mark.parametrize("inside", ["call", "all but the model"])
def test_an_evaluation_works_in_whatever_mode_of_autograd_the_caller_is(mode: Any, attack: Any, inside: str):
    model, split, seen = ConvNet(), split_of(), []
    expected = evaluate(model, split, attack, LINF)
    before = snapshot(model)
    with mode():
        if inside == "all but the model":
            split = Split(split.x.clone(), split.y.clone())
        score = evaluate(model, split, attack, LINF, batch_size=4)
        seen.append(torch.is_grad_enabled())
    assert (score.clean, score.robust) == (expected.clean, expected.robust)
    assert not score.robust_losses.is_inference()
    assert_same(before, snapshot(model))
    assert seen == [False]


def test_an_outside_attack_may_take_gradients_there_too():
    def generate_adv(self: Any, model: nn.Module, batch: Any, ctx: Any) -> Tensor:
        x = batch.x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(model(x).sum(), x)
        return ctx.threat.project(batch.x + grad, batch.x)

    attack, model = LoadedPlugin("mine", plugin("mine", generate_adv=generate_adv)), MLP()
    with torch.inference_mode():
        assert evaluate(model, split_of(), attack, LINF).n == 6


X, Y = batch_of().x, batch_of().y
WRONG: dict[str, tuple[Any, Any, str]] = {
    "pixels": (
        X * 255,
        Y,
        r"expected inputs inside the threat model's box, got values in \[.*; scale them, or set box",
    ),
    "nan": (X / 0 * 0, Y, "expected finite inputs, got NaN or infinity"),
    "bytes": (
        (X * 255).to(torch.uint8),
        Y,
        r"expected dense floating-point x \[B,\*\] .*, got a tensor .* of torch.uint8",
    ),
    "flat": (X[:, 0, 0, 0], Y, r"expected dense floating-point x \[B,\*\] with at least one example"),
    "int32": (
        X,
        Y.int(),
        r"expected int64 labels \[6\] or soft labels \[6,K\] on cpu, got a tensor \(6,\) of torch.int32",
    ),
    "floats": (X, Y.float(), "expected int64 labels"),
    "column": (X, Y[:, None], r"expected int64 labels .*, got a tensor \(6, 1\) of torch.int64"),
    "soft": (X, torch.full((6, 3), 1 / 3), r"expected int64 labels \[6\], got a tensor \(6, 3\) of torch.float32"),
    "-100": (X, Y - 100, r"expected labels >= 0, got -\d+ at position 0"),
    "-1": (X, torch.tensor([0, 1, -1, 0, 1, 2]), "expected labels >= 0, got -1 at position 2"),
    "K": (
        X,
        torch.tensor([0, 1, 3, 0, 1, 2]),
        "expected labels from 0 to 2, the model's 3 classes, got 3 at position 2",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_examples_and_labels_are_the_callers_and_not_the_attacks(name: str, attack: Any):
    x, y, message = WRONG[name]
    with pytest.raises(DataError, match=f"^evaluation: {message}"):
        evaluate(MLP(), split_of(x, y), attack, LINF)
    if name == "K":
        return  # how many classes there are is known from the first logits on
    with pytest.raises(DataError, match=f"^evaluation: {message}"):
        Evaluator(MLP(), load_attack(attack), LINF).attacked(Batch(x, y))


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_wrong_model_is_named(attack: Any):
    class Tuple(MLP):
        def forward(self, x: Tensor) -> Any:
            return (super().forward(x),)

    with torch.inference_mode():
        frozen = MLP()
    for model, x, message in (
        (Tuple(), X, r"^model Tuple: expected its forward to return logits .*net\(x\)\[0\]"),
        (MLP(), X.double(), "^evaluation: model MLP cannot take x, .* of torch.float64.*: give both one dtype"),
        (MLP(), X[:, :, :2], r"^evaluation: model MLP cannot take x, a tensor \(6, 1, 2, 4\)"),
        (nn.Flatten(), X, "^evaluation: expected a model with parameters on one device, got none"),
        (lambda x: x, X, "^evaluation: expected a model that is an nn.Module, got a function"),
        (frozen, X, "^evaluation: 'first.weight' of the model was made under torch.inference_mode"),
    ):
        with pytest.raises(ModelError, match=message):
            evaluate(model, split_of(x), attack, LINF)


def test_other_wrong_arguments_are_named():
    for size in (0, -1, 2.5):
        with pytest.raises(ConfigError, match=r"^evaluation: batch_size: expected a number >= 1, got "):
            evaluate(MLP(), split_of(), "fgsm", LINF, batch_size=size)
    with pytest.raises(DataError, match=r"^evaluation: expected a split, buttress.Split\(x, y\), got a tuple of 2"):
        evaluate(MLP(), (X, Y), "fgsm", LINF)


def test_complex_weights_can_be_evaluated():
    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(16, 3, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(1).to(torch.complex64) @ self.weight).abs()

    assert evaluate(Fourier(), split_of(), "fgsm", LINF).n == 6


class Counting(nn.Module):
    """Counts its forwards, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MLP()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return self.net(x)


def test_buffers_that_move_in_eval_mode_are_put_back():
    model = Counting()
    evaluate(model, split_of(), {"pgd": {"steps": 2}}, LINF, batch_size=4)
    assert float(model.count) == 0


# Logits that are not finite


def broken(value: float) -> MLP:
    model = MLP()
    with torch.no_grad():
        model.second.bias[1] = value
    return model


class Some(nn.Module):
    """Gives NaN where the first pixel is large."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MLP()

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x[:, 0, 0, :1] > x[:, 0, 0, :1].median(), torch.nan, self.net(x))


def assess(model: nn.Module, lines: list[str]) -> Any:
    class Saying(Reporter):
        def say(self, text: str) -> None:
            lines.append(text)

    attacks = [("fgsm", load_attack("fgsm"))]
    return attack_all(model, attacks, LINF, split_of(), torch.arange(6), reporter=Saying())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float):
    message = (
        "the logits of model MLP are not finite for any example: 'second.bias' of its weights holds NaN or infinity"
    )
    with pytest.raises(ModelError, match=f"^evaluation: {message}"):
        evaluate(broken(value), split_of(), "clean", LINF)
    with pytest.raises(ModelError, match=f"^evaluate: {message}"):
        assess(broken(value), [])


def test_some_logits_that_are_not_finite_are_said_and_count_as_wrong(caplog: pytest.LogCaptureFixture):
    score = evaluate(Some(), split_of(), "clean", LINF)
    assert 0 < score.nonfinite < 6
    text = f"logits are not finite for {score.nonfinite} of 6 examples, which count as wrong"
    assert f"evaluation: {text}" in caplog.text
    assert int(score.clean_correct.sum()) <= 6 - score.nonfinite
    lines: list[str] = []
    assess(Some(), lines)
    assert f"note: {text}" in lines
