"""The normalisation of a run's model: ``model.normalize``, or the settings ``mean`` and ``std`` of an older config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from buttress.components.place import Place
from buttress.components.validation import validate
from buttress.config.model_section import NormalizeSection
from buttress.errors import ModelError
from buttress.nn.normalization import normalized

_OLD_KEYS = ("mean", "std")


def read_old_keys(
    settings: Mapping[str, Any], factory: Callable[..., object], place: Place
) -> tuple[dict[str, Any], NormalizeSection | None]:
    """Settings of a model without ``mean`` and ``std``, and the normalisation that they stand for, or None.

    Saved runs have these two settings. A model whose own settings they are keeps them.

    Args:
        settings: settings from the config.
        factory: class or function of the model.
        place: place of the settings, for messages.

    Raises:
        ConfigError: only one of the two is given, or they are no numbers.
    """
    own = inspect.signature(factory).parameters
    old = {key: settings[key] for key in _OLD_KEYS if key in settings and key not in own}
    rest = {key: value for key, value in settings.items() if key not in old}
    if all(value is None for value in old.values()):
        return rest, None
    section = validate(NormalizeSection, {key: value for key, value in old.items() if value is not None}, place)
    assert isinstance(section, NormalizeSection)
    return rest, section


def normalize(model: nn.Module, section: NormalizeSection | None, shape: Sequence[int], place: Place) -> nn.Module:
    """``model`` with the normalisation of its config, for inputs of ``shape`` (``[C,*]``).

    Raises:
        ModelError: not one value a channel, or the model cannot be given a normalisation.
    """
    if section is None:
        return model
    try:
        return normalized(model, section.mean, section.std, shape)
    except ValueError as problem:
        raise ModelError(problem, key=place) from problem
