"""Facts of a recipe: its training and the numbers published for it, read from its file. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from buttress.components.entries import entry_of
from buttress.config.yaml_source import read_values
from buttress.errors import ConfigError, nearest


@dataclass(frozen=True)
class Facts:
    """The content of a recipe's file in short; None and empty where it says nothing.

    Args:
        name: name of the run.
        paper: short name of the paper of whose tables the recipe is a row.
        tables: names of the tables that have the row.
        row: name of the row in the paper.
        dataset: name of the data set, or its target.
        norm: norm of the threat model.
        model: name of the model, or its target.
        plugins: names of the plugins, in the order of their calls.
        source: source of the published values.
        published: measure to published value, in percent.
    """

    name: str | None = None
    paper: str | None = None
    tables: list[str] = field(default_factory=list)
    row: str | None = None
    dataset: str | None = None
    norm: str | None = None
    model: str | None = None
    plugins: list[str] = field(default_factory=list)
    source: str | None = None
    published: dict[str, float] = field(default_factory=dict)


def facts_of(path: Path) -> Facts:
    """The facts of a recipe's file. A file that is no config has none: reading it as a config says what is wrong."""
    try:
        config = read_values(path)
    except (OSError, UnicodeDecodeError, ValueError, RecursionError, yaml.YAMLError):
        return Facts()
    targets = _at(config, "targets")
    return Facts(
        name=_text(_at(config, "name")),
        paper=_text(_at(targets, "paper")),
        tables=[each for each in _items(_at(targets, "tables")) if isinstance(each, str)],
        row=_text(_at(targets, "row")),
        dataset=_component(_at(config, "data")),
        norm=_text(_at(config, "threat", "norm")),
        model=_component(_at(config, "model")),
        plugins=[name for entry in _items(_at(config, "plugins")) for name in _name_of(entry)],
        source=_text(_at(targets, "source")),
        published=_numbers(_at(targets, "values")),
    )


def expect_known(fact: str, wanted: str, known: Iterable[str | None]) -> None:
    """Refuse a ``wanted`` paper, data set or model that no recipe has.

    Args:
        fact: name of the fact: ``paper``, ``dataset``, ``model``.
        wanted: value that a recipe should have.
        known: values of all recipes.

    Raises:
        ConfigError: no recipe has it, with the nearest.
    """
    names = {each for each in known if each is not None}
    if wanted not in names:
        kind = fact.replace("dataset", "data set")
        raise ConfigError(f"no recipe has the {kind} {wanted!r}{nearest(wanted, names)}", key=f"--{fact}")


def _at(value: object, *keys: str) -> object:
    """The value under ``keys``; None where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _component(section: object) -> str | None:
    return _text(_at(section, "name")) or _text(_at(section, "target"))


def _name_of(entry: object) -> list[str]:
    try:
        return [entry_of(entry)[0]]
    except ConfigError:
        return []


def _numbers(values: object) -> dict[str, float]:
    if not isinstance(values, Mapping):
        return {}
    finite = {key: value for key, value in values.items() if type(value) in (int, float) and isfinite(value)}
    return {key: float(value) for key, value in finite.items() if isinstance(key, str)}
