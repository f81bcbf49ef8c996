"""Launchers by name, with the settings of the command line. Loads no torch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from buttress.components.construct import choose
from buttress.components.place import KeyPath, Place
from buttress.components.signature import settings_model
from buttress.config.yaml_source import parse_yaml
from buttress.errors import ConfigError, PluginError, line_of, nearest
from buttress.launching.launcher import Launcher

LAUNCHER, OPTION = "--launcher", "--launcher-option"
"""Names of the options of the command line."""


def load_launcher(name: str, options: Sequence[str] = ()) -> Launcher:
    """The launcher called ``name``.

    Args:
        name: name of its entry point in ``buttress.launchers``, or ``dist:name``.
        options: settings, each ``key=value`` with a value in YAML.

    Raises:
        PluginError, ConfigError: unknown or broken launcher; unknown or wrong settings.
    """
    component = choose("launcher", name, Place(LAUNCHER), {})
    check_launcher(component.factory, str(component))
    known = settings_model(component.factory).model_fields
    settings: dict[str, Any] = {}
    lines: dict[KeyPath, str] = {}
    for option in options:
        key, equals, text = option.partition("=")
        place = f"{OPTION} {option!r}"
        if not equals or not key:
            raise ConfigError("expected key=value, as in partition=gpu gpus_per_node=1", key=place)
        if key not in known:
            hint = nearest(key, known)
            cure = "" if hint.endswith("?") else f"; settings of runs stand before {OPTION}"
            raise ConfigError(f"launcher {name!r} has no setting {key!r}{hint}{cure}", key=place)
        if key in settings:
            raise ConfigError(f"{key} is given twice", key=place)
        settings[key] = parse_yaml(text, place).value
        lines[key,] = place
    made, _ = component.make(settings, Place(f"{LAUNCHER} {name}", lines=lines))
    launcher: Launcher = made
    return launcher


def check_launcher(component: Any, who: str) -> None:
    """Refuse what is no launcher.

    Raises:
        PluginError: it is not derived from ``Launcher``, or lacks methods.
    """
    if not (inspect.isclass(component) and issubclass(component, Launcher)):
        raise PluginError(
            f"{who}: expected a class derived from buttress.launching.launcher.Launcher", place=line_of(component)
        )
    if missing := sorted(component.__abstractmethods__):
        raise PluginError(f"{who}: lacks {', '.join(missing)}", place=line_of(component))
