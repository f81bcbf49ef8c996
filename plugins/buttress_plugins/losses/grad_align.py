"""GradAlign: a penalty on input gradients that turn within the ball, against catastrophic overfitting.

Source: Andriushchenko and Flammarion, "Understanding and Improving Fast Adversarial Training", arXiv:2007.02617.
Single-step training collapses when the loss is no longer linear in the ball; the penalty keeps its gradients there of
one direction. As in the public code, gradients are taken in train mode, the clean one first and the disturbed one last;
the disturbed input is not clipped to the box; and examples with a zero gradient leave the mean. The public code holds
the gradient at the clean input constant: ``variant: official``.
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from buttress import Batch, Context, Loss, ThreatModel, hookimpl
from buttress.functional import InputLoss, attack_loss
from buttress.settings import NonNegative, PerEpoch


@dataclass(eq=False, kw_only=True)
class GradAlign:
    """Adds ``lam * (1 - cos(grad_x l(x), grad_x l(x + eta)))`` to the training loss, with eta uniform in the ball.

    The penalty is a term of the whole batch, which a weight perturbation does not maximise.

    Args:
        lam: weight of the penalty; 0.2 is the paper's for CIFAR-10 at eps 8/255. 0 switches it off.
        variant: gradients that the penalty changes: ``paper`` both; ``official`` the one at ``x + eta`` alone, as in
            the public code, with one second-order backward less.

    The draw ``grad_align.eta`` may be injected: the disturbance ``[B,*]``.
    """

    lam: PerEpoch[NonNegative] = 0.2
    variant: Literal["paper", "official"] = "paper"

    @hookimpl(wrapper=True)
    def compute_loss(self, model: nn.Module, batch: Batch, ctx: Context) -> Generator[None, Loss, Loss]:
        lam = ctx.value(self.lam)
        if lam == 0 or ctx.phase != "train":
            return (yield)
        ascent = attack_loss("ce", model, batch.x, batch.y)
        clean = slope(ascent, batch.x, create_graph=self.variant == "paper")
        loss = yield
        disturbed = slope(ascent, batch.x + self._eta(batch.x, ctx), create_graph=True)
        turn = misalignment(clean, disturbed, ctx)
        ctx.record("misalignment", turn)
        penalty = lam * turn
        return Loss(loss.per_example, penalty if loss.penalty is None else loss.penalty + penalty)

    def _eta(self, x: Tensor, ctx: Context) -> Tensor:
        eta = ctx.draw("eta", x.shape)
        if eta is None:
            ball = ThreatModel(ctx.threat.norm, ctx.threat.eps, box=None)
            eta = ball.random_start(x, partial(ctx.noise, "eta")) - x
        return eta


def slope(loss: InputLoss, x: Tensor, *, create_graph: bool) -> Tensor:
    """``[B,*]`` gradients of the summed ``loss`` at ``x [B,*]``, with their graph where a penalty changes them."""
    x = x.detach().requires_grad_(True)
    (grad,) = torch.autograd.grad(loss(x).sum(), x, create_graph=create_graph)
    return grad


def misalignment(first: Tensor, second: Tensor, ctx: Context) -> Tensor:
    """0-dim mean of ``1 - cos`` over the examples of which no gradient ``[B,*]`` is zero; 0 where there is none."""
    grads = [first.flatten(1), second.flatten(1)]
    peaks = [grad.detach().abs().amax(1, keepdim=True) for grad in grads]
    turning = (peaks[0] > 0) & (peaks[1] > 0)
    # Divided by its peak, a gradient has squares that neither vanish nor overflow, however sure the model is.
    u, v = (
        torch.where(turning, grad / torch.where(turning, peak, 1.0), 1.0)
        for grad, peak in zip(grads, peaks, strict=True)
    )
    cosine = (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1))
    turning = turning[:, 0]
    count = ctx.sum(turning.sum()).clamp_min(1)
    return torch.where(turning, 1 - cosine, 0.0).mean() * (ctx.size(turning) / count)
