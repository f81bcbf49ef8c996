"""GAIRAT: weights by closed forms, their limits, and when they begin."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Adv, hookimpl
from buttress.errors import ButtressError, HookError
from buttress_plugins.attacks.gairat import geometry_weights

from ..core.helpers import assert_same, engine_of, snapshot, step
from ..models import ConvNet

KAPPA = torch.tensor([0, 3, 5, 10, 10], dtype=torch.float64)


def network() -> nn.Module:
    torch.manual_seed(0)
    return ConvNet().double()


def trained(*plugins: Any) -> dict[str, Tensor]:
    model = network()
    step(engine_of(model, *plugins, epochs=2))
    return snapshot(model)


@pytest.mark.parametrize("weighting", ["tanh", "sigmoid", "linear"])
def test_the_weights_are_the_paper_s_divided_by_their_mean(weighting: str):
    forms = {
        "tanh": lambda k: (1 + math.tanh(-1 + 5 * (1 - 2 * k / 10))) / 2,
        "sigmoid": lambda k: 1 / (1 + math.exp(1 - 5 * (1 - 2 * k / 10))),
        "linear": lambda k: 1 - k / 11,
    }
    expected = torch.tensor([forms[weighting](k) for k in KAPPA.tolist()], dtype=torch.float64)
    actual = geometry_weights(KAPPA, 10, weighting, -1.0)
    torch.testing.assert_close(actual, expected / expected.mean(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("weighting", ["tanh", "sigmoid", "linear"])
@pytest.mark.parametrize("lam", [-1e4, -1.0, 1e4])
def test_weights_have_mean_one_and_are_finite_also_where_all_are_nearly_zero(weighting: str, lam: float):
    weights = geometry_weights(KAPPA.float(), 10, weighting, lam)
    assert bool(torch.isfinite(weights).all())
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-6)


def test_a_large_lambda_and_an_example_alone_have_weight_one():
    assert torch.equal(geometry_weights(KAPPA, 10, "tanh", 1e4), torch.ones_like(KAPPA))
    assert geometry_weights(KAPPA[:1], 10, "tanh", -1.0).tolist() == [1.0]


def test_before_it_begins_it_is_pgd():
    settings = {"steps": 3, "step_size": 0.02, "start": "none"}
    assert_same(trained({"gairat": {**settings, "begin": 1}}), trained({"pgd": settings}))
    weighted, plain = trained({"gairat": {**settings, "begin": 0}}), trained({"pgd": settings})
    assert any(not torch.equal(weighted[name], value) for name, value in plain.items())


class Replaces:
    """Gives adversarial examples without the counts of the attack."""

    @hookimpl(wrapper=True)
    def generate_adv(self):
        adv = yield
        return Adv(adv.x)


def test_counts_that_another_plugin_dropped_are_asked_for():
    with pytest.raises(HookError, match="expected the counts 'kappa' of its own attack"):
        trained({"gairat": {"begin": 0}}, Replaces())


def test_the_public_code_s_middle_of_one_step_is_refused():
    with pytest.raises(ButtressError, match=r"steps: expected at least 2 with variant official.*got 1"):
        engine_of(network(), {"gairat": {"variant": "official", "steps": 1}})
