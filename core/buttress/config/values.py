"""Types of the values of a config: counts, seeds, components with their settings, requirements. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import BeforeValidator, Field

from buttress.components.entries import attack_entry_of, entry_of
from buttress.errors import ConfigError
from buttress.precision import Precision

Count = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def _entry(value: object) -> dict[str, dict[str, Any]]:
    try:
        name, settings = entry_of(value)
    except ConfigError:
        raise ValueError(f"expected a name or 'name: {{settings}}', got {value!r}") from None
    return {name: settings}


ComponentEntry = Annotated[dict[str, dict[str, Any]], BeforeValidator(_entry)]
"""A component with its settings: ``pgd``, or ``pgd: {steps: 20}``."""


def _attack_entry(value: object) -> dict[str, dict[str, Any]]:
    try:
        name, settings = attack_entry_of(value)
    except ConfigError as problem:
        raise ValueError(str(problem)) from None
    return {name: settings}


def _precision(value: object) -> str | dict[str, str]:
    try:
        return Precision.read(value).as_config()
    except ConfigError as problem:
        raise ValueError(str(problem)) from None


PrecisionValue = Annotated[str | dict[str, str], BeforeValidator(_precision)]
"""A precision: a word, or a word for each kind of work."""

AttackEntry = Annotated[dict[str, dict[str, Any]], BeforeValidator(_attack_entry)]
"""An attack of evaluations with its settings, as ``ComponentEntry``, or with its steps: ``pgd-20``."""


def _requirement(value: object) -> str:
    try:
        return str(Requirement(str(value)))
    except InvalidRequirement as problem:
        raise ValueError(f"expected a requirement like my-defense>=1.2, got {value!r} ({problem})") from None


RequirementText = Annotated[str, BeforeValidator(_requirement)]
"""A distribution and its versions, as in a ``pyproject.toml``."""


def _words(value: object) -> object:
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


UndecayedKinds = Annotated[list[Literal["norm", "bias", "vectors"]], BeforeValidator(_words)]
"""Kinds of parameters without weight decay: a list, or words with commas between them."""
