"""CFA: what it counts, how far its examples reach, what it refuses, and what it is without its two parts."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Batch, Engine, ThreatModel
from buttress.errors import ButtressError
from buttress_plugins.attacks.cfa import CFA, class_accuracy, count, into_ball

from ..models import ConvNet
from .conftest import batch_of, context, engine_of

X = batch_of(6, dtype=torch.float64).x
Y = torch.tensor([0, 1, 2, 0, 1, 1])
START = 0.05 * (2 * torch.rand(X.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 1)


def test_classes_are_counted_apart_and_one_that_was_not_seen_keeps_its_accuracy():
    is_right = torch.tensor([True, True, False, False, True, False])
    correct, seen = count(is_right, Y, 4)
    assert correct.tolist() == [1, 2, 0, 0]
    assert seen.tolist() == [2, 3, 1, 0]
    torch.testing.assert_close(class_accuracy(correct, seen, None), torch.tensor([1 / 2, 2 / 3, 0, 0]).double())
    before = torch.full((4,), 0.25, dtype=torch.float64)
    assert float(class_accuracy(correct, seen, before)[3]) == 0.25


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_example_reaches_as_far_as_its_class_may(norm: str):
    threat = ThreatModel(norm, "1/10", None)
    plugin = CFA(num_classes=3, mode="at", begin=0, steps=20)
    plugin.load_state_dict(
        {"accuracy": torch.tensor([0.0, 0.5, 1.0]).double(), "correct": torch.zeros(3), "seen": torch.zeros(3)}
    )
    adv = plugin.generate_adv(ConvNet().double().eval(), Batch(X, Y), context(threat, "cfa"))
    expected = torch.tensor([0.05, 0.10, 0.15], dtype=torch.float64)[Y]
    torch.testing.assert_close(threat.distance(adv.x, X), expected)
    torch.testing.assert_close(adv.aux["eps"].flatten(), expected)
    assert plugin.radius == 1.5


def test_a_perturbation_inside_of_its_ball_stays():
    delta = torch.tensor([[0.3, -0.4], [0.03, -0.04]], dtype=torch.float64)
    radius = torch.tensor([0.1, 0.1], dtype=torch.float64)
    expected = torch.tensor([[0.06, -0.08], [0.03, -0.04]], dtype=torch.float64)
    torch.testing.assert_close(into_ball(delta, radius, "l2"), expected)
    expected = torch.tensor([[0.1, -0.1], [0.03, -0.04]], dtype=torch.float64)
    torch.testing.assert_close(into_ball(delta, radius, "linf"), expected)


def trained(stack: list[Any], draws: dict[str, Tensor], lr: float = 0.1) -> dict[str, Tensor]:
    sgd = functools.partial(torch.optim.SGD, lr=lr, momentum=0.9)
    engine = Engine(ConvNet().double(), sgd, stack, ThreatModel("linf", "1/10"), epochs=3)
    for _ in range(3):
        engine.step(X, Y, draws=draws)
        engine.end_epoch()
    return engine.model.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.allclose(one[name].double(), other[name].double(), rtol=0, atol=1e-12) for name in one)


@pytest.mark.parametrize("mode", ["at", "fat"])
def test_without_its_parts_it_is_pgd_training(mode: str):
    plain = {"num_classes": 3, "mode": mode, "ccm": False, "begin": 0, "tau": 10}
    at = trained(["pgd"], {"pgd.start": START})
    assert same(trained([{"cfa": plain}], {"cfa.start": START}), at)
    assert not same(trained([{"cfa": {**plain, "ccm": True}}], {"cfa.start": START}), at)


def test_without_its_parts_it_is_trades_divided_by_one_plus_beta():
    plain = {"num_classes": 3, "ccm": False, "ccr": False, "begin": 0}
    stack = [{"pgd": {"loss": "kl", "start": "gaussian"}}, "trades"]
    trades = trained(stack, {"pgd.start": START})
    assert same(trained([{"cfa": plain}], {"cfa.start": START}, lr=0.7), trades)
    assert not same(trained([{"cfa": {**plain, "ccr": True}}], {"cfa.start": START}, lr=0.7), trades)


def test_a_number_of_classes_that_leaves_some_out_is_refused_before_the_first_step():
    engine = engine_of(ConvNet(), {"cfa": {"num_classes": 2}}, classes=(4, 1, 2, 0))
    with pytest.raises(
        ButtressError, match=r"cfa.*num_classes: expected at least 3, .*largest label 2, got 2; leave it"
    ):
        engine.start()


def test_a_class_without_training_examples_is_refused_before_the_first_step():
    engine = engine_of(ConvNet(), {"cfa": {"num_classes": 3}}, classes=(4, 0, 2))
    with pytest.raises(ButtressError, match=r"cfa.*expected training examples of all 3 classes.*got none of class 1"):
        engine.start()


def test_a_step_that_was_taken_back_is_not_counted():
    plugin = CFA(num_classes=3, steps=1)
    engine = engine_of(ConvNet(), plugin, nonfinite="skip")
    engine.step(batch_of(6).x, Y)
    with torch.no_grad():
        engine.model.linear.weight.mul_(torch.inf)
    engine.step(batch_of(6).x, Y)
    assert plugin.state_dict()["seen"].tolist() == [2, 3, 1]
