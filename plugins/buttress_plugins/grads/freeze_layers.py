"""AT-fix-param: some layer groups keep their initial weights.

Source: Nguyen, Yu, Nandakumar, Lee, Liu, "On Intriguing Layer-Wise Properties of Robust Overfitting in Adversarial
Training", TMLR 2024, section 3: a diagnostic, not a defense. Frozen weights take no step, no decay and no momentum;
gradients still flow through them to the input, for the attack. Their batch-norm statistics go on moving (the paper does
not say), unless ``freeze_bn``.
"""

from dataclasses import dataclass, field

from torch import nn

from buttress import ParamGroup, PluginError, hookimpl
from buttress.nn import Patterns, layer_names, split_groups, tracked_norms


@dataclass(eq=False, kw_only=True)
class FreezeLayers:
    """Freeze layer groups at their initial weights.

    Args:
        layers: numbers of the layer groups.
        groups: patterns of parameter names by group number, for models whose groups are not known.
        head_group: the group that the last norm and the classifier join; null: none.
        freeze_bn: whether their batch norms use and keep their initial running statistics.
    """

    layers: list[int] = field(default_factory=lambda: [3, 4])
    groups: Patterns | None = None
    head_group: int | None = None
    freeze_bn: bool = False

    @hookimpl
    def param_groups(self, groups: list[ParamGroup], model: nn.Module) -> list[ParamGroup]:
        names = layer_names(model, self.layers, self.groups, self.head_group)
        if len(names) == len(dict(model.named_parameters())):
            raise PluginError(f"layers {self.layers} are the whole network; nothing would be trained")
        return split_groups(groups, names, frozen=True)

    @hookimpl
    def start_run(self, model: nn.Module) -> None:
        if self.freeze_bn:
            names = set(layer_names(model, self.layers, self.groups, self.head_group))
            inside = {id(weight) for name, weight in model.named_parameters() if name in names}
            for norm in tracked_norms(model):
                if any(id(weight) in inside for weight in norm.parameters(recurse=False)):
                    norm.eval()
