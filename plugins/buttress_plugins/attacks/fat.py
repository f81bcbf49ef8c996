"""FAT: friendly adversarial training; PGD stops on an example soon after the model errs on it.

Source: Zhang, Xu, Han, Niu, Cui, Sugiyama, Kankanhalli, "Attacks Which Do Not Kill Training Make Adversarial Learning
Stronger", arXiv:2002.11242, algorithm 1. An example on which the model errs takes ``tau`` further steps, and is
finished. Its forms: ``fat`` alone; with ``trades``, ``fat: {loss: kl, start: gaussian, omega: 0}``; with ``mart``,
``fat: {start: gaussian, omega: 0}``.

The public code takes finished examples out of the batch, and returns the batch in another order. Here they stay where
they are, and masks hold them: the batch keeps its order and its shape, and nothing waits for the device, but a step
costs all forwards. Its gaussian start is clipped to the box; here it is projected into the ball as well, because a
finished example is returned as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from buttress import Adv, Batch, Context, Epoch, hookimpl, load_attack_loss
from buttress.functional import (
    Start,
    attack_loss,
    first_perturbation,
    hard_labels,
    input_gradient,
    is_correct,
    l2_direction,
    per_example,
)
from buttress.nn import AttackMode, LastOutput
from buttress.settings import NonNegative, NonNegativeFraction, PerEpoch, Times, values_of

NO_MIXED_INPUTS = {"mixed inputs": "it stops where the model errs on the label, and a mixed input has two"}


@dataclass(eq=False, kw_only=True)
class FAT:
    """PGD that is stopped early, example by example; records the mean number of its steps.

    Args:
        steps: largest number of gradient steps.
        step_size: length of a step in units of the input; default eps / 4 (2/255 at eps 8/255).
        tau: number of steps that an example takes although the model errs on it.
        rises: epochs from each of which on ``tau`` is one more; those of the paper's 120 epochs.
        loss: loss that the steps maximise: ``ce`` cross-entropy, or ``kl`` divergence from the clean prediction
            (TRADES).
        start: random start: ``uniform`` in the ball, ``gaussian`` (x + 0.001 N(0, 1); TRADES, MART), or ``none``.
        omega: standard deviation of the normal noise that every step adds before the projection.
        attack_mode: mode of the model during the attack: ``eval``, ``train``, ``train_notrack``.

    The draws ``fat.start``, the first perturbation ``[B,*]`` before its projection, and ``fat.noise``, normal
    ``[steps,B,*]``, may be injected.
    """

    refuses = NO_MIXED_INPUTS

    steps: PerEpoch[Times] = 10
    step_size: PerEpoch[NonNegativeFraction] | None = None
    tau: Annotated[int, Ge(0)] = 0
    rises: list[Epoch] = field(default_factory=lambda: [50, 90])
    loss: Literal["ce", "kl"] = "ce"
    start: Start = "uniform"
    omega: NonNegative = 0.001
    attack_mode: AttackMode = "eval"

    def __post_init__(self) -> None:
        if self.start == "none":
            load_attack_loss(self.loss).expect_gradient_at_x(["gaussian", "uniform"])

    def forwards(self, examples: int) -> int:
        """Largest number of forwards for a batch, for progress bars."""
        return max(values_of(self.steps))

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        x, threat = batch.x, ctx.threat
        step_size = float(threat.eps / 4 if self.step_size is None else ctx.value(self.step_size))
        seen, label = LastOutput(model), hard_labels(batch.y)
        loss = attack_loss(self.loss, seen, x, batch.y)
        x_adv = threat.project(x + self._start(x, ctx), x)
        active = torch.ones(len(x), dtype=torch.bool, device=x.device)
        patience = torch.full((len(x),), self._tau(ctx), device=x.device)
        taken = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        for noise in self._noise(x, ctx):
            grad = input_gradient(loss, x_adv)
            active, patience = friendly(is_correct(seen.last(), label), active, patience)
            direction = grad.sign() if threat.norm == "linf" else l2_direction(grad)
            moved = threat.project(x_adv + step_size * direction + noise, x)
            x_adv = torch.where(per_example(active, x), moved, x_adv)
            taken += active
        ctx.record("steps", taken.to(x.dtype).mean())
        return Adv(x_adv, {"steps": taken})

    def _tau(self, ctx: Context) -> int:
        """tau in the epoch of ctx."""
        return self.tau + sum(ctx.epoch >= ctx.resolve_epoch(epoch) for epoch in self.rises)

    def _start(self, x: Tensor, ctx: Context) -> Tensor:
        """The first perturbation [B,*], not projected."""
        start = ctx.draw("start", x.shape)
        if start is None:
            start = first_perturbation(self.start, x, ctx.threat, partial(ctx.noise, "start"))
        return torch.zeros_like(x) if start is None else start

    def _noise(self, x: Tensor, ctx: Context) -> Iterator[Tensor | float]:
        """The noise [B,*] of each step."""
        steps = ctx.value(self.steps)
        injected = ctx.draw("noise", (steps, *x.shape))
        for step in range(steps):
            if self.omega == 0:
                yield 0.0
            elif injected is not None:
                yield self.omega * injected[step]
            else:
                yield self.omega * ctx.noise("noise", x, "normal")


def friendly(correct: Tensor, active: Tensor, patience: Tensor) -> tuple[Tensor, Tensor]:
    """One look at the iterates, before their next step: [B] examples that take it, and the patience left.

    Args:
        correct: [B] whether the model classifies the iterate as its label.
        active: [B] whether the example has taken every step so far.
        patience: [B] number of further steps on which the model may err.
    """
    active = active & (correct | (patience > 0))
    return active, patience - (active & ~correct).to(patience.dtype)
