"""PGD: projected gradient ascent on the loss of the input, the attack of adversarial training.

Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv:1706.06083. The L2 start
and restarts follow the public code of Rice et al., "Overfitting in adversarially robust deep learning",
arXiv:2002.11569: a normal direction with a uniform radius, and of several restarts the one of highest final loss.
Differences: a non-finite gradient element counts as zero (and is counted in ``aux``); with one restart the final
forward, which would select nothing, is not made. An L2 step has the step size whatever the scale of the loss, and the
projection ends at eps; the public codes guard these divisions, and ``l2_variant: ro`` and ``trades`` give their digits.
Where a gradient is zero the code of TRADES takes a step of normal noise; here such an example stays.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from buttress import (
    Adv,
    AttackLossChoice,
    Batch,
    Context,
    EarlyStop,
    LoadedAttackLoss,
    Targets,
    ThreatModel,
    hookimpl,
    load_attack_loss,
    target_classes,
    target_count,
)
from buttress.functional import (
    InputLoss,
    L2Variant,
    Start,
    first_perturbation,
    input_gradient,
    margin,
    per_example,
    pgd,
)
from buttress.nn import AttackMode
from buttress.settings import NonNegativeFraction, PerEpoch, Times, values_of


@dataclass(eq=False, kw_only=True)
class PGD:
    """Projected gradient descent attack, L-inf or L2 as the threat model says.

    Args:
        steps: number of gradient steps.
        step_size: length of a step in units of the input; default eps / 4 (2/255 at eps 8/255).
        loss: loss that the steps maximise: ``ce`` cross-entropy, ``kl`` divergence from the clean prediction (TRADES),
            ``margin`` best wrong logit minus right logit, ``objective`` the training loss of the run (in training
            only), or another attack loss by name.
        start: first perturbation: ``uniform`` in the ball, ``gaussian`` (x + 0.001 N(0, 1), not clamped; TRADES, MART),
            ``gradient``, the gradient of the mean loss at x, as it is (the public code of IDBH), or ``none``.
        targets: classes to which the attack leads, with ``ce``, ``dlr`` or ``margin``: ``least_likely``, ``random``,
            ``next`` (the one after the label), ``all`` one after the other, or so many of the likeliest; null: away
            from the label, to any class. Of several, each example keeps the one with the largest final margin.
        restarts: number of independent starts; each example keeps the one with the highest final loss.
        early_stop: whether an example is finished at the first point where the model errs on it, or, with targets,
            gives the target: its answer is that point, in the place of the last one, and in an evaluation it leaves the
            batch and all further restarts.
        l2_variant: steps and projection for L2: ``exact``, or those of a public code, ``ro`` (Rice et al.) or
            ``trades``.
        projection_order: for L2 at the border of the box: ``norm_then_box`` (RO lineage), ``box_then_norm`` (TRADES);
            null: as the variant, and ``norm_then_box`` for ``exact``.
        attack_mode: mode of the model during the training attack: ``eval``, ``train`` (RO lineage), ``train_notrack``.
            Evaluation always attacks in eval mode.
        num_classes: number of classes; given by the run.

    The draws ``pgd.start``, the finished first perturbation, ``[B,*]`` (``[R,B,*]`` for R runs: all restarts for the
    first target, then for the next), and ``pgd.targets``, ``[B]`` classes for random targets, may be injected.
    """

    steps: PerEpoch[Times] = 10
    step_size: PerEpoch[NonNegativeFraction] | None = None
    loss: AttackLossChoice = "ce"
    start: Literal[Start, "gradient"] = "uniform"
    targets: Targets | None = None
    restarts: Times = 1
    early_stop: bool = False
    l2_variant: L2Variant = "exact"
    projection_order: Literal["norm_then_box", "box_then_norm"] | None = None
    attack_mode: AttackMode = "eval"
    num_classes: int | None = None

    refuses: Mapping[str, str] = field(init=False, repr=False)
    takes: Collection[str] = field(init=False, repr=False)
    _loss: LoadedAttackLoss = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._loss = load_attack_loss(self.loss, targeted=self.targets is not None)
        self.refuses, self.takes = self._loss.refuses, self._loss.takes
        if self.early_stop:
            self.refuses, self.takes = {**EarlyStop.refuses, **self.refuses}, ()
        if self.targets is not None:
            target_count(self.targets, self.num_classes or 10**9)
        if self.start in ("none", "gradient"):
            self._loss.expect_gradient_at_x(["gaussian", "uniform"])

    def forwards(self, examples: int) -> int:
        """Largest number of forwards for a batch, for progress bars."""
        runs = self.restarts * target_count(self.targets, self.num_classes or 10)
        steps = max(values_of(self.steps))
        return (steps + (self.start == "gradient") + (runs > 1)) * runs + (self.targets is not None)

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        step_size = ctx.threat.eps / 4 if self.step_size is None else ctx.value(self.step_size)
        stop = EarlyStop(self.early_stop, model, batch, ctx)
        losses = [loss for loss in self._losses(stop, model, batch, ctx) for _ in range(self.restarts)]
        margins = stop.loss(lambda model, batch, _: lambda x_adv: margin(model(x_adv), batch.y))
        runs = len(losses)
        injected = ctx.draw("start", batch.x.shape if runs == 1 else (runs, *batch.x.shape))
        if injected is not None and runs == 1:
            injected = injected[None]
        best: Tensor | None = None
        best_loss: Tensor | None = None
        nonfinite = torch.zeros(len(batch.x), dtype=torch.int64, device=batch.x.device)
        for run, loss in enumerate(losses):
            start = self._start(batch.x, loss, ctx) if injected is None else injected[run]
            x_adv = pgd(
                loss,
                batch.x,
                ctx.threat,
                steps=ctx.value(self.steps),
                step_size=step_size,
                start=stop.start(start),
                projection_order=self.projection_order,
                l2_variant=self.l2_variant,
                nonfinite=nonfinite,
            )
            if runs == 1:
                best = x_adv
                break
            with torch.no_grad():  # losses of two targets do not compare
                final = loss(x_adv) if self.targets is None else margins(x_adv)
            if best is None or best_loss is None:
                best, best_loss = x_adv, final
            else:
                better = final >= best_loss
                best = torch.where(per_example(better, x_adv), x_adv, best)
                best_loss = torch.where(better, final, best_loss)
        assert best is not None
        return Adv(stop.answer(best), {"nonfinite_grads": nonfinite})

    def _losses(self, stop: EarlyStop, model: nn.Module, batch: Batch, ctx: Context) -> list[InputLoss]:
        """The loss of the attack, or one for each target."""
        targets: list[Tensor] | list[None] = [None]
        if self.targets is not None:
            with torch.no_grad():
                targets = list(target_classes(self.targets, model(batch.x), batch.y, ctx))

        def make(model: nn.Module, batch: Batch, target: Tensor | None) -> InputLoss:
            if target is None:
                return self._loss(model, batch, ctx)
            return self._loss.targeted(model, batch, target, ctx)

        losses = [stop.loss(make, target) for target in targets]
        return [seen_in_box(loss, ctx.threat) for loss in losses] if self.start == "gradient" else losses

    def _start(self, x: Tensor, loss: InputLoss, ctx: Context) -> Tensor | None:
        if self.start == "gradient":
            return input_gradient(loss, x) / ctx.size(x)
        return first_perturbation(self.start, x, ctx.threat, partial(ctx.noise, "start"))


def seen_in_box(loss: InputLoss, threat: ThreatModel) -> InputLoss:
    """``loss`` at inputs clipped to the box, with the gradient of the clipped input for every element of the input."""
    return lambda x_adv: loss(x_adv + (threat.clamp(x_adv) - x_adv).detach())
