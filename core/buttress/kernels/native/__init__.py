"""Loads the compiled extension ``buttress._C``, once, when somebody asks; keeps the reason when it cannot."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from threading import Lock
from types import ModuleType
from typing import Any

from buttress.errors import ConfigError
from buttress.kernels.native import files, losses, medians, perturbations

INSTALL = 'pip install "setuptools>=77" pybind11 ninja && pip install --no-build-isolation .'
CURE = f"build it with: {INSTALL} (needs torch and a C++ compiler; see buttress doctor)"

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "median": medians.median,
    "median_many": medians.median_many,
    "perturb_": perturbations.perturb_,
    "restore_": perturbations.restore_,
    "unperturb_": perturbations.unperturb_,
    "accumulate_": perturbations.accumulate_,
    "ascend_": perturbations.ascend_,
    "lsc_mean": losses.lsc_mean,
    "lsc_cross_entropy": losses.lsc_cross_entropy,
    "read_rows": files.read_rows,
}

_loading = Lock()


def _load() -> ModuleType | ImportError:
    with _loading:  # the cache alone would let two threads register the operators' shapes twice
        return _loaded()


@cache
def _loaded() -> ModuleType | ImportError:
    try:
        extension = import_module("buttress._C")
    except ImportError as problem:
        return problem
    _register_fakes()
    return extension


@cache
def _register_fakes() -> None:
    """Shapes and dtypes of the operators, for torch.compile; once in a process."""
    for family in (medians, perturbations, losses):
        family.register_fakes()


def operations() -> dict[str, Callable[..., Any]]:
    """Compiled operations by name, called as their pure-torch twins are."""
    return {} if isinstance(_load(), ImportError) else _OPERATIONS


def why_not(name: str = "") -> str:
    """Why there is no compiled operation ``name`` (or none at all)."""
    loaded = _load()
    if isinstance(loaded, ImportError):
        return f"the extension is not there ({loaded}); {CURE}"
    return f"the extension holds no compiled {name or 'operations'} in this version"


def build_facts() -> dict[str, str] | None:
    """What the extension was built with, or None where there is no extension.

    Raises:
        ConfigError: BUTTRESS_SIMD asks for what the processor does not run.
    """
    loaded = _load()
    if isinstance(loaded, ImportError):
        return None
    try:
        return dict(loaded.build_facts())
    except ValueError as problem:
        raise ConfigError(f"{problem}; unset it for the best level") from None


def status() -> dict[str, str]:
    """The extension's state and build facts, one entry a fact."""
    facts = build_facts()
    if facts is None:
        return {"extension": f"absent: {why_not()}"}
    return {"extension": "loaded", **facts, "compiled operations": ", ".join(operations()) or "none in this version"}
