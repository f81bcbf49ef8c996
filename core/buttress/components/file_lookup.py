"""Find the files that settings name: beside the config first, then in the working folder. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from buttress.components.place import Place
from buttress.errors import ConfigError
from buttress.storage.user_path import user_path


def with_whole_paths(settings: Mapping[str, Any], names: Collection[str], place: Place) -> dict[str, Any]:
    """``settings`` with whole paths for the relative ones of the settings ``names``.

    Raises:
        ConfigError: no folder holds such a file.
    """
    return {key: _whole(value, place / key) if key in names else value for key, value in settings.items()}


def _whole(value: Any, place: Place) -> Any:
    """A text as a whole path, also inside of lists and mappings."""
    if isinstance(value, list):
        return [_whole(each, place / position) for position, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _whole(each, place / key) for key, each in value.items()}
    if not isinstance(value, str) or user_path(value).is_absolute():
        return value
    path, folders = user_path(value), place.folders
    existing = next((folder / path for folder in folders if (folder / path).exists()), None)
    if existing is None:
        looked = " and in ".join(map(str, folders))
        raise ConfigError(f"expected a file, got nothing: {value} was looked up in {looked}", key=place)
    return str(existing)
