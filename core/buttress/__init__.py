"""buttress: plugin-based adversarial training for PyTorch.

``import buttress`` loads neither torch nor any plugin: the public names below are fetched on first use.
Read ``hookspecs.py`` first, then ``engine/step.py``: that is the whole idea.

Authors of plugins import from here and from ``buttress.data``, ``buttress.functional``, ``buttress.kernels``,
``buttress.nn``, ``buttress.settings`` and ``buttress.testing``. The names in their ``__all__`` are stable; no other
path is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker

from buttress._version import __version__

if TYPE_CHECKING:
    from buttress.attack_losses import (
        AttackLossChoice,
        LoadedAttackLoss,
        Targets,
        expect_classes,
        load_attack_loss,
        target_classes,
        target_count,
    )
    from buttress.components.loaded import load_plugins
    from buttress.config.schedule import Schedule
    from buttress.data import Data, Split
    from buttress.early_stop import EarlyStop, LossMaker
    from buttress.engine.context import Context
    from buttress.engine.engine import Engine
    from buttress.engine.groups import initial_lr
    from buttress.engine.objective import Objective
    from buttress.engine.step import StepResult
    from buttress.errors import ButtressError, ConfigError, DataError, ModelError, PluginError, describe, nearest
    from buttress.evaluation.saved_model import load_model
    from buttress.hookspecs import Ascent, Event, ExitOrder
    from buttress.scoring.evaluator import Score, evaluate
    from buttress.settings import Epoch
    from buttress.storage.history import History, HistoryReader
    from buttress.threat import ThreatModel
    from buttress.types import Adv, Batch, Loss, ParamGroup, Track

hookimpl = HookimplMarker("buttress")
"""Marks a method of a plugin as the implementation of the hook that it is named after."""

_HOME = {
    "Adv": "types",
    "AttackLossChoice": "attack_losses",
    "Batch": "types",
    "ButtressError": "errors",
    "ConfigError": "errors",
    "Context": "engine.context",
    "Data": "data",
    "DataError": "errors",
    "EarlyStop": "early_stop",
    "Engine": "engine.engine",
    "Epoch": "settings",
    "Event": "hookspecs",
    "Ascent": "hookspecs",
    "ExitOrder": "hookspecs",
    "History": "storage.history",
    "HistoryReader": "storage.history",
    "LoadedAttackLoss": "attack_losses",
    "Loss": "types",
    "LossMaker": "early_stop",
    "ModelError": "errors",
    "Objective": "engine.objective",
    "ParamGroup": "types",
    "PluginError": "errors",
    "Schedule": "config.schedule",
    "Score": "scoring.evaluator",
    "Split": "data",
    "StepResult": "engine.step",
    "Targets": "attack_losses",
    "ThreatModel": "threat",
    "Track": "types",
    "describe": "errors",
    "evaluate": "scoring.evaluator",
    "expect_classes": "attack_losses",
    "initial_lr": "engine.groups",
    "load_attack_loss": "attack_losses",
    "load_model": "evaluation.saved_model",
    "load_plugins": "components.loaded",
    "nearest": "errors",
    "target_classes": "attack_losses",
    "target_count": "attack_losses",
}

__all__ = [
    "Adv",
    "Ascent",
    "AttackLossChoice",
    "Batch",
    "ButtressError",
    "ConfigError",
    "Context",
    "Data",
    "DataError",
    "EarlyStop",
    "Engine",
    "Epoch",
    "Event",
    "ExitOrder",
    "History",
    "HistoryReader",
    "LoadedAttackLoss",
    "Loss",
    "LossMaker",
    "ModelError",
    "Objective",
    "ParamGroup",
    "PluginError",
    "Schedule",
    "Score",
    "Split",
    "StepResult",
    "Targets",
    "ThreatModel",
    "Track",
    "__version__",
    "describe",
    "evaluate",
    "expect_classes",
    "hookimpl",
    "initial_lr",
    "load_attack_loss",
    "load_model",
    "load_plugins",
    "nearest",
    "target_classes",
    "target_count",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'buttress' has no attribute {name!r}")
    value = getattr(import_module(f"buttress.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
