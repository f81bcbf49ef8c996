"""Cross-entropy against NumPy, with hard and soft labels, at the adversarial examples."""

import numpy as np
import pytest
import torch

from buttress import Adv, Batch
from buttress_plugins.losses.cross_entropy import CrossEntropy

from ..models import ConvNet, Linear
from .conftest import batch_of, engine_of

RNG = np.random.default_rng(6)
WEIGHT = RNG.normal(size=(4, 5))
X, X_ADV = RNG.random((2, 7, 5))
Y = RNG.integers(0, 4, 7)
SOFT = RNG.dirichlet(np.ones(4), 7)


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


@pytest.mark.parametrize(
    ("y", "target"), [(torch.from_numpy(Y), np.eye(4)[Y]), (torch.from_numpy(SOFT), SOFT)], ids=["hard", "soft"]
)
def test_the_losses_are_those_of_numpy_at_the_adversarial_examples(y, target):
    loss = CrossEntropy().compute_loss(Linear(WEIGHT), Batch(torch.from_numpy(X), y), Adv(torch.from_numpy(X_ADV)))
    expected = -(target * log_softmax(X_ADV @ WEIGHT.T)).sum(1)
    np.testing.assert_allclose(loss.per_example.detach().numpy(), expected, rtol=1e-12)
    assert loss.penalty is None


@pytest.mark.parametrize(("y", "target"), [(Y, np.eye(4)[Y]), (SOFT, SOFT)], ids=["hard", "soft"])
def test_the_gradient_of_the_mean_is_that_of_the_closed_form(y, target):
    model = Linear(WEIGHT)
    batch = Batch(torch.from_numpy(X), torch.from_numpy(np.asarray(y)))
    CrossEntropy().compute_loss(model, batch, Adv(torch.from_numpy(X_ADV))).total().backward()
    expected = (np.exp(log_softmax(X_ADV @ WEIGHT.T)) - target).T @ X_ADV / 7
    np.testing.assert_allclose(model.weight.grad.numpy(), expected, rtol=0, atol=1e-12)


def test_one_hot_soft_labels_equal_hard_ones():
    model = Linear(WEIGHT)
    hard, soft = (
        CrossEntropy().compute_loss(model, Batch(torch.from_numpy(X), y), Adv(torch.from_numpy(X_ADV))).per_example
        for y in (torch.from_numpy(Y), torch.from_numpy(np.eye(4)[Y]))
    )
    torch.testing.assert_close(hard, soft)


def test_huge_logits_stay_finite():
    loss = CrossEntropy().compute_loss(
        Linear(1e6 * WEIGHT), Batch(torch.from_numpy(X), torch.from_numpy(Y)), Adv(torch.from_numpy(X_ADV))
    )
    assert torch.isfinite(loss.per_example).all()


def test_it_is_the_default_loss_of_an_engine():
    batch = batch_of()
    given, default = (engine_of(ConvNet(), "clean", *more) for more in (["cross_entropy"], []))
    assert torch.equal(given.step(batch.x, batch.y).losses, default.step(batch.x, batch.y).losses)
