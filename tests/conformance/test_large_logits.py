"""Losses, masks, metrics and attacks at logits that are 5 to 100 apart, against literal log-softmax forms in float64.

A guard in a logarithm or a division, or a rounded softmax, takes away the gradient of exactly those examples that a
method is about: the most misclassified ones in training, the most confident ones under attack.
"""

from collections.abc import Callable
from fractions import Fraction
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Adv, Batch, Loss, Split, ThreatModel, evaluate
from buttress.audit.probe import Probe
from buttress.functional import (
    attack_loss,
    cross_entropy,
    input_gradient,
    is_correct,
    kl_divergence,
    label_probability,
    margin,
)
from buttress.kernels import lsc_cross_entropy, lsc_mean, native, use_backend
from buttress.scoring.loss_groups import group_numbers
from buttress_plugins.attacks.cw import CW, capped_margin
from buttress_plugins.attacks.fgsm import FGSM
from buttress_plugins.attacks.ifgsm import IFGSM
from buttress_plugins.attacks.mifgsm import MIFGSM
from buttress_plugins.attacks.pgd import PGD
from buttress_plugins.attacks.spsa import SPSA
from buttress_plugins.losses.alp import ALP
from buttress_plugins.losses.cross_entropy import CrossEntropy
from buttress_plugins.losses.drop_easy import drop
from buttress_plugins.losses.mart import MART, mart
from buttress_plugins.losses.nmse import NMSE
from buttress_plugins.losses.trades import TRADES
from tests.plugins.conftest import context

GAPS = pytest.mark.parametrize("gap", [5.0, 10.0, 17.0, 30.0, 40.0, 60.0, 88.0, 100.0])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
Y = torch.tensor([0, 1, 1, 2])
SOFT = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)


def logits_of(gap: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Clean and adversarial logits ``[4,3]``: right by the gap, wrong by it, between two others, and nearly even."""
    clean = [[gap, 0.0, 0.25], [0.5 * gap, 0.0, 0.0], [0.0, gap, gap], [0.0, -0.25, 0.5]]
    adv = [[gap, 0.5, 0.0], [gap, 0.0, 0.0], [-gap, 0.0, gap], [0.25, 0.0, gap]]
    return torch.tensor(clean, dtype=dtype), torch.tensor(adv, dtype=dtype)


# The literal forms: clean logits, adversarial logits, labels, all float64


def log_softmax(z: Tensor) -> Tensor:
    top = z.max(1, keepdim=True).values
    return z - top - (z - top).exp().sum(1, keepdim=True).log()


def ce(z: Tensor, y: Tensor = Y) -> Tensor:
    return -log_softmax(z)[range(len(y)), y]


def kl(z: Tensor, z_adv: Tensor) -> Tensor:
    return (log_softmax(z).exp() * (log_softmax(z) - log_softmax(z_adv))).sum(1)


def p_label(z: Tensor, y: Tensor = Y) -> Tensor:
    return log_softmax(z).exp()[range(len(y)), y]


def best_wrong(values: Tensor, y: Tensor = Y) -> Tensor:
    return torch.stack(
        [max(row[k] for k in range(len(row)) if k != label) for row, label in zip(values, y, strict=True)]
    )


def literal_mart(z: Tensor, z_adv: Tensor) -> Tensor:
    boosted = ce(z_adv) - (1.0001 - best_wrong(log_softmax(z_adv).exp()) + 1e-12).log()
    p, q = log_softmax(z).exp(), log_softmax(z_adv).exp()
    return boosted + 5 * (p * (log_softmax(z) - (q + 1e-12).log())).sum(1) * (1.0000001 - p_label(z))


def literal_nmse(z: Tensor, z_adv: Tensor) -> Tensor:
    cosine = (z * z_adv).sum(1) / ((z * z).sum(1) * (z_adv * z_adv).sum(1)).sqrt()
    return ce(z_adv) + 4 * (1 - p_label(z)) * 2 * (1 - cosine)


def dropped(losses: Tensor, c_min: float, mean_over: str) -> Tensor:
    hard = losses >= c_min
    return drop(losses, hard, hard.sum(), len(losses), mean_over)


def literal_drop(z_adv: Tensor) -> Tensor:
    losses = ce(z_adv)
    hard = losses >= 1.7
    return torch.where(hard, losses, 0.0) * len(losses) / hard.sum()


def literal_lsc(z_adv: Tensor) -> Tensor:
    losses = ce(z_adv)
    return torch.where(losses <= 1.7, losses, 0.0).sum() / len(losses)


class Given(nn.Module):
    """Gives logits that are handed to it as inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def of_plugin(plugin: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Its losses from clean and adversarial logits."""

    def losses(z: Tensor, z_adv: Tensor) -> Tensor:
        given = {"ctx": context()} if "ctx" in signature(plugin.compute_loss).parameters else {}
        answer: Loss = plugin.compute_loss(Given(), Batch(z, Y), Adv(z_adv), **given)
        return answer.per_example

    return losses


def masked(z: Tensor, z_adv: Tensor) -> Tensor:
    return CrossEntropy().masked_loss(Given(), Batch(z, Y), Adv(z_adv), 1.7, True)[0]


FORMS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "cross_entropy": (of_plugin(CrossEntropy()), lambda z, z_adv: ce(z_adv)),
    "cross_entropy, masked": (masked, lambda z, z_adv: literal_lsc(z_adv)),
    "alp": (of_plugin(ALP()), lambda z, z_adv: ce(z_adv) + 0.5 * ((z_adv - z) ** 2).sum(1)),
    "alp, mixed": (
        of_plugin(ALP(mixed=True)),
        lambda z, z_adv: (ce(z_adv) + ce(z)) / 2 + 0.5 * ((z_adv - z) ** 2).sum(1),
    ),
    "trades": (of_plugin(TRADES()), lambda z, z_adv: ce(z) + 6 * kl(z, z_adv)),
    "trades, two clean forwards": (of_plugin(TRADES(clean_forwards=2)), lambda z, z_adv: ce(z) + 6 * kl(z, z_adv)),
    "mart": (of_plugin(MART()), literal_mart),
    "mart, boosted alone": (
        of_plugin(MART(lam=0.0)),
        lambda z, z_adv: ce(z_adv) - (1.0001 - best_wrong(log_softmax(z_adv).exp()) + 1e-12).log(),
    ),
    "nmse": (of_plugin(NMSE()), literal_nmse),
    "functional.cross_entropy": (lambda z, z_adv: cross_entropy(z_adv, Y), lambda z, z_adv: ce(z_adv)),
    "functional.cross_entropy, soft": (
        lambda z, z_adv: cross_entropy(z_adv, SOFT.to(z.dtype)),
        lambda z, z_adv: -(SOFT * log_softmax(z_adv)).sum(1),
    ),
    "functional.label_probability": (lambda z, z_adv: label_probability(z_adv, Y), lambda z, z_adv: p_label(z_adv)),
    "functional.kl_divergence": (lambda z, z_adv: kl_divergence(z_adv, torch.log_softmax(z, 1)), kl),
    "functional.margin": (
        lambda z, z_adv: margin(z_adv, Y),
        lambda z, z_adv: best_wrong(z_adv) - z_adv[range(len(Y)), Y],
    ),
    "cw.capped_margin": (
        lambda z, z_adv: capped_margin(z_adv, Y, 50.0),
        lambda z, z_adv: torch.minimum(best_wrong(z_adv) - z_adv[range(len(Y)), Y], torch.tensor(50.0).double()),
    ),
    "drop_easy.drop": (
        lambda z, z_adv: dropped(cross_entropy(z_adv, Y), 1.7, "kept"),
        lambda z, z_adv: literal_drop(z_adv),
    ),
    "lsc_mean": (lambda z, z_adv: lsc_mean(cross_entropy(z_adv, Y), 1.7)[0], lambda z, z_adv: literal_lsc(z_adv)),
    "lsc_cross_entropy": (lambda z, z_adv: lsc_cross_entropy(z_adv, Y, 1.7)[0], lambda z, z_adv: literal_lsc(z_adv)),
}
COMPILED = ["cross_entropy, masked", "lsc_mean", "lsc_cross_entropy"] if "lsc_mean" in native.operations() else []


def value_and_gradients(
    form: Callable[[Tensor, Tensor], Tensor], z: Tensor, z_adv: Tensor
) -> tuple[Tensor, list[Tensor]]:
    inputs = [each.clone().requires_grad_() for each in (z, z_adv)]
    value = form(*inputs)
    grads = torch.autograd.grad(value.sum(), inputs, allow_unused=True, materialize_grads=True)
    return value.detach().double(), [grad.double() for grad in grads]


@GAPS
@DTYPES
@pytest.mark.parametrize(
    ("name", "backend"), [*((name, "torch") for name in FORMS), *((name, "native") for name in COMPILED)]
)
def test_a_loss_and_its_gradients_are_those_of_the_literal_form(
    name: str, backend: str, dtype: torch.dtype, gap: float
):
    z, z_adv = logits_of(gap, dtype)
    form, literal = FORMS[name]
    expected, gradients = value_and_gradients(literal, z.double(), z_adv.double())
    with use_backend(backend):
        actual, own = value_and_gradients(form, z, z_adv)
    # MART divides by 1.0001 - p, which is 1e-4 where the best other class has all of it: the rounding of p there.
    roundings = 3e4 if name.startswith("mart") else 32
    bound = roundings * torch.finfo(dtype).eps
    torch.testing.assert_close(actual, expected, rtol=bound, atol=bound)
    for one, other in zip(own, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=bound, atol=bound)


def test_mart_pulls_at_the_most_misclassified_example_with_its_whole_weight():
    z_adv = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)
    (grad,) = torch.autograd.grad(mart(torch.zeros(1, 3), z_adv, torch.tensor([1]), 0.0).sum(), z_adv)
    assert float(grad[0, 1]) == pytest.approx(-1.0, abs=1e-4)


# Attacks: only the direction of their gradients counts, so it has to be right however small they are


class Confident(nn.Module):
    """Linear logits, right by ``gap`` for label 0 at ``CENTRE``; in the dtype asked for."""

    def __init__(self, gap: float, dtype: torch.dtype) -> None:
        super().__init__()
        weight = torch.tensor([[1.0, -0.5, 0.25, 0.6], [0.2, 0.3, -1.0, 0.9], [-0.4, 0.8, 0.5, 0.7]])
        self.weight, self.bias = nn.Parameter(weight.to(dtype)), torch.tensor([0.0, -gap, -gap - 0.5], dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return (x - CENTRE.to(x.dtype)) @ self.weight.T + self.bias


CENTRE = torch.full((1, 4), 0.5, dtype=torch.float64)
LABEL = torch.tensor([0])


def directions(gap: float) -> dict[str, Tensor]:
    """Gradients at the centre up to a positive factor, from ``sum over k != y of p_k (w_k - w_y)``, in float64."""
    weight = Confident(gap, torch.float64).weight.detach()
    share = 1 / (1 + torch.tensor(0.5).double().exp())  # of the third class among the two wrong ones
    towards = (1 - share) * (weight[1] - weight[0]) + share * (weight[2] - weight[0])
    return {"ce": towards, "margin": weight[1] - weight[0]}


@GAPS
@DTYPES
@pytest.mark.parametrize("loss", ["ce", "margin", "kl"])
def test_the_gradient_of_an_attack_has_the_right_direction(loss: Any, dtype: torch.dtype, gap: float):
    model, x = Confident(gap, dtype), CENTRE.to(dtype)
    if loss == "kl":  # 0 at the centre: from the prediction at a point that is as confident
        shift = torch.tensor([[0.4, 0.0, 0.0, 0.0]], dtype=dtype)
        p, q = (log_softmax(Confident(gap, torch.float64)(each.double())).exp() for each in (x + shift, x))
        weight = model.weight.detach().double()
        expected = ((q - p)[:, 1:, None] * (weight[1:] - weight[0])).sum((0, 1))
        actual = input_gradient(attack_loss("kl", model, x + shift, LABEL), x)
    else:
        expected, actual = directions(gap)[loss], input_gradient(attack_loss(loss, model, x, LABEL), x)
    scaled = actual.double()[0] / actual.double().norm()
    # At a gap of 88 and more, float32 holds the probabilities of the other classes with a few bits only.
    bound = 0.05 if dtype == torch.float32 and gap > 85 else 1e-5 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(scaled, expected / expected.norm(), rtol=0, atol=bound)


ATTACKS: dict[str, tuple[str, Any]] = {
    "fgsm": ("ce", FGSM()),
    "ifgsm": ("ce", IFGSM(steps=2)),
    "mifgsm": ("ce", MIFGSM(steps=2)),
    "pgd": ("ce", PGD(steps=2, step_size=Fraction(1, 10), start="none")),
    "pgd, margin": ("margin", PGD(steps=2, step_size=Fraction(1, 10), start="none", loss="margin")),
    "cw": ("margin", CW(steps=2, step_size=Fraction(1, 10), start="none")),
    "spsa": ("margin", SPSA(steps=40, samples=64, radius=0.05)),
}


@GAPS
@DTYPES
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_on_a_confident_linear_model_ends_where_the_loss_is_highest(
    name: str, norm: Any, dtype: torch.dtype, gap: float
):
    loss, attack = ATTACKS[name]
    threat, towards = ThreatModel(norm, "1/10"), directions(gap)[loss]
    expected = CENTRE + 0.1 * (towards.sign() if norm == "linf" else towards / towards.norm())
    actual = attack.generate_adv(Confident(gap, dtype), Batch(CENTRE.to(dtype), LABEL), context(threat)).x
    # Two steps of L2 see slightly different shares of the two wrong classes; SPSA sees differences only.
    bound = (0.03 if name == "spsa" else 4e-3) if norm == "l2" else 1e-6
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=bound)


# Metrics


@GAPS
@DTYPES
def test_metrics_are_those_of_the_literal_forms(dtype: torch.dtype, gap: float):
    model, x = Confident(gap, dtype), CENTRE.to(dtype)
    score = evaluate(model, Split(x, LABEL), "clean", ThreatModel("linf", "1/10"))
    expected = ce(Confident(gap, torch.float64)(CENTRE), LABEL)
    bound = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(score.robust_losses.double(), expected.detach(), rtol=bound, atol=bound)
    assert (score.clean, score.robust) == (1.0, 1.0)
    _, z_adv = logits_of(gap, dtype)
    assert is_correct(z_adv, Y).tolist() == [True, False, False, True]
    assert group_numbers(cross_entropy(z_adv, Y)).tolist() == group_numbers(ce(z_adv.double())).tolist()
    probe = Probe(model, Split(x, LABEL), ThreatModel("linf", "1/10"))
    assert torch.equal(probe.gradient(x)[0].sign().double(), directions(gap)["ce"].sign())
