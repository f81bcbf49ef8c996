"""FGSM in closed form: the evaluation attack, and the training attack with its uniform start."""

import numpy as np
import pytest
import torch
from torch import Tensor

from buttress import Batch, ThreatModel
from buttress_plugins.attacks.fgsm import FGSM

from ..models import ConvNet, Linear
from .conftest import batch_of, context, engine_of

RNG = np.random.default_rng(2)
WEIGHT = RNG.normal(size=(2, 5))
EPS = 8 / 255
BATCH = Batch(torch.from_numpy(RNG.random((9, 5))), torch.from_numpy(RNG.integers(0, 2, 9)))
DIRECTION = WEIGHT[1 - BATCH.y.numpy()] - WEIGHT[BATCH.y.numpy()]


def close(result: Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-9)


def test_the_evaluation_attack_is_one_step_of_eps_without_a_start():
    adv = FGSM().generate_adv(Linear(WEIGHT), BATCH, context(ThreatModel("linf", "8/255", None)))
    close(adv.x, BATCH.x.numpy() + EPS * np.sign(DIRECTION))
    clipped = FGSM().generate_adv(Linear(WEIGHT), BATCH, context(ThreatModel("linf", "128/255")))
    close(clipped.x, np.clip(BATCH.x.numpy() + 128 / 255 * np.sign(DIRECTION), 0, 1))


def test_the_evaluation_attack_draws_nothing():
    one, two = (FGSM().generate_adv(Linear(WEIGHT), BATCH, context(seed=seed)).x for seed in (0, 1))
    assert torch.equal(one, two)


def test_under_l2_the_step_follows_the_normalised_gradient():
    adv = FGSM().generate_adv(Linear(WEIGHT), BATCH, context(ThreatModel("l2", 0.3, None)))
    close(adv.x, BATCH.x.numpy() + 0.3 * DIRECTION / np.linalg.norm(DIRECTION, axis=1, keepdims=True))


@pytest.mark.parametrize("start", [-1.0, -0.75, -0.25, 0.0, 0.5, 1.0])
def test_the_training_attack_is_a_projected_step_of_1_25_eps_from_its_start(start: float):
    noise = torch.full((9, 5), start * EPS, dtype=torch.float64)
    ctx = context(ThreatModel("linf", "8/255", None), "fgsm", {"fgsm.start": noise})
    adv = FGSM(start="uniform").generate_adv(Linear(WEIGHT), BATCH, ctx)
    moved = np.clip(start * EPS + 1.25 * EPS * np.sign(DIRECTION), -EPS, EPS)
    close(adv.x, BATCH.x.numpy() + moved)


def test_the_uniform_start_is_drawn_anew_and_gives_the_expected_spread():
    x = torch.full((400, 5), 0.5, dtype=torch.float64)
    batch = Batch(x, torch.zeros(400, dtype=torch.int64))
    one, two = (
        FGSM(start="uniform").generate_adv(Linear(WEIGHT), batch, context(ThreatModel("linf", 0.1), seed=seed)).x
        for seed in (0, 1)
    )
    assert not torch.equal(one, two)
    along = ((one - 0.5).numpy() * np.sign(WEIGHT[1] - WEIGHT[0])) / 0.1
    # u + 1.25 cut at 1, u uniform in [-1, 1]: at the border with probability 5/8, else uniform in [0.25, 1]
    assert along.min() >= 0.25 - 1e-9
    assert along.max() <= 1 + 1e-9
    assert abs((along > 1 - 1e-9).mean() - 0.625) < 0.05


@pytest.mark.parametrize(("start", "size"), [("none", 0.01), ("uniform", 0.01)])
def test_an_explicit_step_size_is_used(start: str, size: float):
    noise = torch.zeros(9, 5, dtype=torch.float64)
    ctx = context(ThreatModel("linf", "8/255", None), "fgsm", {"fgsm.start": noise})
    adv = FGSM(start=start, step_size=size).generate_adv(Linear(WEIGHT), BATCH, ctx)
    close(adv.x, BATCH.x.numpy() + size * np.sign(DIRECTION))


@pytest.mark.parametrize("start", ["none", "uniform"])
def test_one_forward_is_made(start: str):
    model, calls = ConvNet(), []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    batch = batch_of()
    engine_of(model, {"fgsm": {"start": start}}).step(batch.x, batch.y)
    assert len(calls) == 2  # the attack's and the loss's


@pytest.mark.parametrize("mode", ["eval", "train", "train_notrack"])
def test_the_attack_mode_reaches_the_engine(mode: str):
    assert engine_of(ConvNet(), {"fgsm": {"attack_mode": mode}}).attack_mode == mode


def test_a_zero_gradient_does_not_move():
    adv = FGSM().generate_adv(Linear(np.zeros((2, 5))), BATCH, context())
    assert torch.equal(adv.x, BATCH.x)
