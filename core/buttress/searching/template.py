"""The config of a search, read once, and the configs and runs of its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buttress.comparing.jobs import Job
from buttress.components.trust import belongs_to_run
from buttress.config.file import ConfigFile, dump_config
from buttress.config.overrides import apply_override
from buttress.config.recipes import resolve_config_path
from buttress.config.yaml_source import YamlSource, read_yaml
from buttress.errors import ConfigError, DataError, InputError, nearest
from buttress.scoring.attacks import attack_name
from buttress.searching.space import Space
from buttress.training.assembly import Assembly, check_config


@dataclass(frozen=True)
class CheckedConfig:
    """A config of a trial, from which a run has been built and thrown away.

    Args:
        resolved: config with every default filled in.
        plugins_text: text of its ``plugins_file``, if it has one.
        code: sha256 of the files of its own code.
        attack: name of the attack of its evaluations.
        tracks: names of its tracks, ``live`` first.
        measured: fingerprint of the validation split.
    """

    resolved: dict[str, Any]
    plugins_text: str | None
    code: tuple[str, ...]
    attack: str
    tracks: tuple[str, ...]
    measured: Mapping[str, Any]


class Template:
    """A config with fixed overrides, into which the settings of trials are put.

    Args:
        config: path of its file, or a recipe.
        fixed: overrides of every trial, ``key=value``.
        name: name of the search, which its runs have.
        trust: whether to execute the code of a config that came with a run, and remember it as trusted.

    Raises:
        ConfigError: the file or an override is wrong.
    """

    def __init__(self, config: Path, fixed: Sequence[str], name: str, *, trust: bool = False) -> None:
        path = resolve_config_path(config)
        self._source, self._trusted_only, self._trust = read_yaml(path), belongs_to_run(path), trust
        for override in fixed:
            self._source = apply_override(self._source, override)
        self._name = name
        self.config_name = str(self._source.value.get("name")) if isinstance(self._source.value, dict) else ""

    def check(self, settings: Mapping[str, str]) -> CheckedConfig:
        """Build everything that a trial of these settings would build, and write nothing.

        Raises:
            InputError: anything that would stop its run before step 1; or no validation split chooses the best epoch.
        """
        file = self._file(settings)
        if file.config.evaluation.best_by != "validation":
            raise ConfigError(
                "a search chooses by the validation split, and leaves the test split alone; expected validation, got "
                f"{file.config.evaluation.best_by}",
                key=file.place / "evaluation" / "best_by",
            )
        assembly = check_config(file)
        if assembly.data.validation is None:
            raise DataError("a search chooses by the validation split, and the data have none", key=file.place / "data")
        return _checked(assembly)

    def _file(self, settings: Mapping[str, str]) -> ConfigFile:
        source = self._source
        for key, value in settings.items():
            source = apply_override(source, f"{key}={value}")
        ConfigFile(source)  # with its own name, which is about to be replaced
        return ConfigFile(self._renamed(source), trusted_only=self._trusted_only, trust=self._trust)

    def _renamed(self, source: YamlSource) -> YamlSource:
        return apply_override(source, f'name="{self._name}"')


def _checked(assembly: Assembly) -> CheckedConfig:
    file = assembly.file
    return CheckedConfig(
        assembly.resolved,
        file.plugins_file.text if file.plugins_file else None,
        tuple(each.sha256 for each in file.own.files),
        attack_name(assembly.evaluator.attack),
        ("live", *(track.name for track in assembly.engine.tracks())),
        assembly.data.fingerprint["validation"],
    )


def jobs_of(number: int, checked: CheckedConfig, seeds: Sequence[int], folder: Path) -> list[Job]:
    """The runs of a trial, one a seed, in the folder of the search."""
    return [
        Job(
            f"trial {number}",
            seed,
            str(folder / f"trial-{number:03d}-s{seed}"),
            dump_config({**checked.resolved, "seed": seed}),
            (),
            checked.plugins_text,
            checked.code,
        )
        for seed in seeds
    ]


def check_space(template: Template, space: Space, track: str) -> tuple[Space, CheckedConfig]:
    """Check a space against a config before anything runs.

    Returns:
        The space with whole numbers where its settings are, and the config at its lowest point.

    Raises:
        InputError: a key is unknown; a setting refuses an end of its range or one of its values; trials would be
            measured on different examples; there is no such track.
    """
    space = space.with_whole_numbers(lambda key, value: _takes(template, space, key, value))
    first, *others = (template.check(point) for point in space.points())
    if track not in first.tracks:
        raise ConfigError(f"there is no such track{nearest(track, first.tracks)}", key=f"--track {track!r}")
    if any(other.measured != first.measured for other in others):
        keys = ", ".join(each.key for each in space.dimensions)
        raise ConfigError(
            f"trials would be measured on different validation examples, so their values could not be compared; one of "
            f"{keys} changes them: give it one value"
        )
    return space, first


def _takes(template: Template, space: Space, key: str, value: str) -> bool:
    lowest = {each.key: each.ends[0] for each in space.dimensions}
    try:
        template.check({**lowest, key: value})
    except InputError:
        return False
    return True
