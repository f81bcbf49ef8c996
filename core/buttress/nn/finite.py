"""Check that parameters and buffers of a model are finite, in training and in evaluations of saved weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from buttress.errors import DivergenceError


class FiniteTensors:
    """All parameters of ``model``, and those of its floating-point buffers that are finite now.

    A buffer that holds infinity from the start, like the mask of an attention, holds it on purpose.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        floats = {name: value for name, value in model.named_buffers() if _has_floats(value)}
        good = _are_finite(floats).tolist() if floats else []
        self._names = [name for name, fine in zip(floats, good, strict=True) if fine]

    def buffers(self) -> dict[str, Tensor]:
        """The buffers among them that still exist and have values."""
        now = dict(self._model.named_buffers())
        return {name: now[name].detach() for name in self._names if name in now and _has_floats(now[name])}

    def finite_buffers(self) -> tuple[list[str], Tensor]:
        """The names of the n buffers, and ``[n]`` bools on the device: whether each is finite."""
        buffers = self.buffers()
        return list(buffers), _are_finite(buffers)

    def expect(self, when: str) -> None:
        """Expect finite values in all of them; synchronises with the device.

        Args:
            when: time of the check for the message: ``"after epoch 3"``.

        Raises:
            DivergenceError: a parameter or one of the buffers holds NaN or infinity.
        """
        named = {f"parameter {name!r}": value.detach() for name, value in self._model.named_parameters()}
        named |= {f"buffer {name!r}": value for name, value in self.buffers().items()}
        if problem := _first_bad(named):
            raise DivergenceError(
                f"the run has diverged: {problem} {when}; they are not saved; lower the learning rate and start again"
            )


def remark_on(model: nn.Module) -> str:
    """A sentence about the first parameter or norm layer's statistic that is not finite, or an empty text."""
    named = {f"parameter {name!r}": value.detach() for name, value in model.named_parameters()}
    for path, module in model.named_modules():
        if isinstance(module, _NormBase):
            statistics = {f"{path}.{name}": value for name, value in module.named_buffers(recurse=False)}
            named |= {f"buffer {name!r}": value for name, value in statistics.items()}
    return _first_bad(named)


def _first_bad(named: Mapping[str, Tensor]) -> str:
    named = {name: value for name, value in named.items() if _has_floats(value)}
    if not named or _are_finite(named).all():
        return ""
    name, value = next((name, value) for name, value in named.items() if not torch.isfinite(value).all())
    bad = int((~torch.isfinite(value)).sum())
    return f"{name} holds {bad} non-finite value{'' if bad == 1 else 's'}"


def _has_floats(value: Tensor) -> bool:
    """Whether a tensor has values that could be NaN; sparse tensors, which no method trains, are left out."""
    return value.layout is torch.strided and value.is_floating_point() and value.numel() > 0


def _are_finite(tensors: Mapping[str, Tensor]) -> Tensor:
    """``[n]`` bools: whether each of n tensors, none of them empty, is finite."""
    if not tensors:
        return torch.ones(0, dtype=torch.bool)
    wide = torch.float64 if any(value.dtype == torch.float64 for value in tensors.values()) else torch.float32
    return torch.isfinite(torch.stack(torch._foreach_norm(list(tensors.values()), float("inf"), dtype=wide)))
