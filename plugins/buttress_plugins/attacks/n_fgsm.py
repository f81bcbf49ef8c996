"""N-FGSM: one signed gradient step from a strongly disturbed input, whose noise stays in the adversarial example.

Source: de Jorge, Bibi, Volpi, Sanyal, Torr, Rogez, Dokania, "Make Some Noise: Reliable and Efficient Single-Step
Adversarial Training", arXiv:2202.01181. The perturbation is not projected to the ball, and reaches ``(k + alpha) eps``.
As in the public code, the noise is clipped to the box before the gradient is taken. The paper has L-inf only. Under an
L2 threat model the noise has a random direction and a length uniform up to ``k eps``, and the step follows the
normalised gradient.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from buttress import Adv, Batch, Context, ThreatModel, hookimpl
from buttress.functional import InputLoss, attack_loss, input_gradient, unit_l2
from buttress.nn import AttackMode
from buttress.settings import Number


@dataclass(eq=False, kw_only=True)
class NFGSM:
    """Noisy fast gradient sign method: ``x' = clip(x + noise + alpha eps sign(g))``, the gradient at ``x + noise``.

    Args:
        k: half-width of the uniform noise, relative to eps.
        alpha: length of the step, relative to eps.
        attack_mode: mode of the model during the training attack: ``eval``, ``train`` (the public code),
            ``train_notrack``.

    The draw ``n_fgsm.noise`` may be injected: the finished noise ``[B,*]``, inside the box when added to the input.
    """

    k: Annotated[Number, Ge(0)] = 2.0
    alpha: Annotated[Number, Ge(0)] = 1.0
    attack_mode: AttackMode = "eval"

    radius: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.radius = self.k + self.alpha
        if self.radius == 0:
            raise ValueError("alpha: expected k + alpha > 0, got 0 for both; for training without an attack use clean")

    @hookimpl
    def generate_adv(self, model: nn.Module, batch: Batch, ctx: Context) -> Adv:
        noise = ctx.draw("noise", batch.x.shape)
        if noise is None:
            wide = ThreatModel(ctx.threat.norm, self.k * ctx.threat.eps, box=None)
            noise = ctx.threat.clamp(wide.random_start(batch.x, partial(ctx.noise, "noise"))) - batch.x
        return Adv(n_fgsm(attack_loss("ce", model, batch.x, batch.y), batch.x, ctx.threat, noise, self.alpha))


def n_fgsm(loss: InputLoss, x: Tensor, threat: ThreatModel, noise: Tensor, alpha: float) -> Tensor:
    """One step of ``alpha eps`` up ``loss`` from ``x + noise``, both ``[B,*]``, clipped to the box alone."""
    start = x.detach() + noise
    grad = input_gradient(loss, start)
    direction = grad.sign() if threat.norm == "linf" else unit_l2(grad)
    return threat.clamp(start + alpha * float(threat.eps) * direction)
