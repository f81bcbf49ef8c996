"""L2: strong weight decay on weights alone, none on batch norm and biases.

Source: as in Rice, Wong, Kolter, "Overfitting in adversarially robust deep learning", arXiv:2002.11569, section 4: two
optimizer groups; parameters whose name holds ``bn`` or ``bias``, or that belong to a norm layer, have no decay. The
public code changes the learning rate of the first group only, so that batch norm and biases keep the initial one
throughout: ``legacy_lr``.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge
from torch import nn

from buttress import ParamGroup, hookimpl, initial_lr
from buttress.nn import regularised_names, split_groups


@dataclass(eq=False, kw_only=True)
class L2Groups:
    """Weight decay by parameter group, in place of the optimizer's.

    Args:
        weight_decay: weight decay of the weights.
        legacy_lr: whether batch norm and biases keep the initial learning rate.
    """

    weight_decay: Annotated[float, Ge(0)] = 5e-3
    legacy_lr: bool = False

    @hookimpl
    def param_groups(self, groups: list[ParamGroup], model: nn.Module) -> list[ParamGroup]:
        names = regularised_names(model)
        parts = []
        for group in split_groups(groups, names):
            decay = self.weight_decay if set(group.names) <= names else 0.0
            scale = initial_lr if self.legacy_lr and not set(group.names) <= names else group.lr_scale
            parts.append(replace(group, options={**group.options, "weight_decay": decay}, lr_scale=scale))
        return parts
