"""SPSA: gradient ascent without gradients, on differences of the loss along random signs.

Source: Uesato et al., "Adversarial Risk and the Dangers of Evaluating Against Weak Attacks", arXiv:1802.05666,
algorithm 1: two-sided differences, Adam, projection, and no further query for an example that is misclassified. It sees
no more than a black-box attacker does; where it breaks examples that resist PGD, the gradients are masked. Default
sizes are those of the evaluations of AWP (Wu et al., arXiv:2004.05884) and its successors. The source has L-inf only.
Under an L2 threat model Adam's second moment is one number an example, so that steps go along the gradient and not
towards its signs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from buttress import Adv, Batch, Context, ThreatModel, hookimpl
from buttress.functional import margin, per_example
from buttress.settings import Times

StackedLoss = Callable[[Tensor, Tensor], Tensor]
"""Inputs ``[S*B,*]``, S copies of a batch one after the other, and positions ``[B]`` in it, to losses ``[S*B]``."""

# Adam's usual decays. Its usual guard of 1e-8 is left out: it is in units of the logits, so that a model could slow the
# attack down by scaling them.
BETA1, BETA2 = 0.9, 0.999

NO_SOFT_LABELS = {"soft labels": "its loss, the margin, is of one label against the others"}


@dataclass(eq=False, kw_only=True)
class SPSA:
    """Simultaneous perturbation stochastic approximation on the margin, L-inf or L2.

    Two forwards a sample and step: the defaults cost 51,200 forwards for an example that resists.

    Args:
        steps: number of steps of Adam.
        samples: number of random signs a step, each queried on both sides.
        radius: distance of the two sides from the current point, in units of the input.
        lr: learning rate of Adam, in units of the input.
        forward_size: largest number of examples in one forward, where a batch is no larger; memory and speed depend
            on it.

    The draw ``spsa.signs`` may be injected: 1 and -1, ``[steps,samples,B,*]``.
    """

    refuses = NO_SOFT_LABELS
    hookspec = "1.0"  # where radius is a setting, no trait

    steps: Times = 100
    samples: Times = 256
    radius: Annotated[float, Gt(0)] = 0.001
    lr: Annotated[float, Gt(0)] = 0.01
    forward_size: Annotated[int, Ge(2)] = 4096

    def forwards(self, examples: int) -> int:
        """Number of forwards for a batch that resists, for progress bars."""
        return self.steps * (1 + math.ceil(self.samples / copies(self.forward_size, examples)))

    @hookimpl
    @torch.no_grad()
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        def loss(x: Tensor, index: Tensor) -> Tensor:
            return margin(model(x), batch.y[index].repeat(len(x) // len(index)))

        x_adv = spsa(
            loss,
            batch.x,
            ctx.threat,
            steps=self.steps,
            samples=self.samples,
            radius=self.radius,
            lr=self.lr,
            generator=ctx.generator("signs"),
            signs=ctx.draw("signs", (self.steps, self.samples, *batch.x.shape)),
            forward_size=self.forward_size,
            enough=0.0,  # a positive margin is a misclassification
        )
        return Adv(x_adv)


def spsa(
    loss: StackedLoss,
    x: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    samples: int,
    radius: float,
    lr: float,
    generator: torch.Generator,
    forward_size: int = 4096,
    enough: float = math.inf,
    signs: Tensor | None = None,
) -> Tensor:
    """Ascend ``loss`` from ``x [B,*]`` by Adam on estimated gradients; an example whose loss is above ``enough`` stays.

    ``signs [steps,samples,B,*]`` take the place of random ones.

    Returns:
        ``[B,*]`` points inside the threat model.
    """
    best, active = x.clone(), torch.arange(len(x), device=x.device)
    x_adv, first, second = x, torch.zeros_like(x), torch.zeros_like(x)
    for step in range(1, steps + 1):

        def loss_of_active(points: Tensor, index: Tensor = active) -> Tensor:
            return loss(points, index)

        given = None if signs is None else signs[step - 1][:, active]
        grad = spsa_gradient(loss_of_active, x_adv, samples, radius, generator, forward_size, given)
        first = BETA1 * first + (1 - BETA1) * grad
        square = grad.square()
        if threat.norm == "l2":
            square = per_example(square.flatten(1).mean(1), grad).expand_as(grad)
        second = BETA2 * second + (1 - BETA2) * square
        scale = (second / (1 - BETA2**step)).sqrt().clamp_min(torch.finfo(grad.dtype).tiny)  # first is 0 where it is
        direction = first / (1 - BETA1**step) / scale
        x_adv = threat.project(x_adv + lr * direction, x[active])
        best[active] = x_adv
        left = loss(x_adv, active) <= enough
        if not left.all():
            active, x_adv, first, second = active[left], x_adv[left], first[left], second[left]
            if not len(active):
                break
    return best


def copies(forward_size: int, examples: int) -> int:
    """Number of random signs that one forward takes for a batch of ``examples``."""
    return max(1, forward_size // (2 * examples))


def spsa_gradient(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    samples: int,
    radius: float,
    generator: torch.Generator,
    forward_size: int = 4096,
    given: Tensor | None = None,
) -> Tensor:
    """``[B,*]`` estimates of the gradient of ``loss`` at ``x [B,*]``.

    The mean over random signs v of ``(loss(x + radius v) - loss(x - radius v)) / (2 radius) * v``: for a linear loss an
    unbiased one. A non-finite difference counts as zero. ``loss`` takes ``[2S*B,*]``: as many copies of the batch as
    ``forward_size`` allows, and at least two. ``given [samples,B,*]`` takes the place of random signs.
    """
    total, per_forward = torch.zeros_like(x), copies(forward_size, len(x))
    for first in range(0, samples, per_forward):
        shape = (min(per_forward, samples - first), *x.shape)
        if given is None:
            signs = torch.randint(0, 2, shape, generator=generator, device=x.device).to(x.dtype).mul_(2).sub_(1)
        else:
            signs = given[first : first + shape[0]].to(x.dtype)
        above, below = loss(torch.cat([x + radius * signs, x - radius * signs]).flatten(0, 1)).chunk(2)
        slopes = ((above - below) / (2 * radius)).view(*shape[:2], *[1] * (x.dim() - 1))
        total += (torch.where(slopes.isfinite(), slopes, 0.0) * signs).sum(0)
    return total / samples
