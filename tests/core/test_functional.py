"""The mathematics that plugins share, against NumPy in float64 and closed forms."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from buttress import ThreatModel
from buttress.functional import (
    attack_loss,
    beta,
    boosted_cross_entropy,
    cross_entropy,
    expect_labels,
    hard_labels,
    is_correct,
    kl_divergence,
    margin,
    mart_divergence,
    pgd,
    soft_labels,
)

from ..models import MLP, Halfspace
from .helpers import batch_of

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-30.0, 5.0, 40.0]], dtype=torch.float64)
Y = torch.tensor([0, 2, 1])


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_cross_entropy_is_the_negative_log_probability():
    p = softmax(LOGITS.numpy())
    np.testing.assert_allclose(cross_entropy(LOGITS, Y), -np.log(p[np.arange(3), Y.numpy()]), rtol=1e-12)


def test_the_terms_of_mart_are_those_of_its_equations():
    p, q = softmax(LOGITS.numpy()[::-1].copy()), softmax(LOGITS.numpy())
    rows, y = np.arange(3), Y.numpy()
    wrong = q.copy()
    wrong[rows, y] = 0
    boosted = -np.log(q[rows, y]) - np.log(1.0001 - wrong.max(1) + 1e-12)
    np.testing.assert_allclose(boosted_cross_entropy(LOGITS, Y), boosted, rtol=1e-9)
    divergence = (p * (np.log(p) - np.log(q + 1e-12))).sum(1) * (1.0000001 - p[rows, y])
    np.testing.assert_allclose(mart_divergence(LOGITS.flip(0), LOGITS, Y), divergence, rtol=1e-9)


def test_hard_labels_are_the_classes_of_the_largest_shares():
    soft = torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]])
    assert hard_labels(soft).tolist() == [1, 0]
    assert hard_labels(Y) is Y
    assert expect_labels(Y) is Y
    with pytest.raises(ValueError, match=r"expected labels \[B\], got soft labels \(2, 3\)"):
        expect_labels(soft)


def test_cross_entropy_of_soft_labels_is_the_expected_one():
    soft = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.1, 0.9, 0.0]], dtype=torch.float64)
    z = LOGITS.numpy()
    log_p = z - z.max(1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
    np.testing.assert_allclose(cross_entropy(LOGITS, soft), -(soft.numpy() * log_p).sum(1), rtol=1e-12)


def test_soft_labels_are_one_hot_or_as_they_came():
    soft = soft_labels(Y, 3, torch.float64)
    assert torch.equal(soft, torch.eye(3, dtype=torch.float64)[Y])
    assert soft_labels(soft, 3, torch.float64) is soft


@pytest.mark.parametrize("alpha", [0.4, 1.0, 3.0])
def test_beta_draws_have_the_moments_of_the_distribution(alpha: float):
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([beta(alpha, generator) for _ in range(4000)])
    assert draws.dtype == torch.float64
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(draws.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_kl_divergence_is_that_of_the_first_from_the_second():
    other = LOGITS.flip(1)
    p, q = softmax(LOGITS.numpy()), softmax(other.numpy())
    expected = (p * (np.log(p) - np.log(q))).sum(1)
    np.testing.assert_allclose(kl_divergence(other, torch.log_softmax(LOGITS, 1)), expected, rtol=1e-12)


def test_kl_divergence_of_equal_predictions_is_zero():
    np.testing.assert_allclose(kl_divergence(LOGITS + 7, torch.log_softmax(LOGITS, 1)), np.zeros(3), atol=1e-14)


def test_margin_is_the_best_wrong_logit_minus_the_right_one():
    np.testing.assert_array_equal(margin(LOGITS, Y), [0.5 - 2.0, 0.0, 40.0 - 5.0])


def test_margin_masks_the_right_logit_also_where_all_are_negative():
    np.testing.assert_array_equal(margin(torch.tensor([[-1.0, -5.0]]), torch.tensor([0])), [-4.0])


def test_is_correct_compares_the_largest_logit_with_the_label():
    assert is_correct(LOGITS, torch.tensor([0, 0, 1])).tolist() == [True, True, False]


def test_margin_with_soft_labels_is_refused():
    with pytest.raises(ValueError, match=r"loss margin needs hard labels \[B\]; use ce with soft labels"):
        attack_loss("margin", MLP(), batch_of().x, torch.full((6, 3), 1 / 3))


def test_kl_attack_loss_measures_from_the_clean_prediction():
    model, batch = MLP().double(), batch_of(dtype=torch.float64)
    loss = attack_loss("kl", model, batch.x, batch.y)
    other = batch_of(seed=1, dtype=torch.float64).x
    p, q = softmax(model(batch.x).detach().numpy()), softmax(model(other).detach().numpy())
    np.testing.assert_allclose(loss(batch.x).detach(), np.zeros(6), atol=1e-14)
    np.testing.assert_allclose(loss(other).detach(), (p * np.log(p / q)).sum(1), rtol=1e-10)


# PGD


def along(weight: Tensor, y: Tensor, n: int = 1) -> Any:
    """The direction that raises the loss of a half-space with labels y: against w for class 0."""
    return weight.expand(n, -1) * torch.where(y == 0, -1.0, 1.0)[:, None]


WEIGHT = torch.tensor([0.3, -0.4, 0.0, 1.2], dtype=torch.float64)
CENTRE = torch.full((2, 4), 0.5, dtype=torch.float64)
BOTH = torch.tensor([0, 1])


@pytest.mark.parametrize("name", ["ce", "margin"])
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_linf_pgd_on_a_linear_model_ends_at_a_corner_of_the_ball(name: Any, steps: int):
    model = Halfspace(WEIGHT)
    found = pgd(attack_loss(name, model, CENTRE, BOTH), CENTRE, ThreatModel("linf", "1/10"), steps=steps, step_size=0.1)
    expected = CENTRE + 0.1 * along(WEIGHT, BOTH, 2).sign()  # sign(0) = 0: the third value does not move
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_l2_pgd_on_a_linear_model_ends_along_the_weights(steps: int):
    model = Halfspace(WEIGHT)
    found = pgd(attack_loss("ce", model, CENTRE, BOTH), CENTRE, ThreatModel("l2", "1/4"), steps=steps, step_size=0.25)
    expected = CENTRE + 0.25 * along(WEIGHT, BOTH, 2) / WEIGHT.norm()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


def test_a_step_moves_by_the_step_size():
    found = pgd(
        attack_loss("ce", Halfspace(WEIGHT), CENTRE, BOTH), CENTRE, ThreatModel("linf", 1), steps=3, step_size=0.01
    )
    torch.testing.assert_close(found, CENTRE + 0.03 * along(WEIGHT, BOTH, 2).sign(), rtol=0, atol=1e-15)


def test_the_box_clips():
    x = torch.tensor([[0.95, 0.5, 0.5, 0.02]], dtype=torch.float64)
    found = pgd(
        attack_loss("ce", Halfspace(WEIGHT), x, torch.tensor([0])),
        x,
        ThreatModel("linf", "1/10"),
        steps=4,
        step_size=0.1,
    )
    torch.testing.assert_close(found, torch.tensor([[0.85, 0.6, 0.5, 0.0]], dtype=torch.float64), rtol=0, atol=1e-15)


def test_the_start_is_used_as_it_is_even_outside_of_the_ball():
    seen = []

    def loss(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return x.flatten(1).sum(1)

    start = torch.full_like(CENTRE, 0.45)
    found = pgd(loss, CENTRE, ThreatModel("linf", "1/10"), steps=1, step_size=0.01, start=start)
    assert torch.equal(seen[0], CENTRE + start)
    torch.testing.assert_close(found, CENTRE + 0.1, rtol=0, atol=1e-15)


def test_inputs_are_left_alone_and_the_answer_is_detached_and_new():
    x = CENTRE.clone()
    found = pgd(lambda z: z.flatten(1).sum(1), x, ThreatModel("linf", "1/10"), steps=2, step_size=0.1)
    assert torch.equal(x, CENTRE)
    assert not found.requires_grad
    assert not x.requires_grad
    assert found.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_zero_gradient_does_not_move(norm: Any):
    nonfinite = torch.zeros(2, dtype=torch.int64)
    found = pgd(
        lambda z: 0 * z.flatten(1).sum(1),
        CENTRE,
        ThreatModel(norm, "1/10"),
        steps=3,
        step_size=0.1,
        nonfinite=nonfinite,
    )
    assert torch.equal(found, CENTRE)
    assert nonfinite.tolist() == [0, 0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_gradient_that_is_not_finite_counts_as_zero_and_is_counted(norm: Any, bad: float):
    factor = torch.tensor([[1.0, bad, -1.0, 0.0], [1.0, 1.0, -1.0, 0.0]], dtype=torch.float64)
    nonfinite = torch.zeros(2, dtype=torch.int64)
    # where a step has left the infinite value in place, inf * 0.5 keeps the loss non-finite; only gradients matter
    found = pgd(
        lambda z: (z * factor).sum(1), CENTRE, ThreatModel(norm, "1/10"), steps=3, step_size=0.1, nonfinite=nonfinite
    )
    direction = torch.where(torch.isfinite(factor), factor, 0.0)
    direction = direction.sign() if norm == "linf" else direction / direction.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, CENTRE + 0.1 * direction, rtol=0, atol=1e-10)
    assert nonfinite.tolist() == [3, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_answer_keeps_the_dtype_and_is_contained(dtype: torch.dtype, norm: Any):
    x = batch_of(dtype=dtype).x
    threat = ThreatModel(norm, "3/10")
    found = pgd(lambda z: (z * (z - 0.3)).flatten(1).sum(1), x, threat, steps=5, step_size=0.1)
    assert found.dtype == dtype
    assert bool(threat.contains(found, x))


def test_logits_that_are_not_a_number_are_never_correct():
    assert is_correct(torch.full((2, 3), torch.nan), torch.tensor([0, 1])).tolist() == [False, False]


def test_a_start_of_another_shape_is_refused_by_pgd():
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"start: expected a perturbation of shape \(3, 2\), got \(2,\)"):
        pgd(lambda x: x.sum(1), x, ThreatModel("linf", 0.1), steps=1, step_size=0.1, start=torch.zeros(2))


def test_inputs_that_require_a_gradient_give_detached_adversarial_examples():
    x = torch.full((3, 2), 0.5, requires_grad=True)
    assert not pgd(lambda x: x.sum(1), x, ThreatModel("linf", 0.1), steps=2, step_size=0.1).requires_grad
