"""Pure functions of tensors that several plugins share, for any floating dtype."""

from collections.abc import Callable
from fractions import Fraction
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from buttress.streams import NoiseSource, noise
from buttress.threat import Shrink, ThreatModel, l2_norm, per_example, unit_l2

__all__ = [
    "L2_RULES",
    "AttackLoss",
    "InputLoss",
    "L2Rule",
    "L2Variant",
    "Start",
    "attack_loss",
    "beta",
    "boosted_cross_entropy",
    "cross_entropy",
    "expect_labels",
    "first_perturbation",
    "hard_labels",
    "input_gradient",
    "is_correct",
    "kl_divergence",
    "l2_direction",
    "l2_norm",
    "label_probability",
    "margin",
    "mart_divergence",
    "per_example",
    "pgd",
    "relative_to",
    "soft_labels",
    "unit_l2",
]

InputLoss = Callable[[Tensor], Tensor]
"""Inputs ``[B,*]`` to losses ``[B]``."""


def cross_entropy(logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
    """``[B]`` cross-entropies in nats of ``logits [B,K]`` against labels ``y [B]`` or soft labels ``y [B,K]``.

    Args:
        logits: ``[B,K]``.
        y: ``[B]`` labels, or ``[B,K]`` soft ones.
        smoothing: share of each label that is spread over all K classes, its own included.
    """
    return F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)


def expect_labels(y: Tensor) -> Tensor:
    """The labels ``y [B]`` as they are.

    Raises:
        ValueError: they are soft labels ``[B,K]``.
    """
    if y.dim() != 1:
        raise ValueError(f"expected labels [B], got soft labels {tuple(y.shape)}")
    return y


def hard_labels(y: Tensor) -> Tensor:
    """``[B]`` labels: ``y [B]`` itself, or the classes of the largest shares of soft labels ``y [B,K]``."""
    return y if y.dim() == 1 else y.argmax(1)


def label_probability(logits: Tensor, y: Tensor) -> Tensor:
    """``[B]`` probabilities that ``logits [B,K]`` give to the labels ``y [B]``; expected ones for soft labels."""
    p = F.softmax(logits, 1)
    return p.gather(1, y[:, None])[:, 0] if y.dim() == 1 else (p * y).sum(1)


def soft_labels(y: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """``[B,K]`` labels: 1 at each of the labels ``y [B]`` and 0 elsewhere; soft labels ``y [B,K]`` as they are."""
    return F.one_hot(y, num_classes).to(dtype) if y.dim() == 1 else y


def beta(alpha: float, generator: torch.Generator) -> Tensor:
    """A draw from ``Beta(alpha, alpha)``: 0-dim, float64, on the device of the generator."""
    parameters = torch.full((2,), alpha, dtype=torch.float64, device=generator.device)
    gammas = torch._standard_gamma(parameters, generator=generator)
    return gammas[0] / gammas.sum()


def kl_divergence(logits_q: Tensor, log_p: Tensor) -> Tensor:
    """``[B]`` values of KL(p || softmax(logits_q)) in nats, from ``log_p [B,K]``."""
    return F.kl_div(F.log_softmax(logits_q, 1), log_p, reduction="none", log_target=True).sum(1)


def boosted_cross_entropy(adv_logits: Tensor, y: Tensor) -> Tensor:
    """``[B]`` values of MART's ``-log p_y - log(1.0001 - max_{k != y} p_k + 1e-12)``, with labels ``y [B]``.

    As in the public code, the first term has no guard: 1e-12 in its logarithm would take the gradient from the most
    misclassified examples.
    """
    best_other = F.softmax(adv_logits, 1).scatter(1, y[:, None], -1.0).amax(1)
    return cross_entropy(adv_logits, y) - torch.log(1.0001 - best_other + 1e-12)


def mart_divergence(logits: Tensor, adv_logits: Tensor, y: Tensor) -> Tensor:
    """``[B]`` values of MART's ``KL(p || p') (1.0000001 - p_y)``, with ``log(p' + 1e-12)`` and labels ``y [B]``."""
    p, adv_p = F.softmax(logits, 1), F.softmax(adv_logits, 1)
    divergence = (p * (F.log_softmax(logits, 1) - torch.log(adv_p + 1e-12))).sum(1)
    return divergence * (1.0000001 - p.gather(1, y[:, None])[:, 0])


def relative_to(logits: Tensor, index: Tensor) -> Tensor:
    """``logits [B,K]`` minus the one of class ``index [B]``, in float32 or wider; every softmax stays as it is.

    Through the difference, the gradient of the class ``index`` is minus the sum of the others'. The softmax alone gives
    ``p - 1`` there, which is 0 in float32 from a logit gap of 17 on, and an attack would only raise the other classes.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide - wide.gather(1, index[:, None])


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """``[B]`` margins ``max_{k != y} z_k - z_y`` of ``logits [B,K]``, labels ``y [B]``: positive is misclassified."""
    own = logits.gather(1, y[:, None])
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - own[:, 0]


def is_correct(logits: Tensor, y: Tensor) -> Tensor:
    """``[B]`` bools: the largest of ``logits [B,K]`` is that of the label ``y [B]``; never so where one is NaN."""
    return (logits.argmax(1) == y) & ~logits.isnan().any(1)


AttackLoss = Literal["ce", "kl", "margin"]


def attack_loss(name: AttackLoss, model: nn.Module, x: Tensor, y: Tensor) -> InputLoss:
    """The loss that an attack on ``x [B,*]`` with labels ``y`` maximises, as a function of the attacked inputs.

    ``ce`` is the cross-entropy, ``kl`` the divergence from the prediction for clean ``x`` (one forward, here), and
    ``margin`` the best wrong logit minus the right one. The direction of their gradients is exact also where the
    softmax is saturated (see ``relative_to``).

    Raises:
        ValueError: ``margin`` with soft labels.
    """
    if name == "kl":
        with torch.no_grad():
            logits = model(x)
            top = logits.argmax(1)
            log_p = torch.log_softmax(relative_to(logits, top), 1)
        return lambda x_adv: kl_divergence(relative_to(model(x_adv), top), log_p)
    if name == "margin":
        if y.dim() != 1:
            raise ValueError("loss margin needs hard labels [B]; use ce with soft labels")
        return lambda x_adv: margin(model(x_adv), y)
    label = hard_labels(y)
    return lambda x_adv: cross_entropy(relative_to(model(x_adv), label), y)


L2Variant = Literal["exact", "ro", "trades"]
"""An L2 attack as it should be, or to the digits of a public code: see ``L2Rule``."""


class L2Rule(NamedTuple):
    """The choices in which the L2 steps of public codes differ.

    Args:
        guard: number added to the norm of the gradient of the batch's *mean* loss before the division by it; with 0 the
            step length depends neither on the batch size nor on the scale of the loss.
        shrink: way in which a perturbation is brought back into the ball.
        projection_order: order of the projections onto ball and box.
    """

    guard: float
    shrink: Shrink
    projection_order: str


L2_RULES: dict[L2Variant, L2Rule] = {
    "exact": L2Rule(0.0, "exact", "norm_then_box"),
    "ro": L2Rule(1e-10, "renorm", "norm_then_box"),  # Rice et al., and codes that build on theirs
    "trades": L2Rule(0.0, "renorm", "box_then_norm"),
}


def l2_direction(grad: Tensor, guard: float = 0.0) -> Tensor:
    """``[B,*]`` gradients of the summed loss, each divided by its L2 norm; a zero one stays zero.

    Args:
        grad: ``[B,*]``.
        guard: see ``L2Rule``.
    """
    return unit_l2(grad) if guard == 0 else grad / per_example(l2_norm(grad) + guard * len(grad), grad)


def input_gradient(loss: InputLoss, x: Tensor, nonfinite: Tensor | None = None) -> Tensor:
    """``[B,*]`` gradients of ``loss`` at ``x [B,*]``; non-finite elements count as zero, and into ``nonfinite [B]``."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(loss(x).sum(), x)
    finite = torch.isfinite(grad)
    if nonfinite is not None:
        nonfinite += (~finite).flatten(1).sum(1)
    return torch.where(finite, grad, 0.0)


Start = Literal["uniform", "gaussian", "none"]
"""The first perturbation of an attack: see ``first_perturbation``."""


def first_perturbation(start: Start, x: Tensor, threat: ThreatModel, source: NoiseSource) -> Tensor | None:
    """``[B,*]`` perturbation from which an attack on ``x [B,*]`` starts; None with ``none``, which draws nothing.

    ``uniform`` ends inside ball and box, as ``ThreatModel.random_start`` draws it. ``gaussian`` is 0.001 N(0, 1), the
    start of the public codes of TRADES and MART, and is not clamped. ``source`` is as in ``random_start``.
    """
    if start == "none":
        return None
    if start == "uniform":
        return threat.random_start(x, source) - x
    return 0.001 * noise(x, source, "normal")


def pgd(
    loss: InputLoss,
    x: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: Fraction | float,
    start: Tensor | None = None,
    projection_order: str | None = None,
    l2_variant: L2Variant = "exact",
    nonfinite: Tensor | None = None,
) -> Tensor:
    """Ascend ``loss`` from ``x + start`` inside the threat model.

    Args:
        loss: inputs ``[B,*]`` to losses ``[B]``.
        x: ``[B,*]`` clean inputs inside the box.
        threat: norm, radius and box.
        steps: gradient steps, each one forward and one backward with respect to the input only.
        step_size: length of a step.
        start: the finished first perturbation ``[B,*]`` (used as it is, unprojected), or None for zero.
        projection_order: see ``ThreatModel.project``; None: that of ``l2_variant``.
        l2_variant: step and projection under an L2 threat model: ``exact``, or those of a public code, ``ro`` (Rice et
            al.) or ``trades``; see ``L2Rule``.
        nonfinite: ``[B]`` counter to which the number of non-finite gradient elements is added, or None.

    Returns:
        ``[B,*]`` detached adversarial examples.

    Raises:
        ValueError: ``start`` has another shape than ``x``.
    """
    if start is not None and start.shape != x.shape:
        raise ValueError(f"start: expected a perturbation of shape {tuple(x.shape)}, got {tuple(start.shape)}")
    x = x.detach()
    alpha, rule = float(step_size), L2_RULES[l2_variant]
    x_adv = x.clone() if start is None else x + start
    if threat.norm == "linf":  # ball and box are boxes: one pair of bounds serves all steps
        low, high = threat.clamp(x - float(threat.eps)), threat.clamp(x + float(threat.eps))
    for _ in range(steps):
        grad = input_gradient(loss, x_adv, nonfinite)
        if threat.norm == "linf":
            x_adv = torch.clamp(x_adv.add_(grad.sign_(), alpha=alpha), low, high)
        else:
            x_adv = x_adv + alpha * l2_direction(grad, rule.guard)
            x_adv = threat.project(x_adv, x, order=projection_order or rule.projection_order, shrink=rule.shrink)
    return x_adv
