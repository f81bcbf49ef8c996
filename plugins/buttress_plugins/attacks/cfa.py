"""CFA: class-wise adversarial training, whose radius and regularisation follow the robust accuracy of each class.

Source: Wei, Wang, Guo, Wang, "CFA: Class-wise Calibrated Fair Adversarial Training", arXiv:2303.14460, sections 4.1
(margin, CCM) and 4.2 (regularisation, CCR); the third part of the method is the plugin ``fawa``. r_k is the share of
the adversarial examples of class k that the model classified correctly in training, in the epoch before; it comes out
of the forward of the loss. The public code divides by the mean class size (``class_size: mean``), and makes two clean
forwards for ``trades`` (``clean_forwards: 2``); here each class is divided by its own size, and one forward serves both
terms. Up to the epoch ``begin`` each class has the radius eps and the weight beta / (1 + beta).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from buttress import Adv, Batch, Context, Event, Loss, PluginError, hookimpl
from buttress.functional import (
    attack_loss,
    cross_entropy,
    expect_labels,
    first_perturbation,
    input_gradient,
    is_correct,
    kl_divergence,
    l2_norm,
    per_example,
    relative_to,
    unit_l2,
)
from buttress.nn import AttackMode
from buttress.settings import Epoch, NonNegative, NonNegativeFraction, PerEpoch, Times, values_of

NO_SOFT_LABELS = {"soft labels": "CFA has a radius and a weight for every class, and a soft label is of several"}


@dataclass(eq=False, kw_only=True)
class CFA:
    """PGD with ``eps_k = (lambda1 + r_k) eps``, and TRADES with a weight for every class.

    The loss is ``(1 - b_y) CE(f(x), y) + b_y KL(p(x) || p(x'))`` with ``b_k = c_k / (1 + c_k)`` and
    ``c_k = (lambda2 + r_k) beta``, or the cross-entropy at x' in the other modes.

    Args:
        num_classes: number of classes K; in a config, the data's.
        mode: method whose attack and loss are calibrated: ``trades``; ``at``, PGD on the cross-entropy; or ``fat``,
            the same, where examples stop once they are misclassified.
        lambda1: smallest radius, relative to eps.
        lambda2: smallest factor on ``beta``.
        beta: weight of the divergence in TRADES; 6 in the paper.
        ccm: whether the radius is that of the class; with ``false`` it is eps.
        ccr: whether the weight is that of the class; with ``false`` it is beta / (1 + beta).
        begin: first epoch with a radius and a weight for every class: 0-based, or a fraction of the epochs in (0, 1).
        tau: number of steps that ``fat`` takes from misclassified points before an example stops.
        steps: number of gradient steps.
        step_size: length of a step in units of the input, for all classes; default eps / 4 (2/255 at eps 8/255).
        clean_forwards: number of clean forwards of ``trades``: 1, or 2 as in the public code.
        class_size: number by which the correct examples of a class are divided: ``own``, the number of its examples, or
            ``mean``, the mean over the classes, as in the public code; r_k is then up to K, and 0 without examples.
        attack_mode: mode of the model during the attack: ``eval``, ``train`` (the public code in its modes ``at`` and
            ``fat``), ``train_notrack``.

    The draw ``cfa.start`` may be injected: the finished first perturbation ``[B,*]``. It is normal (0.001 N(0, 1)) in
    the mode ``trades``, and uniform in the ball of the class in the others.
    """

    refuses = NO_SOFT_LABELS

    num_classes: Annotated[int, Ge(2)]
    mode: Literal["trades", "at", "fat"] = "trades"
    lambda1: NonNegative = 0.5
    lambda2: NonNegative = 0.5
    beta: PerEpoch[NonNegative] = 6.0
    ccm: bool = True
    ccr: bool = True
    begin: Epoch = 10
    tau: Annotated[int, Ge(0)] = 3
    steps: PerEpoch[Times] = 10
    step_size: PerEpoch[NonNegativeFraction] | None = None
    clean_forwards: Literal[1, 2] = 1
    class_size: Literal["own", "mean"] = "own"
    attack_mode: AttackMode = "eval"

    radius: float = field(init=False, repr=False)
    _accuracy: Tensor | None = field(init=False, repr=False, default=None)
    _correct: Tensor = field(init=False, repr=False)
    _seen: Tensor = field(init=False, repr=False)
    _counted: tuple[Tensor, Tensor] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        largest = 1.0 if self.class_size == "own" else float(self.num_classes)
        self.radius = largest + self.lambda1 if self.ccm else 1.0
        self._correct = self._seen = torch.zeros(self.num_classes, dtype=torch.int64)

    def forwards(self, examples: int) -> int:
        """Largest number of forwards of the attack for a batch, for progress bars."""
        return max(values_of(self.steps))

    @hookimpl
    def start_run(self, ctx: Context) -> None:
        self._correct = self._seen = torch.zeros(self.num_classes, dtype=torch.int64, device=ctx.device)
        if ctx.classes is not None:
            expect_all_classes(ctx.classes, self.num_classes)

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        x, y = batch.x, expect_labels(batch.y)
        radius = float(ctx.threat.eps) * torch.ones(len(x), dtype=x.dtype, device=x.device)
        if self.ccm and self._calibrates(ctx):
            radius = radius * (self.lambda1 + self._accuracy_of(y, x))
        step_size = float(ctx.threat.eps / 4 if self.step_size is None else ctx.value(self.step_size))
        patience = Patience(model, y, self.tau) if self.mode == "fat" else None
        loss = patience or attack_loss("kl" if self.mode == "trades" else "ce", model, x, y)
        x_adv = x + self._start(x, radius, ctx)
        for _ in range(ctx.value(self.steps)):
            grad = input_gradient(loss, x_adv)
            step = step_size * (grad.sign() if ctx.threat.norm == "linf" else unit_l2(grad))
            if patience is not None:
                step = step * per_example(patience.moving(), step)
            x_adv = ctx.threat.clamp(x + into_ball(x_adv + step - x, radius, ctx.threat.norm))
        return Adv(x_adv, {"eps": per_example(radius, x)})

    @hookimpl
    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv, ctx: Context) -> Loss:
        x, y = batch.x, expect_labels(batch.y)
        if self.mode == "trades":
            factor = torch.ones(len(x), dtype=x.dtype, device=x.device)
            if self.ccr and self._calibrates(ctx):
                factor = self.lambda2 + self._accuracy_of(y, x)
            logits, adv_logits = model(x), model(adv.x)
            reference = model(x) if self.clean_forwards == 2 else logits
            losses = balanced_trades(logits, adv_logits, reference, y, factor * ctx.value(self.beta))
        else:
            adv_logits = model(adv.x)
            losses = cross_entropy(adv_logits, y)
        if ctx.phase == "train":
            counts = count(is_correct(adv_logits.detach(), y), y, self.num_classes)
            correct, seen = ctx.sum(torch.stack(counts))
            self._counted = correct, seen
        return Loss(losses)

    @hookimpl
    def ensemble_weights(self, event: Event, ctx: Context) -> None:
        if event == "step" and self._counted is not None:
            correct, seen = (torch.where(ctx.skipped, 0, each) for each in self._counted)
            self._correct, self._seen, self._counted = self._correct + correct, self._seen + seen, None
        if event == "epoch":
            if self.class_size == "own":
                self._accuracy = class_accuracy(self._correct, self._seen, self._accuracy)
            else:
                self._accuracy = self.num_classes * self._correct.double() / self._seen.sum().clamp_min(1)
            self._correct, self._seen = torch.zeros_like(self._correct), torch.zeros_like(self._seen)

    def state_dict(self) -> dict[str, Any]:
        return {"accuracy": self._accuracy, "correct": self._correct, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        device = self._seen.device
        self._accuracy = None if state["accuracy"] is None else state["accuracy"].to(device)
        self._correct, self._seen = state["correct"].to(device), state["seen"].to(device)

    def _calibrates(self, ctx: Context) -> bool:
        return self._accuracy is not None and ctx.epoch >= ctx.resolve_epoch(self.begin)

    def _accuracy_of(self, y: Tensor, like: Tensor) -> Tensor:
        """``[B]`` robust accuracies of the classes ``y``, in the dtype of ``like``."""
        assert self._accuracy is not None
        return self._accuracy[y].to(like.dtype)

    def _start(self, x: Tensor, radius: Tensor, ctx: Context) -> Tensor:
        start = ctx.draw("start", x.shape)
        if start is None and self.mode == "trades":
            start = first_perturbation("gaussian", x, ctx.threat, partial(ctx.noise, "start"))
        if start is not None:
            return start
        noise, share = ctx.noise("start", x, "normal"), ctx.noise("start", x)
        if ctx.threat.norm == "linf":
            return ctx.threat.clamp(x + (2 * share - 1) * per_example(radius, x)) - x
        length = radius * share.flatten(1)[:, 0]
        return ctx.threat.clamp(x + unit_l2(noise) * per_example(length, x)) - x


class Patience:
    """The cross-entropy for the steps of ``fat``, which also says who takes them.

    Args:
        model: attacked.
        y: labels ``[B]``.
        tau: number of steps that an example takes from misclassified points; then it stops.
    """

    def __init__(self, model: nn.Module, y: Tensor, tau: int) -> None:
        self.model, self.y = model, y
        self.left = torch.full_like(y, tau)
        self.is_right = torch.ones_like(y, dtype=torch.bool)

    def __call__(self, x_adv: Tensor) -> Tensor:
        logits = self.model(x_adv)
        self.is_right = is_correct(logits.detach(), self.y)
        return cross_entropy(relative_to(logits, self.y), self.y)

    def moving(self) -> Tensor:
        """``[B]`` bools: the examples that take a step from the points of the last call."""
        moving = self.left > 0
        self.left = self.left - (moving & ~self.is_right).long()
        return moving


def balanced_trades(logits: Tensor, adv_logits: Tensor, reference: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """``[B]`` losses ``(1 - b) CE + b KL`` with ``b = c / (1 + c)``.

    Args:
        logits: clean ones ``[B,K]``, of the cross-entropy.
        adv_logits: adversarial ones ``[B,K]``.
        reference: clean ones ``[B,K]``, of the divergence.
        y: labels ``[B]``.
        c: weights ``[B]``.
    """
    b = c / (1 + c)
    return (1 - b) * cross_entropy(logits, y) + b * kl_divergence(adv_logits, F.log_softmax(reference, 1))


def into_ball(delta: Tensor, radius: Tensor, norm: str) -> Tensor:
    """``delta [B,*]`` projected onto the balls of the radii ``radius [B]``."""
    if norm == "linf":
        bound = per_example(radius, delta)
        return torch.minimum(torch.maximum(delta, -bound), bound)
    length = l2_norm(delta).clamp_min(torch.finfo(delta.dtype).tiny)
    return delta * per_example((radius / length).clamp_max(1.0), delta)


def count(is_right: Tensor, y: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Numbers ``[K]`` of correct and of all examples of each class, from ``is_right [B]`` and labels ``[B]``."""
    is_of = y[:, None] == torch.arange(num_classes, device=y.device)
    return (is_of & is_right[:, None]).sum(0), is_of.sum(0)


def class_accuracy(correct: Tensor, seen: Tensor, before: Tensor | None) -> Tensor:
    """``[K]`` shares in float64; a class that was not seen keeps the one from ``before``, or has 0."""
    share = correct.double() / seen.clamp_min(1)
    return share if before is None else torch.where(seen > 0, share, before)


def expect_all_classes(classes: Sequence[int], num_classes: int) -> None:
    """Expect training examples of each class, and of no other.

    Args:
        classes: number of training examples of each class.
        num_classes: number of classes.

    Raises:
        PluginError: there is a class without any, or with a label beyond ``num_classes``.
    """
    largest = max((k for k, number in enumerate(classes) if number), default=0)
    if largest >= num_classes:
        raise PluginError(
            f"num_classes: expected at least {largest + 1}, as the training examples have the largest label {largest}, "
            f"got {num_classes}; leave it out of a config, which takes it from the data"
        )
    missing = [k for k in range(num_classes) if k >= len(classes) or not classes[k]]
    if missing:
        raise PluginError(
            f"num_classes: expected training examples of all {num_classes} classes, whose robust accuracies it "
            f"measures, got none of class {', '.join(map(str, missing[:5]))}; number the classes without gaps"
        )
