"""The penalty of GradAlign by hand, and what it does not touch."""

import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from buttress import Engine, ThreatModel
from buttress_plugins.losses.grad_align import misalignment

from ..models import ConvNet
from .conftest import batch_of, engine_of

ALONE: Any = SimpleNamespace(sum=lambda values: values, size=len)
"""The context of one process, as far as the penalty asks it."""


def vectors(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


def test_the_mean_of_one_minus_cosine_skips_zero_gradients():
    first = vectors([1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [3.0, 0.0])
    second = vectors([0.0, 2.0], [1.0, 0.0], [-1.0, -1.0], [0.0, 0.0])
    value = misalignment(first, second, ALONE)
    assert value.item() == pytest.approx((1 + 2) / 2)
    for grad in torch.autograd.grad(value, (first, second)):
        assert bool(torch.isfinite(grad).all())
        assert not bool(grad[[1, 3]].any())


def test_without_any_gradient_the_penalty_is_zero():
    first = vectors([0.0, 0.0])
    value = misalignment(first, vectors([0.0, 0.0]), ALONE)
    assert value.item() == 0
    (grad,) = torch.autograd.grad(value, first)
    assert not bool(grad.any())


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_only_directions_count_however_small_or_large_the_gradients(scale: float):
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn((2, 5, 7), generator=generator)
    expected = (1 - F.cosine_similarity(first.double(), second.double(), dim=1)).mean()
    assert float(misalignment(scale * first, second, ALONE)) == pytest.approx(float(expected), rel=1e-5)


def test_a_linear_model_of_two_classes_has_nothing_to_align():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    batch = batch_of(dtype=torch.float64)
    engine = engine_of(model, "fgsm", "grad_align")
    engine.step(batch.x, batch.y % 2)
    assert engine.records()["grad_align.misalignment"] == pytest.approx(0, abs=1e-12)


def test_the_penalty_stays_beside_the_losses_and_out_of_a_weight_perturbation():
    def losses(*plugins: object) -> torch.Tensor:
        torch.manual_seed(0)
        batch = batch_of(dtype=torch.float64)
        sgd = functools.partial(torch.optim.SGD, lr=0.1)
        engine = Engine(ConvNet().double(), sgd, ["fgsm", *plugins], ThreatModel("linf", "1/10"))
        return engine.step(batch.x, batch.y).losses

    awp = {"awp": {"gamma": 0.05}}
    assert torch.equal(losses(awp), losses(awp, {"grad_align": {"lam": 5.0}}))
