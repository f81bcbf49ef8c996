"""Mixup: convex combinations of two examples and of their labels, made before the attack.

Source: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412; in adversarial
training as in Rice, Wong, Kolter, arXiv:2002.11569, section 4 (alpha = 1.4): one coefficient and one permutation a
batch. Attack and training see the mixed labels: their cross-entropy is ``lam CE(., y_a) + (1 - lam) CE(., y_b)``.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from buttress import Batch, Context, hookimpl
from buttress.functional import beta, soft_labels
from buttress.settings import PerEpoch

APART = {"two views": "it would mix each view of an image with another image"}


@dataclass(eq=False, kw_only=True)
class Mixup:
    """``x <- lam x + (1 - lam) x[permutation]``, labels likewise, ``lam ~ Beta(alpha, alpha)``.

    Args:
        num_classes: number of classes K; in a config, the data's.
        alpha: parameter of the Beta distribution.
        probability: probability that a batch is mixed; otherwise lam is 1.

    The draws ``mixup.lam`` (0-dim), ``mixup.permutation`` (``[B]`` int64) and ``mixup.chance`` (0-dim in [0, 1): a
    batch is mixed where it is below ``probability``) may be injected.

    Where each of several processes has its own rows of a batch alone (``image_folder``), an example is mixed with
    another of the same process's rows; the coefficient is that of all.
    """

    gives = ("soft labels", "mixed inputs")
    refuses = APART

    num_classes: Annotated[int, Ge(2)]
    alpha: Annotated[float, Gt(0)] = 1.4
    probability: PerEpoch[Annotated[float, Interval(ge=0, le=1)]] = 1.0

    @hookimpl
    def transform_batch(self, batch: Batch, ctx: Context) -> Batch:
        x, y = batch.x, batch.y
        lam, permutation, chance = ctx.draw("lam", ()), ctx.draw("permutation", (len(x),)), ctx.draw("chance", ())
        if lam is None:
            lam = beta(self.alpha, ctx.generator("lam", shared=True))
        if permutation is None:
            permutation = torch.randperm(len(x), generator=ctx.generator("permutation"), device=x.device)
        if chance is None:
            chance = torch.rand((), generator=ctx.generator("chance", shared=True), device=x.device)
        lam = torch.where(chance < ctx.value(self.probability), lam, 1.0).to(x.dtype)
        soft = soft_labels(y, self.num_classes, x.dtype)
        return replace(batch, x=mix(x, permutation, lam), y=mix(soft, permutation, lam))


def mix(values: Tensor, permutation: Tensor, lam: Tensor) -> Tensor:
    """``lam * values + (1 - lam) * values[permutation]``; between the two, also after rounding."""
    return torch.lerp(values[permutation], values, lam)
