"""Auto-PGD: projected gradient ascent that halves its steps where they gain nothing, and has no step size to choose.

Source: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
arXiv:2003.01690, algorithm 1. Where the public code differs from the paper, this follows the code: the start lies on
the surface of the ball, a step size is halved where at most (the paper: less than) three quarters of the steps rose,
and the rise of the very first step is measured from 0. Differences: a non-finite gradient element counts as zero; no
1e-12 is added to norms; in an evaluation, an example is finished once the model errs on it, and the answer is that
point, where the code goes on and answers with the last such point.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from buttress import (
    Adv,
    AttackLossChoice,
    Batch,
    Context,
    LoadedAttackLoss,
    Targets,
    ThreatModel,
    hookimpl,
    load_attack_loss,
    target_classes,
    target_count,
)
from buttress.functional import InputLoss, hard_labels, is_correct, l2_direction, margin, per_example
from buttress.nn import AttackMode, LastOutput
from buttress.settings import PerEpoch, Times, values_of

# Share of the steps that must raise the loss, and weight of a new step beside the one before it.
RHO, ALPHA = 0.75, 0.75


@dataclass(eq=False, kw_only=True)
class APGD:
    """Auto-PGD, L-inf or L2 as the threat model says.

    In training the answer is the point of the highest loss. In an evaluation an example is finished at the first point
    where the model errs on it, and one that resists gets the point of the highest loss.

    Args:
        steps: number of gradient steps; 100 as a part of AutoAttack.
        loss: loss that the steps maximise: ``ce`` cross-entropy, ``dlr`` difference-of-logits ratio, ``margin``,
            ``kl``, ``objective`` the training loss of the run (in training only), or another attack loss by name.
        targets: classes to which the attack leads, with ``ce``, ``dlr`` or ``margin``: ``least_likely``, ``random``,
            ``next`` (the one after the label), ``all`` one after the other, or so many of the likeliest, 9 as a part of
            AutoAttack; null: away from the label, to any class.
        restarts: number of independent starts, for each target.
        attack_mode: mode of the model during the training attack: ``eval``, ``train``, ``train_notrack``. Evaluation
            always attacks in eval mode.
        num_classes: number of classes; given by the run.

    The draws ``apgd.start``, the finished first perturbation, ``[B,*]`` (``[R,B,*]`` for R runs: all restarts for the
    first target, then for the next), and ``apgd.targets``, ``[B]`` classes for random targets, may be injected.
    """

    steps: PerEpoch[Times] = 10
    loss: AttackLossChoice = "ce"
    targets: Targets | None = None
    restarts: Times = 1
    attack_mode: AttackMode = "eval"
    num_classes: int | None = None

    refuses: Mapping[str, str] = field(init=False, repr=False)
    takes: Collection[str] = field(init=False, repr=False)
    _loss: LoadedAttackLoss = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._loss = load_attack_loss(self.loss, targeted=self.targets is not None)
        self.refuses, self.takes = self._loss.refuses, self._loss.takes
        if self.targets is not None:
            target_count(self.targets, self.num_classes or 10**9)

    def forwards(self, examples: int) -> int:
        """Largest number of forwards for a batch that resists, for progress bars."""
        runs = self.restarts * target_count(self.targets, self.num_classes or 10)
        chosen = runs if self.targets is not None and runs > 1 else 0
        return runs * (1 + max(values_of(self.steps))) + chosen + (self.targets is not None)

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        stop = ctx.phase == "evaluate"
        best = batch.x.detach().clone()
        best_score = torch.full((len(best),), -torch.inf, device=best.device, dtype=torch.float64)
        left = torch.arange(len(best), device=best.device)
        steps, objectives = ctx.value(self.steps), list(self._objectives(model, batch, ctx, watch=stop))
        for objective, start in zip(objectives, self._starts(batch.x, len(objectives), ctx), strict=True):
            end = apgd(objective.of(left), ctx.threat, steps=steps, start=start[left], stop=stop)
            x_adv = torch.where(per_example(end.wrong, start), end.x_wrong, end.best)
            score = end.best_loss
            if self.targets is not None and len(objectives) > 1:  # losses of two targets do not compare
                with torch.no_grad():
                    score = margin(model(x_adv), batch.y[left])
            score = torch.where(end.wrong, torch.inf, score)
            better = score >= best_score[left]
            best[left] = torch.where(per_example(better, start), x_adv, best[left])
            best_score[left] = torch.where(better, score.double(), best_score[left])
            if stop:
                left = left[~end.wrong]
                if not len(left):
                    break
        return Adv(best)

    def _objectives(self, model: nn.Module, batch: Batch, ctx: Context, watch: bool) -> Iterator["Objective"]:
        """The objective of every run, target by target."""
        targets: list[Tensor] | list[None] = [None]
        if self.targets is not None:
            with torch.no_grad():
                targets = list(target_classes(self.targets, model(batch.x), batch.y, ctx))
        for target in targets:
            for _ in range(self.restarts):
                yield Objective(self._loss, model, batch, target, ctx, watch)

    def _starts(self, x: Tensor, runs: int, ctx: Context) -> Iterator[Tensor]:
        """The first perturbation [B,*] of every run."""
        injected = ctx.draw("start", x.shape if runs == 1 else (runs, *x.shape))
        if injected is not None:
            return iter(injected.view(runs, *x.shape))
        return (ctx.threat.surface_start(x, partial(ctx.noise, "start")) for _ in range(runs))


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss of a batch as a function of attacked inputs, with its gradient.

    Args:
        attack_loss: loss to maximise.
        model: model to attack.
        batch: examples.
        targets: ``[B]`` classes to which the attack leads, or None.
        ctx: context of the attack.
        watch: whether to say where the model errs, by the logits from which the loss is made; else nowhere.
    """

    attack_loss: LoadedAttackLoss
    model: nn.Module
    batch: Batch
    targets: Tensor | None
    ctx: Context
    watch: bool

    @cached_property
    def _seen(self) -> LastOutput:
        return LastOutput(self.model)

    @cached_property
    def _loss(self) -> InputLoss:
        model = self._seen if self.watch else self.model
        if self.targets is None:
            return self.attack_loss(model, self.batch, self.ctx)
        return self.attack_loss.targeted(model, self.batch, self.targets, self.ctx)

    def of(self, left: Tensor) -> "Objective":
        """The objective of some of the examples: positions, or a mask ``[B]``."""
        targets = None if self.targets is None else self.targets[left]
        return replace(self, batch=self.batch.part(left), targets=targets)

    def __call__(self, x_adv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Losses [B], gradients [B,*], and [B] whether the model errs, at the points ``x_adv [B,*]``."""
        point = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            loss = self._loss(point)
            (grad,) = torch.autograd.grad(loss.sum(), point)
        if self.watch:
            wrong = ~is_correct(self._seen.at(point), hard_labels(self.batch.y))
        else:
            wrong = torch.zeros_like(loss, dtype=torch.bool)
        loss = torch.where(loss.isnan(), -torch.inf, loss.detach())
        return loss, torch.where(grad.isfinite(), grad, 0.0), wrong


@dataclass(eq=False)
class State:
    """All that a run knows of its examples, tensors ``[B,...]``: the iterate, the best point, the step size."""

    x: Tensor
    x_adv: Tensor
    x_before: Tensor  # the iterate before x_adv
    grad: Tensor
    loss: Tensor  # at the last point that was asked
    step_size: Tensor
    best: Tensor
    best_loss: Tensor
    best_grad: Tensor
    x_wrong: Tensor  # last point at which the model erred
    wrong: Tensor
    rises: Tensor  # number of steps that raised the loss, since the last check
    checked_loss: Tensor  # best_loss at the last check
    halved: Tensor  # whether the last check halved the step size

    @staticmethod
    def at(x: Tensor, x_adv: Tensor, loss: Tensor, grad: Tensor, wrong: Tensor, step_size: float) -> "State":
        """The state before the first step."""
        return State(
            x=x,
            x_adv=x_adv,
            x_before=x_adv,
            grad=grad,
            loss=torch.zeros_like(loss),  # the public code measures the first rise from 0
            step_size=torch.full_like(loss, step_size, dtype=x.dtype),  # losses may be wider than x
            best=x_adv,
            best_loss=loss,
            best_grad=grad,
            x_wrong=x_adv,
            wrong=wrong,
            rises=torch.zeros_like(loss),
            checked_loss=loss,
            halved=torch.ones_like(wrong),
        )

    def of(self, left: Tensor) -> "State":
        """The state of some of the examples: positions, or a mask ``[B]``."""
        return State(**{each.name: getattr(self, each.name)[left] for each in fields(self)})

    def put(self, index: Tensor, part: "State") -> None:
        """Write the state of the examples ``index [b]`` over theirs."""
        for each in fields(self):
            getattr(self, each.name)[index] = getattr(part, each.name)

    def step(self, threat: ThreatModel, alpha: float) -> None:
        """Take a step along the gradient, and mix it with the step before: ``alpha`` and ``1 - alpha``."""
        direction = self.grad.sign() if threat.norm == "linf" else l2_direction(self.grad)
        along = threat.project(self.x_adv + per_example(self.step_size, self.x) * direction, self.x)
        mixed = self.x_adv + alpha * (along - self.x_adv) + (1 - alpha) * (self.x_adv - self.x_before)
        self.x_before, self.x_adv = self.x_adv, threat.project(mixed, self.x)

    def see(self, loss: Tensor, grad: Tensor, wrong: Tensor) -> None:
        """Take note of the loss at the iterate, its gradient, and whether the model errs there."""
        self.rises = self.rises + (loss > self.loss)
        self.loss, self.grad = loss, grad
        better = loss > self.best_loss
        self.best = torch.where(per_example(better, self.x), self.x_adv, self.best)
        self.best_grad = torch.where(per_example(better, self.x), grad, self.best_grad)
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.x_wrong = torch.where(per_example(wrong, self.x), self.x_adv, self.x_wrong)
        self.wrong = self.wrong | wrong

    def check(self, steps: int) -> None:
        """Halve step sizes that gained too little in the last ``steps``, and go back to the best points there."""
        rarely = self.rises <= RHO * steps
        stuck = ~self.halved & (self.checked_loss >= self.best_loss)
        self.halved = rarely | stuck
        halved = per_example(self.halved, self.x)
        self.step_size = torch.where(self.halved, self.step_size / 2, self.step_size)
        self.x_adv = torch.where(halved, self.best, self.x_adv)
        self.grad = torch.where(halved, self.best_grad, self.grad)
        self.checked_loss, self.rises = self.best_loss, torch.zeros_like(self.rises)


def apgd(objective: Objective, threat: ThreatModel, *, steps: int, start: Tensor, stop: bool = False) -> State:
    """Ascend ``objective`` from its inputs plus ``start [B,*]``, inside the threat model.

    Args:
        objective: loss, gradient and errors at ``[B,*]`` points.
        threat: norm, radius and box.
        steps: number of gradient steps.
        start: first perturbation ``[B,*]``, before its projection.
        stop: whether an example is finished at the first point where the model errs. This waits for the device.

    Returns:
        The last state of every example: ``best``, ``best_loss``, ``wrong`` and ``x_wrong`` are the outcome.
    """
    x = objective.batch.x.detach()
    x_adv = threat.project(x + start, x)
    state = State.at(x, x_adv, *objective(x_adv), 2 * float(threat.eps))
    index, checks = torch.arange(len(x), device=x.device), checkpoints(steps)
    finished = state.of(index)
    for step in range(1, steps + 1):
        if stop and bool(state.wrong.any()):
            finished.put(index, state)
            left = ~state.wrong
            index, state, objective = index[left], state.of(left), objective.of(left)
            if not len(index):
                break
        state.step(threat, ALPHA if step > 1 else 1.0)
        state.see(*objective(state.x_adv))
        if step in checks:
            state.check(checks[step])
    finished.put(index, state)
    return finished


def checkpoints(steps: int) -> dict[int, int]:
    """Numbers of the steps after which step sizes are checked, each with the number of steps since the check before."""
    width, shrink, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    widths: dict[int, int] = {}
    step = width
    while step <= steps:
        widths[step] = width
        width = max(width - shrink, least)
        step += width
    return widths
