"""I-FGSM, MI-FGSM and CW on linear models, whose strongest perturbation is known, and step by step by hand."""

import numpy as np
import pytest
import torch

from buttress import Batch, ThreatModel
from buttress_plugins.attacks.cw import CW, capped_margin
from buttress_plugins.attacks.ifgsm import IFGSM
from buttress_plugins.attacks.mifgsm import MIFGSM

from ..models import Linear
from .conftest import context

RNG = np.random.default_rng(3)
WEIGHT = RNG.normal(size=(2, 6))
THREE = RNG.normal(size=(3, 6))
EPS = 0.1
INNER = Batch(torch.from_numpy(RNG.uniform(0.2, 0.8, (9, 6))), torch.from_numpy(RNG.integers(0, 2, 9)))
CORNER = Batch(torch.from_numpy(RNG.uniform(0, 1, (9, 6)).round(1)), torch.from_numpy(RNG.integers(0, 3, 9)))
# The direction in which the loss of two classes rises: w_other - w_own.
DIRECTION = WEIGHT[1 - INNER.y.numpy()] - WEIGHT[INNER.y.numpy()]

ATTACKS = [IFGSM(), IFGSM(steps=1), MIFGSM(), MIFGSM(decay=0.0), MIFGSM(steps=3), CW(), CW(start="none", steps=4)]
named = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{type(attack).__name__}-{attack.steps}")


@named
def test_under_linf_the_optimum_is_eps_times_the_signs_of_the_weights(attack):
    adv = attack.generate_adv(Linear(WEIGHT), INNER, context(ThreatModel("linf", EPS)))
    np.testing.assert_allclose(adv.x.numpy(), INNER.x.numpy() + EPS * np.sign(DIRECTION), rtol=0, atol=1e-12)


@named
def test_under_l2_the_optimum_lies_along_the_weights(attack):
    adv = attack.generate_adv(Linear(WEIGHT), INNER, context(ThreatModel("l2", EPS)))
    expected = INNER.x.numpy() + EPS * DIRECTION / np.linalg.norm(DIRECTION, axis=1, keepdims=True)
    # from a random start the direction is reached geometrically: 100 steps leave the guards of the norms (1e-10)
    np.testing.assert_allclose(adv.x.numpy(), expected, rtol=0, atol=1e-7)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_momentum_equals_its_recursion_by_hand(norm: str, decay: float):
    attack = MIFGSM(steps=4, step_size=0.06, decay=decay)
    adv = attack.generate_adv(Linear(THREE), CORNER, context(ThreatModel(norm, EPS)))
    x, y = CORNER.x.numpy(), CORNER.y.numpy()
    expected, g = x, np.zeros_like(x)
    for _ in range(4):
        grad = (softmax(expected @ THREE.T) - np.eye(3)[y]) @ THREE
        g = decay * g + grad / np.abs(grad).sum(1, keepdims=True)
        if norm == "linf":
            expected = np.clip(np.clip(expected + 0.06 * np.sign(g), x - EPS, x + EPS), 0, 1)
        else:
            delta = expected + 0.06 * g / np.linalg.norm(g, axis=1, keepdims=True) - x
            delta *= np.minimum(1, EPS / np.linalg.norm(delta, axis=1, keepdims=True))
            expected = np.clip(x + delta, 0, 1)
    np.testing.assert_allclose(adv.x.numpy(), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("attack", [IFGSM(), MIFGSM(), CW(start="none")], ids=lambda attack: type(attack).__name__)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_zero_gradient_does_not_move(attack, norm: str):
    adv = attack.generate_adv(Linear(np.zeros((3, 6))), CORNER, context(ThreatModel(norm, EPS)))
    assert torch.equal(adv.x, CORNER.x)


def test_beyond_kappa_nothing_is_gained_and_the_right_class_is_no_wrong_one():
    logits = torch.tensor([[9.0, -5.0, -1.0], [9.0, -5.0, -1.0]], dtype=torch.float64)
    y = torch.tensor([0, 1])
    assert capped_margin(logits, y, 50.0).tolist() == [-10.0, 14.0]
    assert capped_margin(logits, y, 10.0).tolist() == [-10.0, 10.0]


def test_cw_stops_at_kappa():
    weight = 100 * WEIGHT
    clean = Linear(weight)(INNER.x)
    batch = Batch(INNER.x, clean.argmin(1))  # every example has a margin far above 1 already
    far = capped_margin(clean, batch.y, np.inf).detach() > 1
    assert far.any()
    adv = CW(kappa=1.0, start="none").generate_adv(Linear(weight), batch, context(ThreatModel("linf", EPS)))
    assert torch.equal(adv.x[far], batch.x[far])
