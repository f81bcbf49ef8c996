"""SPSA: estimates against exact gradients, and the optimum of linear models, found without a gradient."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from buttress import Batch, ThreatModel
from buttress_plugins.attacks.spsa import SPSA, spsa, spsa_gradient

from ..models import Linear
from .conftest import context

RNG = np.random.default_rng(8)
W = torch.from_numpy(RNG.choice([-1.0, 1.0], 6) * RNG.uniform(0.5, 1.5, 6))
X = torch.from_numpy(RNG.uniform(0.3, 0.7, (5, 6)))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(x: Tensor) -> Tensor:
    return x @ W


def test_the_estimate_of_a_linear_loss_has_the_mean_and_spread_of_the_formula():
    samples = 20_000
    grad = spsa_gradient(linear, X, samples, 0.001, seeded())
    # per element: mean w_i, variance (|w|^2 - w_i^2) / samples
    sigma = ((W.square().sum() - W.square()) / samples).sqrt()
    z = (grad - W) / sigma
    assert z.abs().max() < 4.5
    assert 0.5 < z.std() < 1.6


def test_in_one_dimension_one_sample_is_the_exact_slope():
    x = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    grad = spsa_gradient(lambda x: x.square().sum(1), x, 1, 0.01, seeded())
    np.testing.assert_allclose(grad.numpy(), 2 * x.numpy(), rtol=0, atol=1e-12)  # central differences of a parabola


@pytest.mark.parametrize("forward_size", [2, 7, 10, 64, 100_000])
def test_the_size_of_a_forward_is_respected_and_every_sample_is_made(forward_size: int):
    sizes: list[int] = []

    def counted(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return linear(x)

    spsa_gradient(counted, X, 13, 0.001, seeded(), forward_size)
    assert sum(sizes) == 2 * 13 * len(X)
    assert max(sizes) <= max(forward_size, 2 * len(X))


def test_a_non_finite_difference_counts_as_zero():
    grad = spsa_gradient(lambda x: torch.where(x[:, 0] > 0.5, torch.nan, linear(x)), X, 50, 0.001, seeded())
    assert torch.isfinite(grad).all()


def test_under_linf_it_reaches_eps_times_the_signs_of_the_weights():
    threat = ThreatModel("linf", 0.1)
    adv = spsa(lambda x, _: linear(x), X, threat, steps=40, samples=64, radius=0.001, lr=0.02, generator=seeded())
    np.testing.assert_allclose(adv.numpy(), (X + 0.1 * W.sign()).numpy(), rtol=0, atol=1e-12)


def test_under_l2_it_ends_along_the_weights():
    threat = ThreatModel("l2", 0.1)
    adv = spsa(lambda x, _: linear(x), X, threat, steps=60, samples=256, radius=0.001, lr=0.02, generator=seeded())
    gain = linear(adv - X) / (0.1 * W.norm())  # 1 is the optimum; steps towards the signs of w would end well below
    assert W.abs().sum() / (W.norm() * 6**0.5) < 0.97
    assert gain.min() > 0.995
    assert gain.max() <= 1 + 1e-9


class NoGradient(nn.Module):
    """A linear model behind a step of 1e-6: its gradient is zero everywhere."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.inner, self.queries = Linear(weight), 0

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.queries += len(x)
        return self.inner((x * 1e6).round() / 1e6)


def test_it_needs_no_gradient_and_asks_no_more_of_what_is_broken():
    weight = np.stack([W.numpy(), -W.numpy()])
    scores = linear(X - 0.5)
    x = X - (scores[:, None] - torch.tensor([0.001, 0.05, 0.3, 0.002, 5.0])[:, None]) * W / W.square().sum()
    model = NoGradient(weight)
    batch = Batch(x, torch.zeros(5, dtype=torch.int64))
    attack = SPSA(steps=30, samples=32)
    threat = ThreatModel("linf", 0.05, None)
    shift = 0.5 * W.sum()  # so that w.(x - 1/2) is the score
    model.forward = lambda x, inner=model.forward: inner(x) - torch.stack([shift, -shift])
    adv = attack.generate_adv(model, batch, context(threat))
    margins = -linear(adv.x - 0.5)
    reach = 0.05 * float(W.abs().sum())
    assert 0.05 < reach < 5
    assert (margins > 0).tolist() == [True, True, reach > 0.3, True, False]
    np.testing.assert_allclose(margins[4].item(), reach - 5, atol=1e-9)  # what resists ends at its optimum
    full = 30 * (2 * 32 + 1) * 5
    assert model.queries < 0.9 * full
