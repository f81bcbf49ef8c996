"""objective: the training loss of the run itself, whatever plugin provides it, with its wrappers.

Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv:1706.06083, eq. 2.1: one
loss for both players of the saddle point. With the loss ``cross_entropy`` it is ``ce``, and with ``trades`` its
gradient is beta times that of ``kl``.
"""

from torch import nn

from buttress import Batch, Context
from buttress.functional import InputLoss


class TrainingLosses:
    """The losses ``[B]`` of the run at x'; a penalty of the whole batch is left out.

    Every step of the attack costs as many forwards as the training loss. It serves attacks of training only.
    """

    needs_run = True
    takes = ("unlabelled examples",)

    def input_loss(self, model: nn.Module, batch: Batch, ctx: Context) -> InputLoss:
        return ctx.losses
