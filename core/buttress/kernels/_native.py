"""Loads the compiled extension ``buttress._C``, once, when somebody asks; keeps the reason when it cannot."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from buttress.kernels import _native_perturb, reference
from buttress.kernels.reference import Middle

CURE = "build it with: pip install --no-build-isolation . (needs torch and a C++ compiler; see buttress doctor)"


@cache
def _load() -> ModuleType | ImportError:
    try:
        loaded = import_module("buttress._C")
    except ImportError as problem:
        return problem
    _register_fakes()
    return loaded


@cache
def _register_fakes() -> None:
    """Shapes and dtypes of the operators, for torch.compile; once in a process."""
    torch.library.register_fake("buttress::median", _fake_median)
    torch.library.register_fake("buttress::median_into", _fake_median_into)
    _native_perturb.register_fakes()


def operations() -> dict[str, Callable[..., Any]]:
    """Compiled operations by name, called as their pure-torch twins are."""
    if isinstance(_load(), ImportError):
        return {}
    return {"median": _median, **_native_perturb.operations(_compiled_for)}


def _median(tensors: Sequence[Tensor], even: Middle, out: Tensor | None) -> Tensor:
    if not _compiled_for(tensors[0].device):
        return reference.median(tensors, even, out)
    if out is None:
        result: Tensor = torch.ops.buttress.median(tensors, even)
        return result
    torch.ops.buttress.median_into(out, tensors, even)
    return out


def _compiled_for(device: torch.device) -> bool:
    """Whether compiled code takes tensors there: on CUDA, where it has not run yet, only if ``native`` is asked for."""
    from buttress.kernels import backend

    return device.type == "cpu" or (device.type == "cuda" and backend() == "native")


def _fake_median(tensors: Sequence[Tensor], even: str) -> Tensor:
    return torch.empty_like(tensors[0])


def _fake_median_into(out: Tensor, tensors: Sequence[Tensor], even: str) -> None:
    return None


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
