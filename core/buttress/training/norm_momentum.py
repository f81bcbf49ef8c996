"""The momentum with which batch norms move their running statistics, in the first step of a run and after it."""

from __future__ import annotations

from torch import nn

from buttress.config.file import ConfigFile
from buttress.errors import ConfigError
from buttress.nn.batchnorm import tracked_norms


class NormMomentum:
    """Sets the momentum of all batch norms of ``model`` as a config says.

    Args:
        model: model of the run.
        file: its config.

    Raises:
        ConfigError: the config sets one, and no norm of the model keeps running statistics.
    """

    def __init__(self, model: nn.Module, file: ConfigFile) -> None:
        section, norms = file.config.model, tracked_norms(model)
        for name in ("bn_momentum", "bn_first_momentum"):
            if getattr(section, name) is not None and not norms:
                raise ConfigError(
                    f"model {type(model).__name__} has no batch norm with running statistics; leave this out",
                    key=file.place / "model" / name,
                )
        if section.bn_momentum is not None:
            for norm in norms:
                norm.momentum = section.bn_momentum
        self._first = section.bn_first_momentum
        self._later = [(norm, norm.momentum) for norm in norms]

    def set(self, global_step: int) -> None:
        """Set the momentum of a step, 0-based in the run."""
        if self._first is None or global_step > 1:
            return
        for norm, momentum in self._later:
            norm.momentum = momentum if global_step else self._first
