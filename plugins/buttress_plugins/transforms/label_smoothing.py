"""Label smoothing: a share of every label is spread over all classes, before the attack.

Source: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception Architecture for Computer Vision",
arXiv:1512.00567, section 7. In adversarial training as in Wang, Pang, Du, Lin, Liu, Yan, "Better Diffusion Models
Further Improve Adversarial Training", arXiv:2302.04638, with epsilon 0.1. Attack and training see the same soft labels;
an attack of loss ``kl`` looks at none.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor

from buttress import Batch, Context, hookimpl
from buttress.functional import soft_labels
from buttress.settings import PerEpoch


@dataclass(eq=False, kw_only=True)
class LabelSmoothing:
    """``y <- (1 - epsilon) y + epsilon / K``.

    Args:
        num_classes: number of classes K; in a config, the data's.
        epsilon: share of a label that is spread over all K classes, its own included.
    """

    gives = ("soft labels",)

    num_classes: Annotated[int, Ge(2)]
    epsilon: PerEpoch[Annotated[float, Interval(ge=0, le=1)]] = 0.1

    @hookimpl
    def transform_batch(self, batch: Batch, ctx: Context) -> Batch:
        soft = soft_labels(batch.y, self.num_classes, batch.x.dtype)
        return replace(batch, y=smooth(soft, ctx.value(self.epsilon)))


def smooth(y: Tensor, epsilon: float) -> Tensor:
    """Soft labels ``y [B,K]``, moved by ``epsilon`` towards the uniform ones."""
    return (1 - epsilon) * y + epsilon / y.shape[1]
