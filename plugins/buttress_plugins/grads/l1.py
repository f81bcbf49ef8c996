"""L1: ``weight * sum |w|`` is added to the training objective.

Source: as in Rice, Wong, Kolter, "Overfitting in adversarially robust deep learning", arXiv:2002.11569, section 4:
parameters whose name holds neither ``bn`` nor ``bias``, and that belong to no norm layer; the optimizer's weight decay
stays.
"""

from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Ge
from torch import nn

from buttress import hookimpl
from buttress.nn import regularised_names


@dataclass(eq=False, kw_only=True)
class L1:
    """L1 regularisation: its gradient ``weight * sign(w)`` joins the loss's.

    Args:
        weight: factor on the sum of absolute values.
    """

    weight: Annotated[float, Ge(0)] = 5e-6

    _weights: list[nn.Parameter] = field(init=False, repr=False, default_factory=list)

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        names = regularised_names(model)
        named = model.named_parameters()
        self._weights = [weight for name, weight in named if name in names and weight.requires_grad]

    @hookimpl
    @torch.no_grad()
    def adjust_grads(self) -> None:
        pairs = [(weight.grad, weight.sign()) for weight in self._weights if weight.grad is not None]
        if pairs:
            torch._foreach_add_([grad for grad, _ in pairs], [sign for _, sign in pairs], alpha=self.weight)
