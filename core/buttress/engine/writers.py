"""Tell who may write into the weights before an error, so that only then copies of them are made."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from inspect import isclass, isfunction, ismethod, isroutine
from types import FunctionType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from buttress.components.members import attributes_of
from buttress.engine.hooks import Hooks
from buttress.engine.implementation import Implementation
from buttress.hookspecs import HOOKS

BEFORE_UPDATE = ("transform_batch", "generate_adv", "perturb_weights", "compute_loss", "adjust_grads")
"""Hooks of a step before the optimizer's."""
BETWEEN_STEPS = tuple(HOOKS - {"perturb_weights", "adjust_grads"})
"""Hooks that are called between two steps."""

# Packages of this distribution, and packages whose objects hold no code of somebody else's.
_OWN = {"buttress", "buttress_plugins"}
_KNOWN = _OWN | {"builtins", "torch", "numpy"} | sys.stdlib_module_names


class Writers:
    """Whoever may write into the weights of a model in a block that can raise.

    A plugin of this distribution writes in ``perturb_weights`` alone, and where it ``writes_back``, as its tests show.
    Of a plugin from elsewhere nothing is known, because a write through ``.data`` leaves no trace. Nothing is known of
    the model's own forward either, until its weights were compared once.

    Args:
        hooks: hooks of the run.
        called: names of those that are called in such a block.
    """

    def __init__(self, hooks: Hooks, called: Collection[str]) -> None:
        self._watch = hooks.watch
        involved = [each for name in called for each in (*hooks.table[name].providers, *hooks.table[name].wrappers)]
        self._plugin_writes = any(map(_may_write, involved))

    @property
    def exist(self) -> bool:
        """Whether a plugin of the block, or the model itself, may write into weights."""
        return self._plugin_writes or self._watch.weights_move is not False

    def compare(self, model: nn.Module, before: Sequence[Tensor]) -> None:
        """Compare the weights after forwards of ``model`` with copies from ``before``, where no plugin writes."""
        if not self._plugin_writes:
            self._watch.compare(model, before)


def _may_write(implementation: Implementation) -> bool:
    writes = implementation.hook == "perturb_weights" or implementation.plugin.traits.writes_back
    return writes or not is_own(implementation.function)


def is_own(value: object) -> bool:
    """Whether all code that ``value``, a hook of a plugin, can call is of this distribution, torch or Python.

    Looks at the function, the plugin, and all that its attributes hold. A module among them, such as a teacher, gives
    outputs and counts as known.
    """
    seen: dict[int, object] = {}
    left = [value]
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, nn.Module):
            continue
        seen[id(each)] = each
        if not all(name.partition(".")[0] in _KNOWN for name in _modules_of(each)):
            return False
        left += _held_by(each)
    return True


def _modules_of(value: Any) -> Iterator[str]:
    """Names of the modules that the code of a value is from: as it says, and, of a function, where it was written.

    A function that wraps another (``functools.wraps``) says the other's.
    """
    written = value if isroutine(value) or isclass(value) else type(value)
    yield getattr(written, "__module__", None) or "builtins"
    if isfunction(written):
        yield written.__globals__.get("__name__", "")


def _held_by(value: Any) -> list[object]:
    """The objects that a value holds: elements, attributes, the object of a method, what a partial is made of.

    Those of a function: what it has of the functions around it.
    """
    if isinstance(value, Mapping):
        return [*value.values()]
    if isinstance(value, (list, tuple, Set)):
        return [*value]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if ismethod(value):
        return [value.__func__, value.__self__]
    if isfunction(value):
        return _closure_of(value)
    return [] if isclass(value) or isroutine(value) else [*attributes_of(value).values()]


def _closure_of(function: FunctionType) -> list[object]:
    """Values of the variables that a function has of the functions around it."""
    values: list[object] = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # it has no value yet
            values.append(cell.cell_contents)
    return values


def is_torchs_own(optimizer: Optimizer) -> bool:
    """Whether ``optimizer.step()`` runs no code but torch's."""
    hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return type(optimizer).__module__.startswith("torch.optim.") and "step" not in vars(optimizer) and not hooks
