"""Load the compiled extension once, at its first use; keep the reason where it cannot be loaded.

It is called ``buttress._C_torch_2_11``, by the minor version of torch that it is built for: the C++ interface of torch
changes with each. A wheel may hold several.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import torch

from buttress.errors import ConfigError
from buttress.kernels.native import fakes

INSTALL = 'pip install "setuptools>=77" ninja && pip install --no-build-isolation .'
CURE = f"build it with: {INSTALL} (needs torch and a C++ compiler; see buttress doctor)"

_PREFIX = "_C_torch_"

# Operators that are called as their twins are, by name.
_OPERATORS = (
    "median",
    "median_out",
    "median_many",
    "median_many_out",
    "perturb_",
    "restore_",
    "unperturb_",
    "rwp_first_step_",
    "rwp_step_",
    "amp_first_step_",
    "amp_step_",
    "lsc_mean",
    "lsc_cross_entropy",
)

_loading = Lock()


@cache
def _loaded() -> ModuleType | ImportError:
    with _loading:  # the cache alone would let two threads register the operators' fakes twice
        return _load()


def _load() -> ModuleType | ImportError:
    name = _PREFIX + "_".join(torch.__version__.split(".")[:2])
    try:
        extension = import_module(f"buttress.{name}")
    except ModuleNotFoundError:
        return ModuleNotFoundError(_why_not_found(name))
    except ImportError as problem:
        return problem
    missing = [name for name in (*_OPERATORS, *fakes.NAMES) if not hasattr(torch.ops.buttress, name)]
    if missing:
        return ImportError(f"{extension.__file__} lacks {missing[0]}: it was built from another version of buttress")
    _register_fakes()
    return extension


def _why_not_found(name: str) -> str:
    present = sorted(file.name.partition(".")[0] for file in Path(__file__).parents[2].glob(f"{_PREFIX}*"))
    if not present:
        return f"no module named buttress.{name}"
    versions = " and ".join(each.removeprefix(_PREFIX).replace("_", ".") for each in present)
    return f"it was built for torch {versions}, and torch {torch.__version__} is installed"


@cache
def _register_fakes() -> None:
    """Once in a process."""
    fakes.register()


def operations() -> dict[str, Callable[..., Any]]:
    """Compiled operations by name, called as their pure-torch twins are."""
    extension = _loaded()
    return {} if isinstance(extension, ImportError) else _operations(extension)


@cache
def _operations(extension: ModuleType) -> dict[str, Callable[..., Any]]:
    # Not the packets of overloads, which cost a third of a microsecond more a call.
    operators = {name: getattr(torch.ops.buttress, name).default for name in _OPERATORS}
    return {**operators, "read_rows": extension.read_rows}


def why_not(name: str = "") -> str:
    """Why there is no compiled operation ``name`` (or none at all)."""
    loaded = _loaded()
    if isinstance(loaded, ImportError):
        return f"the extension is not there ({loaded}); {CURE}"
    return f"the extension holds no compiled {name or 'operations'} in this version"


def build_facts() -> dict[str, str] | None:
    """Facts about the build of the extension, or None where there is no extension.

    Raises:
        ConfigError: BUTTRESS_SIMD names an instruction set that the processor does not run.
    """
    loaded = _loaded()
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
