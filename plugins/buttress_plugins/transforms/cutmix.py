"""CutMix: a window of every image comes from another image, and the labels are mixed by area, before the attack.

Source: Yun, Han, Oh, Chun, Choe, Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features", arXiv:1905.04899; in adversarial training as in Rebuffi, Gowal, Calian, Stimberg, Wiles, Mann, "Data
Augmentation Can Improve Robustness", arXiv:2111.05328. One coefficient, one window and one permutation a batch. The
window is placed by its centre and cut off at the border, as in the public code, and the labels follow its true area.
The code for vision transformers of Mo et al., arXiv:2210.07540, takes Mixup or CutMix, for three batches in ten:
``probability: 0.3, mixup_alpha: 0.8``.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from buttress import Batch, Context, hookimpl
from buttress.functional import beta, soft_labels
from buttress.images import window
from buttress.settings import NonNegative, PerEpoch

APART = {"two views": "it would mix each view of an image with another image"}


@dataclass(eq=False, kw_only=True)
class CutMix:
    """A window of ``x`` is that of ``x[permutation]``; its share of the area is drawn, ``1 - lam``, lam from a Beta.

    Args:
        num_classes: number of classes K; in a config, the data's.
        alpha: parameter of the Beta distribution ``Beta(alpha, alpha)``.
        probability: probability that a batch is composed; otherwise it stays as it is.
        mixup_alpha: parameter of the Beta distribution of Mixup, which takes the place of CutMix in half of the
            composed batches, as in timm; 0 for CutMix in all of them.

    Draws that may be injected: ``cutmix.lam`` (0-dim), ``cutmix.permutation`` (``[B]`` int64), ``cutmix.centre``
    (``[2]`` int64, row and column of the middle of the window) and ``cutmix.chance`` (``[2]`` in [0, 1): a batch is
    composed where the first is below ``probability``, and by Mixup where the second is not below 1/2).

    Where each of several processes has its own rows of a batch alone (``image_folder``), an image is composed with
    another of the same process's rows; coefficient and window are those of all.
    """

    gives = ("soft labels", "mixed inputs")
    refuses = APART

    num_classes: Annotated[int, Ge(2)]
    alpha: Annotated[float, Gt(0)] = 1.0
    probability: PerEpoch[Annotated[float, Interval(ge=0, le=1)]] = 1.0
    mixup_alpha: NonNegative = 0.0

    @hookimpl
    def transform_batch(self, batch: Batch, ctx: Context) -> Batch:
        x = batch.x
        if x.dim() != 4:
            raise ValueError(f"expected images [B,C,H,W], got x of shape {tuple(x.shape)}; leave cutmix out")
        lam, permutation, centre = ctx.draw("lam", ()), ctx.draw("permutation", (len(x),)), ctx.draw("centre", (2,))
        chance = ctx.draw("chance", (2,))
        if chance is None:
            chance = torch.rand(2, generator=ctx.generator("chance", shared=True), device=x.device)
        mixes = (chance[1] >= 0.5) & (self.mixup_alpha > 0)
        if lam is None:
            lam = self._lam(mixes, ctx)
        if permutation is None:
            permutation = torch.randperm(len(x), generator=ctx.generator("permutation"), device=x.device)
        if centre is None:
            generator = ctx.generator("centre", shared=True)
            centre = torch.cat([torch.randint(n, (1,), generator=generator, device=x.device) for n in x.shape[2:]])
        lam = torch.where(chance[0] < ctx.value(self.probability), lam, 1.0)
        inside = cut(torch.where(mixes, 1.0, lam), centre, *x.shape[2:])
        faded = torch.where(mixes, lam, 1.0).to(x.dtype)
        soft = soft_labels(batch.y, self.num_classes, x.dtype)
        kept = faded * (1 - inside.to(x.dtype).mean())
        made = torch.where(inside, x[permutation], torch.lerp(x[permutation], x, faded))
        return replace(batch, x=made, y=torch.lerp(soft[permutation], soft, kept))

    def _lam(self, mixes: Tensor, ctx: Context) -> Tensor:
        """A coefficient, 0-dim and float64; that of Mixup where the 0-dim bool ``mixes`` says so."""
        generator = ctx.generator("lam", shared=True)
        lam = beta(self.alpha, generator)
        return torch.where(mixes, beta(self.mixup_alpha, generator), lam) if self.mixup_alpha else lam


def cut(lam: Tensor, centre: Tensor, height: int, width: int) -> Tensor:
    """``[1,1,H,W]`` bools: inside a window around ``centre [2]`` of the share ``1 - lam`` of the area, or less.

    Its sides are rounded down to even numbers of pixels, and it ends at the border.
    """
    root = torch.sqrt(1 - lam.double())
    half = torch.stack([(side * root).long() // 2 for side in (height, width)])
    return window((centre - half)[None], 2 * half[None], height, width)
