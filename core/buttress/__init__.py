"""buttress: plugin-based adversarial training for PyTorch.

``import buttress`` loads neither torch nor any plugin: the public names below are fetched on first use.
Read ``hookspecs.py`` first, then ``engine.py``: that is the whole idea.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker

from buttress._version import __version__

if TYPE_CHECKING:
    from buttress.components.registry import load_plugins
    from buttress.data import Data, Split
    from buttress.engine.engine import Engine
    from buttress.errors import ButtressError
    from buttress.scoring.evaluator import Score, evaluate
    from buttress.threat import ThreatModel
    from buttress.types import Adv, Batch, Loss, StepResult, Track

hookimpl = HookimplMarker("buttress")
"""Marks a method of a plugin as the implementation of the hook that it is named after."""

_HOME = {
    "Adv": "types",
    "Batch": "types",
    "ButtressError": "errors",
    "Data": "data",
    "Engine": "engine.engine",
    "Loss": "types",
    "Score": "scoring.evaluator",
    "Split": "data",
    "StepResult": "types",
    "ThreatModel": "threat",
    "Track": "types",
    "evaluate": "scoring.evaluator",
    "load_plugins": "components.registry",
}

__all__ = [
    "Adv",
    "Batch",
    "ButtressError",
    "Data",
    "Engine",
    "Loss",
    "Score",
    "Split",
    "StepResult",
    "ThreatModel",
    "Track",
    "__version__",
    "evaluate",
    "hookimpl",
    "load_plugins",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'buttress' has no attribute {name!r}")
    value = getattr(import_module(f"buttress.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
