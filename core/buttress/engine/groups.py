"""Split parameters into groups by plugins, make the optimizer, and set the learning rate of each group over time."""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from buttress.engine.hooks import Hooks
from buttress.errors import ModelError, PluginError
from buttress.nn.contract import form_of
from buttress.nn.modes import parameters_of
from buttress.types import ParamGroup

logger = logging.getLogger("buttress")

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
"""Makes an optimizer from parameter groups: ``functools.partial(torch.optim.SGD, lr=0.1)``."""


@dataclass(frozen=True)
class GroupingFactory:
    """An ``OptimizerFactory`` that splits the parameters into groups of its own, before plugins split them further.

    Args:
        make: makes the optimizer from the groups.
        split: function from groups by name, and the model, to more groups.
    """

    make: OptimizerFactory
    split: Callable[[list[ParamGroup], nn.Module], list[ParamGroup]]

    def __call__(self, groups: list[dict[str, Any]]) -> Optimizer:
        return self.make(groups)


class Groups:
    """An optimizer and the learning rates of its groups.

    Args:
        model: model whose parameters are grouped; those of frozen groups lose ``requires_grad``.
        optimizer: a ready optimizer, taken as it is, or a factory.
        hooks: hooks that split the groups, where the optimizer is a factory.

    Raises:
        PluginError: a plugin splits groups and the optimizer is ready-made.
        ModelError: the optimizer is no optimizer, trains no parameter of the model, or asks for a closure.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer | OptimizerFactory, hooks: Hooks) -> None:
        splitters = hooks.table["param_groups"].providers
        if not isinstance(optimizer, Optimizer):
            self.optimizer, self._scales = _make(model, optimizer, hooks)
        elif splitters:
            raise PluginError(
                f"plugin {splitters[0].plugin} splits parameter groups and needs an optimizer factory; pass "
                "Engine(model, functools.partial(torch.optim.SGD, lr=...), ...) in the place of an optimizer"
            )
        else:
            self.optimizer, self._scales = optimizer, [None] * len(optimizer.param_groups)
        _expect_fit(self.optimizer, model)
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))  # where torch's own schedulers keep it

    def scale_lr(self, factor: float) -> None:
        """Multiply every group's initial learning rate."""
        for group in self.optimizer.param_groups:
            group["initial_lr"] *= factor

    def set_lr(self, factor: float, t: float) -> None:
        """Set every group's learning rate to its initial one times ``factor``, or times its own ``lr_scale(t)``."""
        for group, scale in zip(self.optimizer.param_groups, self._scales, strict=True):
            group["lr"] = group["initial_lr"] * float(factor if scale is None else scale(t))


def initial_lr(t: float) -> float:
    """An ``lr_scale`` that keeps the initial learning rate at all times."""
    return 1.0


def _expect_fit(optimizer: Optimizer, model: nn.Module) -> None:
    """Expect an optimizer that steps without a closure, over parameters of the model."""
    who = f"engine: optimizer {type(optimizer).__name__}"
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ModelError(
            f"{who} evaluates the loss again within a step, through a closure, and a training step here has one loss; "
            "use an optimizer that steps on gradients alone, such as SGD or AdamW"
        )
    learning = {parameter for parameter in model.parameters() if parameter.requires_grad}
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    if not learning & held:
        raise ModelError(
            f"{who} holds no parameter of this model, so nothing would be trained; make it of model.parameters(), "
            "after the model is copied, wrapped or given new layers"
        )
    if strangers := len(held - set(model.parameters())):
        logger.warning(
            "%s holds %d tensors that are not the model's, and lacks %d of the model's parameters; if a layer was "
            "replaced after the optimizer was made, make the optimizer again",
            who,
            strangers,
            len(learning - held),
        )


def _make(
    model: nn.Module, factory: OptimizerFactory, hooks: Hooks
) -> tuple[Optimizer, list[Callable[[float], float] | None]]:
    parameters = parameters_of(model)
    groups = [ParamGroup(tuple(name for name, p in parameters.items() if p.requires_grad))]
    if isinstance(factory, GroupingFactory):
        groups = factory.split(groups, model)
    groups = [group for group in hooks.param_groups(groups, model) if group.names]
    for group in groups:
        for name in group.names:
            parameters[name].requires_grad_(not group.frozen)
            parameters[name].grad = None  # one left from before would move a frozen parameter
    options = [{"params": [parameters[name] for name in group.names], **group.options} for group in groups]
    if not callable(factory):
        raise ModelError(
            "engine: expected an optimizer of torch, or a factory such as functools.partial(torch.optim.SGD, lr=0.1), "
            f"got {form_of(factory)}"
        )
    optimizer = factory(options)
    if not isinstance(optimizer, Optimizer):
        raise ModelError(
            f"engine: the factory of the optimizer made {form_of(optimizer)}, expected an optimizer of torch"
        )
    return optimizer, [group.lr_scale for group in groups]
