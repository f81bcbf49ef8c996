"""From configs, swept settings and seeds to the runs of a comparison."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from buttress.config import Config, ConfigFile, apply_override, plugin_names
from buttress.errors import ConfigError
from buttress.yaml_source import Source, read_yaml


@dataclass(frozen=True)
class Variant:
    """A config with some settings, before it has a seed.

    Args:
        method: the config's name.
        config: its file.
        overrides: those that apply to it, ``key=value``, single ones and one of each sweep.
        settings: the swept ones alone: what tells variants of one method apart.
    """

    method: str
    config: Path
    overrides: tuple[str, ...]
    settings: tuple[str, ...]

    @property
    def label(self) -> str:
        """``"digits-rwp rwp.c_min=1.0"``."""
        return " ".join([self.method, *self.settings])

    def file(self, comparison: str, seed: int) -> ConfigFile:
        """The config of one run."""
        source = read_yaml(self.config)
        for override in (*self.overrides, f'name="{comparison}"', f"seed={seed}"):
            source = apply_override(source, override)
        return ConfigFile(source)

    def run(self, seed: int) -> str:
        """Name of its run folder: letters, digits, ``. _ -``."""
        name = "-".join([self.method, *(setting.replace("=", "-") for setting in self.settings)])
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name).strip('_')[:90]}-s{seed}"


def plan(configs: Sequence[Path], overrides: Sequence[str]) -> list[Variant]:
    """Every config with every combination of the swept settings that apply to it.

    An override with commas (outside of brackets and quotes) is a sweep. One that sets a plugin applies to the configs
    that have the plugin.

    Raises:
        ConfigError: two configs of one name; an override that applies to no config, or is none.
    """
    sources = [read_yaml(path) for path in configs]
    names = [_name(source) for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two configs are called {twice[0]!r}; give each a name of its own")
    variants = []
    used: set[str] = set()
    for path, source, name in zip(configs, sources, names, strict=True):
        applying = [override for override in overrides if _applies(override, source)]
        used |= set(applying)
        choices = [[f"{key}={value}" for value in values] for key, values in map(_values, applying)]
        swept = [len(choice) > 1 for choice in choices]
        for chosen in product(*choices):
            settings = tuple(each for each, one_of_many in zip(chosen, swept, strict=True) if one_of_many)
            variants.append(Variant(name, path, tuple(chosen), settings))
    for override in overrides:
        if override not in used:
            raise ConfigError(
                f"override {override!r}: none of the configs has a plugin {override.split('=')[0].split('.')[0]!r}"
            )
    folders = [variant.run(0) for variant in variants]
    if len(set(folders)) < len(folders):
        raise ConfigError("two variants would share a run folder; shorten the swept values, or compare them apart")
    return variants


def seeds_of(text: str) -> list[int]:
    """``"3"`` is seeds 0, 1, 2; ``"4,7"`` those two.

    Raises:
        ConfigError: neither.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [-1]
    seeds = numbers if "," in text else list(range(numbers[0]))
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text!r}: expected a number of seeds >= 1, or different seeds like 4,7")
    return seeds


def split_values(text: str) -> list[str]:
    """``text`` at its commas, those inside of brackets, braces and quotes excepted."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "[{(") - (character in ")}]")
        if character == "," and not quote and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _values(override: str) -> tuple[str, list[str]]:
    key, _, text = override.partition("=")
    return key, split_values(text)


def _name(source: Source) -> str:
    name = source.value.get("name") if isinstance(source.value, dict) else None
    if not isinstance(name, str):
        raise ConfigError(f"{source.name}: expected a config with a name")
    return name


def _applies(override: str, source: Source) -> bool:
    key, equals, _ = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: expected key=value, or key=value,value,... for a sweep")
    parts: Iterator[str] = iter(key.split("."))
    first = next(parts)
    if first == "plugins":
        first = next(parts, "")
    known = set(Config.model_fields) - {"plugins"}
    return first in known or first == "" or first in plugin_names(source.value)
