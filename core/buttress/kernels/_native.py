"""Loads the compiled extension ``buttress._C``, once, when somebody asks; keeps the reason when it cannot."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

CURE = "build it with: pip install --no-build-isolation . (needs torch and a C++ compiler; see buttress doctor)"


@cache
def _load() -> ModuleType | ImportError:
    try:
        return import_module("buttress._C")
    except ImportError as problem:
        return problem


def operations() -> dict[str, Callable[..., Any]]:
    """Compiled operations by name. The extension of this version holds build facts and no operation yet."""
    return {}


def why_not(name: str = "") -> str:
    """Why there is no compiled operation ``name`` (or none at all)."""
    loaded = _load()
    if isinstance(loaded, ImportError):
        return f"the extension is not there ({loaded}); {CURE}"
    return f"the extension holds no compiled {name or 'operations'} in this version"


def build_facts() -> dict[str, str] | None:
    """What the extension was built with, or None where there is no extension."""
    loaded = _load()
    return None if isinstance(loaded, ImportError) else dict(loaded.build_facts())


def status() -> dict[str, str]:
    """The extension's state and build facts, one entry a fact."""
    facts = build_facts()
    if facts is None:
        return {"extension": f"absent: {why_not()}"}
    return {"extension": "loaded", **facts, "compiled operations": ", ".join(operations()) or "none in this version"}
