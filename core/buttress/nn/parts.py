"""Which modules and parameters a model is made of, to notice that one was exchanged or written into."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class Parts:
    """The modules and parameters of ``model`` as they are now, each with its place in it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._places = [
            (kind, path, registry, dict(registry), list(map(id, registry.values())))
            for path, module in model.named_modules()
            for kind, registry in (("module", module._modules), ("parameter", module._parameters))
            if registry
        ]
        self._weights = [(name, weight, weight.dtype, weight.shape) for name, weight in model.named_parameters()]

    def exchanged(self) -> str:
        """A sentence about the first part that is no longer what it was, or nothing."""
        for kind, path, registry, found, ids in self._places:
            if list(map(id, registry.values())) != ids:
                name = next((name for name in {**found, **registry} if registry.get(name) is not found.get(name)), "")
                how = "added" if name not in found else "replaced" if name in registry else "removed"
                return f"{kind} {f'{path}.{name}' if path else name!r} of the model was {how}"
        for name, weight, dtype, shape in self._weights:
            if weight.dtype is not dtype:
                return f"parameter {name!r} was made {weight.dtype}, and was {dtype}"
            if weight.shape != shape:
                return f"parameter {name!r} was given shape {tuple(weight.shape)}, and had {tuple(shape)}"
        return ""

    def versions(self) -> list[int]:
        """One number for each parameter, which grows when somebody writes into it."""
        return [weight._version for _, weight, _, _ in self._weights]

    def written_since(self, versions: Sequence[int]) -> str:
        """The name of the first parameter that was written into since ``versions()`` gave these, or nothing."""
        now = self.versions()
        changed = (name for (name, *_), old, new in zip(self._weights, versions, now, strict=True) if old != new)
        return "" if now == versions else next(changed, "")
