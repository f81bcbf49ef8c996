"""RST: equal to TRADES where all is labelled, its factor, and what RWP makes of examples without a label."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Batch, Engine, ThreatModel, hookimpl
from buttress_plugins.losses.rst import mean_over_labelled, weighted

from ..models import ConvNet
from .conftest import context

N = 8
EXTRA = torch.arange(N) >= 4
LABELLED = torch.arange(N) < 6
NONE = torch.zeros(N, dtype=torch.bool)
KL: dict[str, Any] = {"pgd": {"steps": 2, "loss": "kl", "start": "gaussian"}}


def trained(*plugins: Any, unlabelled: Tensor = NONE, change_labels: bool = False) -> dict[str, Tensor]:
    """Weights and buffers after three steps in float64."""
    torch.manual_seed(0)
    model = ConvNet().double()
    sgd = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    engine = Engine(model, sgd, [KL, *plugins], ThreatModel("linf", "1/10"))
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        x = torch.rand((N, 1, 4, 4), generator=generator, dtype=torch.float64)
        y = torch.randint(3, (N,), generator=generator)
        y = torch.where(unlabelled, (y + change_labels) % 3, y)
        engine.step(x, y, aux={"extra": EXTRA, "unlabelled": unlabelled})
    return dict(model.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_trades_where_all_examples_are_labelled_and_lambda_is_1():
    assert same(trained("rst"), trained("trades"))
    assert not same(trained({"rst": {"unlabelled_weight": 0.5}}), trained("trades"))


def test_the_label_of_an_example_without_one_makes_no_difference():
    some = torch.arange(N) >= 6
    assert same(trained("rst", unlabelled=some), trained("rst", unlabelled=some, change_labels=True))
    assert not same(trained("trades", unlabelled=some), trained("trades", unlabelled=some, change_labels=True))


def test_the_mean_is_over_the_labelled_examples():
    losses = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64, requires_grad=True)
    unlabelled = torch.tensor([False, True, False, True])
    mean = mean_over_labelled(losses, unlabelled, (~unlabelled).sum(), 4).mean()
    assert float(mean.detach()) == 2.0
    (grad,) = torch.autograd.grad(mean, losses)
    assert grad.tolist() == [0.5, 0.0, 0.5, 0.0]
    assert mean_over_labelled(losses, torch.ones(4, dtype=torch.bool), torch.tensor(0), 4).tolist() == [0.0] * 4


def test_the_factor_is_on_the_marked_examples():
    losses = torch.tensor([1.0, 2.0])
    assert weighted(losses, torch.tensor([False, True]), 0.25).tolist() == [1.0, 0.5]
    assert weighted(losses, None, 0.25) is losses


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_loss_stationary_condition_never_keeps_an_example_without_a_label(wrapped: bool):
    kept = []

    class Looks:
        exit_order = "restore_then_step"

        @hookimpl
        def perturb_weights(self, adv, objective):
            mean, count = objective.masked(adv, torch.inf)
            losses = objective(adv)
            expected = torch.where(LABELLED, losses, 0.0).sum() / N
            kept.append((int(count), float(mean.detach()), float(expected.detach())))

    stack = ["rst", *([{"drop_easy": {"c_min": 0.0}}] if wrapped else []), Looks()]
    trained(*stack, unlabelled=~LABELLED)
    assert [count for count, _, _ in kept] == [6, 6, 6]
    for _, mean, expected in kept:
        assert mean == pytest.approx(expected, rel=1e-12)


def test_a_batch_may_lack_every_mark():
    model = ConvNet()
    from buttress_plugins.losses.rst import RST

    batch = Batch(torch.rand(4, 1, 4, 4), torch.arange(4) % 3)
    loss = RST().compute_loss(model, batch, batch, context())
    assert loss.per_example.shape == (4,)
