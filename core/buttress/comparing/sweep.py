"""Make the variants of a comparison from configs and swept settings. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path

from buttress.components.trust import belongs_to_run
from buttress.config.file import ConfigFile
from buttress.config.overrides import apply_override, plugin_names
from buttress.config.recipes import resolve_config_path
from buttress.config.schema import Config
from buttress.config.yaml_source import YamlSource, read_yaml
from buttress.errors import ConfigError, nearest

# Longest beginning of a run folder's name, before "-s<seed>": run names have at most 100 characters.
_LONGEST = 90
# Keys that a comparison gives to its runs, and the option that stands for each.
_OWN_KEYS = {"seed": "--seeds, or seed=4,7", "name": "--name"}
_MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Variant:
    """A config with some settings, before it has a seed.

    Args:
        method: the config's name.
        config: path of its file.
        overrides: overrides that apply to it, ``key=value``, single ones and one of each sweep.
        settings: swept overrides only, which distinguish variants of one method.
    """

    method: str
    config: Path
    overrides: tuple[str, ...]
    settings: tuple[str, ...]

    @property
    def label(self) -> str:
        """``"digits-rwp rwp.c_min=1.0"``."""
        return " ".join([self.method, *self.settings])

    def file(self, comparison: str, seed: int, *, trust: bool = False) -> ConfigFile:
        """The config of one run, which is called after the comparison; ``trust`` as in ``load_config``."""
        source = read_yaml(self.config)
        for override in (*self.overrides, f"seed={seed}"):
            source = apply_override(source, override)
        ConfigFile(source)  # with its own name, which is about to be replaced and becomes part of a path
        renamed = apply_override(source, f'name="{comparison}"')
        return ConfigFile(renamed, trusted_only=belongs_to_run(self.config), trust=trust)

    def run(self, seed: int) -> str:
        """Name of its run folder: letters, digits, ``. _ -``; a long one is cut, and ends with a hash."""
        name = "-".join([self.method, *(setting.replace("=", "-") for setting in self.settings)])
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_")
        if len(name) > _LONGEST:
            name = f"{name[: _LONGEST - 9]}-{sha256(self.label.encode()).hexdigest()[:8]}"
        return f"{name}-s{seed}"


def plan(configs: Sequence[Path], overrides: Sequence[str]) -> list[Variant]:
    """Every config with every combination of the swept settings that apply to it.

    An override with commas (outside of brackets and quotes) is a sweep. One that sets a plugin applies to the configs
    that have the plugin.

    Raises:
        ConfigError: two configs of one name; an override that applies to no config, or is none.
    """
    configs = [resolve_config_path(path) for path in configs]
    sources = [read_yaml(path) for path in configs]
    names = [_name(source) for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two configs are called {twice[0]!r}; give each a name of its own")
    sweeps = _sweeps(overrides)
    plugins = {name for source in sources for name in plugin_names(source.value)}
    for key in sweeps:
        if not _is_key_of(key, plugins):
            first = _owner(key)
            raise ConfigError(
                f"none of the configs has a key or a plugin {first!r}"
                f"{nearest(first, {*Config.model_fields, *plugins})}",
                key=f"override {key!r}",
            )
    variants = []
    for path, source, name in zip(configs, sources, names, strict=True):
        applying = {key: values for key, values in sweeps.items() if _is_key_of(key, set(plugin_names(source.value)))}
        for chosen in product(*applying.values()):
            words = dict(zip(applying, chosen, strict=True))
            settings = tuple(f"{key}={value}" for key, value in words.items() if len(applying[key]) > 1)
            variants.append(Variant(name, path, tuple(f"{key}={value}" for key, value in words.items()), settings))
    folders: dict[str, str] = {}
    for variant in variants:
        other = folders.setdefault(variant.run(0), variant.label)
        if other != variant.label:
            raise ConfigError(
                f"{other!r} and {variant.label!r} would share the run folder {variant.run(0)}; compare them apart, "
                "each with its own --name"
            )
    return variants


def baselines(variants: Sequence[Variant], wanted: str | None) -> dict[str, str]:
    """Pair each variant with the variant that it is compared with.

    Args:
        variants: variants of the comparison.
        wanted: label of one variant, for all; or a method: that variant of it which has the same settings. By default
            the first method, or the first variant where there is one method only.

    Returns:
        Label to label; a variant that has no counterpart is missing.

    Raises:
        ConfigError: ``wanted`` is neither.
    """
    labels = [variant.label for variant in variants]
    methods = list(dict.fromkeys(variant.method for variant in variants))
    if wanted is None:
        wanted = methods[0] if len(methods) > 1 else labels[0]
    if wanted in labels:
        return dict.fromkeys(labels, wanted)
    if wanted not in methods:
        raise ConfigError(
            f"expected one of {', '.join(dict.fromkeys([*methods, *labels]))}", key=f"--baseline {wanted!r}"
        )
    candidates = [variant for variant in variants if variant.method == wanted]
    return {
        variant.label: candidate.label
        for variant in variants
        for candidate in candidates
        if set(candidate.settings) <= set(variant.settings)
    }


def seeds_of(overrides: Sequence[str], option: str | None) -> tuple[list[str], list[int]]:
    """The overrides but those of the seed, and the seeds: of ``--seeds`` or of ``seed=7``, three without either.

    ``--seeds 3`` is seeds 0, 1, 2; ``--seeds 4,7`` and ``seed=4,7`` are those two.

    Raises:
        ConfigError: no seeds, or some in both ways.
    """
    given = [override for override in overrides if override.partition("=")[0] == "seed"]
    if not given:
        text = option if option is not None else "3"
        expected = "a number of seeds >= 1, or different seeds like 4,7"
        return list(overrides), _seeds(f"--seeds {text!r}", text, expected, counted="," not in text)
    if option is not None or len(given) > 1:
        raise ConfigError(
            "seeds are given twice; give them once, as --seeds 4,7 or seed=4,7", key=f"override {given[-1]!r}"
        )
    seeds = _seeds(f"override {given[0]!r}", given[0].partition("=")[2], "different seeds >= 0 like 4,7", counted=False)
    return [override for override in overrides if override not in given], seeds


def _seeds(place: str, text: str, expected: str, counted: bool) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    numbers = [int(word) if re.fullmatch(r"[0-9]{1,19}", word) else -1 for word in words]
    if counted and numbers[0] > _MOST_SEEDS:
        raise ConfigError(f"expected at most {_MOST_SEEDS:,} seeds", key=place)
    seeds = list(range(numbers[0])) if counted else numbers
    if not seeds or not 0 <= min(seeds) <= max(seeds) < 2**63 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"expected {expected}", key=place)
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


def _sweeps(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Key to its values, one or several, in the order of the command line."""
    sweeps: dict[str, list[str]] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError("expected key=value, or key=value,value,... for a sweep", key=f"override {override!r}")
        if key in _OWN_KEYS:
            raise ConfigError(f"a comparison sets {key} itself; use {_OWN_KEYS[key]}", key=f"override {override!r}")
        if key in sweeps:
            raise ConfigError(f"{key} is given twice; list its values: {key}=value,value", key=f"override {override!r}")
        values = split_values(text)
        if len(values) > 1 and (not all(values) or len(set(values)) < len(values)):
            raise ConfigError("expected different values between the commas", key=f"override {override!r}")
        sweeps[key] = values
    return sweeps


def _is_key_of(key: str, plugins: set[str]) -> bool:
    return _owner(key) in {*Config.model_fields, *plugins}


def _owner(key: str) -> str:
    """The section, or the plugin, that a key belongs to: ``"rwp"`` of ``rwp.c_min`` and of ``plugins.rwp.c_min``."""
    return (key.removeprefix("plugins.") if key != "plugins" else key).split(".")[0]


def _name(source: YamlSource) -> str:
    name = source.value.get("name") if isinstance(source.value, dict) else None
    if not isinstance(name, str):
        raise ConfigError("expected a config with a name", key=source.name)
    return name
