"""Compare the input gradients of a model in the contiguous and in the channels-last layout; name layers at fault.

Some versions of torch have layers whose gradient is wrong in one layout, in silence: avg_pool2d with padding on CUDA in
channels_last (torch issue 188344). Attacks then stall, and a model looks robust.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from buttress.errors import ModelError, describe
from buttress.nn.modes import Modes
from buttress.nn.trial import CallArguments, Trial, noise_like

TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-2}
"""Difference of the gradients, over their norm, that rounding may make. In float32 a ReLU may change sides."""
# Number of layers at fault that are named.
_NAMED = 3


@dataclass(frozen=True)
class LayoutComparison:
    """The outcome of a comparison.

    Args:
        differences: norm of the difference of the gradients over their norm, by dtype; without those that the model
            does not run in.
        fault: sentence about the fault in channels_last, or an empty text.
    """

    differences: dict[str, float] = field(default_factory=dict)
    fault: str = ""


def expect_same_gradients(model: nn.Module, x: Tensor) -> None:
    """Expect that the input gradients of ``model`` at inputs like ``x [B,C,H,W]`` are equal in both layouts.

    Raises:
        ModelError: they differ by more than rounding, or the model runs in the contiguous layout only.
    """
    if fault := compared(model, x).fault:
        raise ModelError(f"model {type(model).__name__}: {fault}; use memory_format: contiguous")


def compared(model: nn.Module, x: Tensor) -> LayoutComparison:
    """Compare the layouts in float64 and in the dtype of ``x [B,C,H,W]``, in eval mode, with frozen weights, on noise.

    A model that draws anew in every forward has no gradient to compare, and no fault.
    """
    given, differences = CallArguments((noise_like(x),)), dict[str, float]()
    with Modes(model).evaluating():
        for dtype in dict.fromkeys((torch.float64, x.dtype)):
            name = str(dtype).removeprefix("torch.")
            try:
                difference = _difference(model, given, dtype)
            except _OneLayoutError as problem:
                return LayoutComparison(differences, f"it does not run in channels_last: {problem}")
            if difference is None:
                continue
            differences[name] = difference
            if difference > TOLERANCES[dtype] and _repeats(model, given, dtype):
                return LayoutComparison(differences, _fault(model, given, dtype, difference))
    return LayoutComparison(differences)


class _OneLayoutError(Exception):
    """A module runs in the contiguous layout and raises in the other."""


def _difference(module: nn.Module, given: CallArguments, dtype: torch.dtype) -> float | None:
    """The difference of the two layouts; None where the module does not run in the dtype, or has no gradient."""
    if dtype not in TOLERANCES:
        return None
    try:
        plain = Trial(dtype, torch.contiguous_format).gradients(module, given)
    except Exception:  # whatever it is, it is no fault of the other layout
        return None
    try:
        other = Trial(dtype, torch.channels_last).gradients(module, given)
    except Exception as problem:
        raise _OneLayoutError(describe(problem)) from problem
    return _apart(plain, other)


def _apart(plain: list[Tensor], other: list[Tensor]) -> float | None:
    if [each.shape for each in plain] != [each.shape for each in other]:
        return float("inf")
    if not plain or not all(bool(each.isfinite().all()) for each in plain):
        return None
    one, two = (torch.cat([each.double().flatten() for each in grads]) for grads in (plain, other))
    norm, difference = float(one.norm()), float((one - two).norm())
    if difference != difference:
        return float("inf")
    return difference / norm if norm > 0 else float(difference > 0)


def _repeats(model: nn.Module, given: CallArguments, dtype: torch.dtype) -> bool:
    """Whether the gradients are the same after a draw from the random generators."""
    trial, device = Trial(dtype, torch.contiguous_format), given.args[0].device
    first = trial.gradients(model, given)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.rand(1), torch.rand(1, device=device)
        second = trial.gradients(model, given)
    apart = _apart(first, second)
    return apart is not None and apart <= TOLERANCES[dtype]


def _fault(model: nn.Module, given: CallArguments, dtype: torch.dtype, difference: float) -> str:
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    layers = [f"{name!r} ({kinds[name]})" for name in _layers_at_fault(model, given, dtype)]
    named = ", ".join(layers[:_NAMED]) + (" ..." if len(layers) > _NAMED else "")
    by = f"by layer {named}" if layers else "by an operation in its own forward"
    return (
        f"in channels_last its input gradients are wrong, by {difference:.2g} of their norm in "
        f"{str(dtype).removeprefix('torch.')}, {by}, so that attacks would stall and it would look robust"
    )


def _layers_at_fault(model: nn.Module, given: CallArguments, dtype: torch.dtype) -> list[str]:
    """The innermost modules whose gradients differ where they are called alone, in the order of the forward."""
    calls = _calls(model, given, dtype)
    differing = [name for name, (module, own) in calls.items() if name and _differs(module, own, dtype)]
    return [name for name in differing if not any(other.startswith(f"{name}.") for other in differing)]


def _differs(module: nn.Module, given: CallArguments, dtype: torch.dtype) -> bool:
    try:
        return (_difference(module, given, dtype) or 0.0) > TOLERANCES[dtype]
    except _OneLayoutError:
        return True


def _calls(model: nn.Module, given: CallArguments, dtype: torch.dtype) -> dict[str, tuple[nn.Module, CallArguments]]:
    """Arguments of the first call of each module, by its name, in the contiguous layout."""
    calls: dict[str, tuple[nn.Module, CallArguments]] = {}

    def record(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name not in calls:
            calls[name] = (
                module,
                CallArguments(tuple(map(_kept, args)), {key: _kept(each) for key, each in kwargs.items()}),
            )

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            handle = module.register_forward_pre_hook(partial(record, name), with_kwargs=True)
            hooks.callback(handle.remove)
        Trial(dtype, torch.contiguous_format).gradients(model, given)
    return calls


def _kept(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
