"""No weight decay for biases and norms: parameters with one dimension form groups of their own."""

from torch import nn

from buttress import ParamGroup, hookimpl
from buttress.nn import split_groups


class Example:
    """Takes the weight decay off all parameters with at most one dimension."""

    @hookimpl
    def param_groups(self, groups: list[ParamGroup], model: nn.Module) -> list[ParamGroup]:
        chosen = flat_parameters(model)
        parts: list[ParamGroup] = []
        for group in groups:
            parts += split_groups([group], chosen, options={**group.options, "weight_decay": 0.0})
        return parts


def flat_parameters(model: nn.Module) -> list[str]:
    """The names of the parameters with at most one dimension."""
    return [name for name, weight in model.named_parameters() if weight.dim() <= 1]


def test_flat_parameters_are_biases_and_norms() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert flat_parameters(model) == ["0.bias", "1.weight", "1.bias"]
