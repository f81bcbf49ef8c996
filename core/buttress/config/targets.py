"""Targets that a config may name: a model, data set, optimizer or schedule of one's own. Loads no torch by itself."""

from __future__ import annotations

import inspect

from buttress.components.own_modules import Kind, returned_by
from buttress.errors import ConfigError, DataError, ModelError


def _makes_models(made: type) -> bool:
    from torch import nn

    return issubclass(made, nn.Module)


def _loads_data(made: type) -> bool:
    from buttress.data import Data

    returned = made if issubclass(made, Data) else returned_by(getattr(made, "load", None))
    return inspect.isclass(returned) and issubclass(returned, Data)


def _is_optimizer(made: type) -> bool:
    from torch.optim import Optimizer

    return issubclass(made, Optimizer)


def _is_schedule(made: type) -> bool:
    return all(callable(getattr(made, name, None)) for name in ("factor", "drops"))


MODEL = Kind(
    ModelError,
    _makes_models,
    "a class derived from torch.nn.Module, or a function annotated to return one: def net(...) -> nn.Module",
    strict=False,
)


DATA = Kind(
    DataError,
    _loads_data,
    "a class with a method load(self, seed: int) -> buttress.Data, or a function annotated to return one: "
    "def data(...) -> Data",
)


OPTIMIZER = Kind(
    ConfigError,
    _is_optimizer,
    "a class derived from torch.optim.Optimizer, or a function annotated to return one: "
    "def optimizer(params, lr: float) -> Optimizer",
    strict=False,
)


SCHEDULE = Kind(
    ConfigError,
    _is_schedule,
    "a class with the methods factor(self, t, epochs) and drops(self, epochs), or a function annotated to return one: "
    "def schedule(...) -> Schedule",
)
