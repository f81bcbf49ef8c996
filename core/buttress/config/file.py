"""A config file, read and checked: the config, the place of every key, and the code that comes with it.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from buttress.components.construct import choose
from buttress.components.plugins_file import PluginsFile, read_plugins_file
from buttress.components.signature import signature_of
from buttress.components.trust import belongs_to_run
from buttress.components.validation import validate
from buttress.config.component_section import ComponentSection, ExtraSection, path_of
from buttress.config.disable import apply_disable
from buttress.config.overrides import apply_override
from buttress.config.own_code import OwnCode
from buttress.config.recipes import resolve_config_path
from buttress.config.schedule import Schedule, expect_factors
from buttress.config.schema import FORMAT, Config
from buttress.config.targets import SCHEDULE
from buttress.config.warm_up import WarmUp
from buttress.config.yaml_source import YamlSource, dump_yaml, read_yaml
from buttress.errors import ConfigError, PluginError
from buttress.storage.user_path import user_path


class ConfigFile:
    """A validated config with the places that its values came from.

    Args:
        source: the parsed file, overrides applied.
        plugins_file: file of plugins, if it has been read already; by default it is read from beside the source.
        trusted_only: whether only code that the user has trusted is executed.
        trust: whether the config's own code is trusted from now on.

    Raises:
        ConfigError: every mistake, one line each.

    Plugins and loggers that ``disable`` names are in ``disabled``, and no longer in ``config``.
    """

    def __init__(
        self,
        source: YamlSource,
        plugins_file: PluginsFile | None = None,
        *,
        trusted_only: bool = False,
        trust: bool = False,
    ) -> None:
        if not isinstance(source.value, dict):
            raise ConfigError(f"expected a mapping of keys, got {type(source.value).__name__}", key=source.name)
        _expect_format(source)
        whole = validate(Config, source.value, source.place)
        assert isinstance(whole, Config)
        self.source, self.config, self.disabled = apply_disable(source, whole)
        self.place = replace(self.source.place, folder=self.folder)
        self.plugins_file = plugins_file or self._read_plugins_file()
        for name, section in self._sections().items():
            self._expect_one_choice(name, section)
        self._expect_one_length()
        self._expect_way_back()
        targets = self.targets()
        args = {name: section.args for name, section in self._sections().items() if name in targets}
        self.own = OwnCode(
            source.name, self.plugins_file, targets, args, self.modules, trusted_only=trusted_only and not trust
        )
        if trusted_only and trust:
            self.own.trust()

    def _read_plugins_file(self) -> PluginsFile | None:
        name = self.config.plugins_file
        if name is None:
            return None
        return read_plugins_file(Path(self.source.name).parent / name, self.place / "plugins_file")

    def _sections(self) -> dict[str, ComponentSection]:
        """Name to section, of those that take a name or a target."""
        config = self.config
        sections = {"model": config.model, "optimizer": config.optimizer, "schedule": config.schedule}
        return {"data": config.data, **config.data.extras, **sections}

    def _expect_one_choice(self, name: str, section: ComponentSection) -> None:
        """A component has a name with settings beside it, or a target with args."""
        path = path_of(name)
        place = self.place.under(*path)
        if isinstance(section, ExtraSection) and section.is_own:
            if section.settings() or section.args:
                wrong = next(iter(section.settings()), "args")
                raise ConfigError("expected a name or a target that this belongs to, got none", key=place / wrong)
            return
        if (section.name is None) == (section.target is None):
            place = self.source.blame(path, (*path, "name"), (*path, "target"))
            raise ConfigError("expected exactly one of name and target", key=place)
        if section.target is not None and section.settings():
            unknown = next(iter(section.settings()))
            raise ConfigError("unknown key; arguments of target go under args", key=place / unknown)
        if section.name is not None and section.args:
            raise ConfigError("args belong to target; write settings beside name", key=place / "args")

    def _expect_one_length(self) -> None:
        """A run has a number of epochs or a number of steps."""
        epochs, steps = self.config.epochs, self.config.steps
        if (epochs is None) == (steps is None):
            given = "neither" if epochs is None else f"epochs {epochs} and steps {steps}"
            cure = "" if epochs is None else "; take one out, on the command line by epochs=null or steps=null"
            place = self.source.blame(("epochs",), ("steps",))
            raise ConfigError(f"expected either epochs or steps as the length of the run, got {given}{cure}", key=place)

    def _expect_way_back(self) -> None:
        """A roll-back needs a checkpoint that is as old as the last evaluation but one."""
        saved, every = self.config.checkpoint, self.config.evaluation.every
        # A collapse is seen before its own epoch is saved: `every - 1` epochs have been saved since the last good
        # evaluation, and of so many consecutive epochs at most ceil((every - 1) / saved.every) end with a checkpoint.
        # Beside those, one from that evaluation or from before it has to be kept.
        needed = 1 + -(-(every - 1) // saved.every)
        if self.config.guards.collapse == "roll_back" and (saved.keep < needed or saved.every > every):
            place = self.source.blame(
                ("guards", "collapse"), ("checkpoint", "every"), ("checkpoint", "keep"), ("evaluation", "every")
            )
            raise ConfigError(
                "roll_back needs a checkpoint from each evaluation until the "
                f"next: checkpoint.every at most {every} (evaluation.every) and checkpoint.keep at least {needed}, got "
                f"{saved.every} and {saved.keep}",
                key=place,
            )

    @property
    def modules(self) -> Path:
        """The folder that is searched first for the modules of targets."""
        return (Path(self.source.name).parent / user_path(self.config.modules or "")).resolve()

    @property
    def folder(self) -> Path:
        """The folder that is searched first for relative paths of the data."""
        return (Path(self.source.name).parent / user_path(self.config.folder or "")).resolve()

    def targets(self) -> dict[str, str]:
        """Section to target, for the sections that have a target."""
        chosen = {name: section.target for name, section in self._sections().items()}
        return {name: target for name, target in chosen.items() if target is not None}

    def check_schedule(self) -> None:
        """Make the schedule, if it is known before the data are loaded how many epochs the run has.

        Raises:
            PluginError, ConfigError: see ``schedule``.
        """
        if self.config.epochs is not None:
            self.schedule(self.config.epochs)

    def schedule(self, epochs: float) -> tuple[Schedule, dict[str, Any]]:
        """The schedule of a run of so many epochs, with its warm-up, and its own settings.

        Raises:
            PluginError, ConfigError: an unknown schedule, wrong settings, or a target that is no schedule.
        """
        section = self.config.schedule
        schedule, settings = self._schedule_alone(epochs)
        if section.warmup:
            schedule = WarmUp(schedule, section.warmup, section.warmup_from or 0.0)
        try:
            schedule.factor(0.0, epochs)
            schedule.drops(epochs)
        except ConfigError as problem:
            place = self.source.blame(("schedule", problem.key), ("epochs",), ("steps",))
            raise ConfigError(problem.message, key=place) from None
        return schedule, settings

    def _schedule_alone(self, epochs: float) -> tuple[Schedule, dict[str, Any]]:
        section, place = self.config.schedule, self.place / "schedule"
        if section.target is not None:
            schedule, settings = self.own.make(SCHEDULE, "schedule", section.args, place)
            expect_factors(schedule, epochs, f"{place / 'target'}: {section.target}")
            return schedule, settings
        component = choose("schedule", section.chosen, place / "name")
        taken = [each.name for each in signature_of(component.factory) if each.name in type(section).model_fields]
        if taken:
            text = f"{component}: its setting {taken[0]!r} is a key of every schedule; its author has to rename it"
            raise PluginError(text, key=place / "name")
        schedule, settings = component.make(section.settings(), place)
        if component.source.distribution != "buttress":
            expect_factors(schedule, epochs, f"{place / 'name'}: {section.chosen}")
        return schedule, settings


def _expect_format(source: YamlSource) -> None:
    """Check the version before anything else, since other keys may have another meaning in another version."""
    written = source.value.get("format", FORMAT)
    if written != FORMAT or isinstance(written, bool):
        raise ConfigError(
            f"this version of buttress reads configs of format {FORMAT}, got {written!r}; "
            "use the version that the config was written for (a run's is in its manifest.json)",
            key=source.place / "format",
        )


def load_config(
    path: Path, overrides: Sequence[str] = (), *, trust: bool = False, inspect_only: bool = False
) -> ConfigFile:
    """Read a config file, or the recipe ``dist:name`` of a distribution, and apply ``key=value`` overrides.

    A key is a path (``data.batch_size``, ``plugins.pgd.steps``) or a plugin and its setting (``pgd.steps``).

    Args:
        path: file of the config. A file in a run folder belongs to the maker of the run, so its own code is executed
            only if the user has trusted it. Any other file is the user's own.
        overrides: ``key=value``, the value in YAML.
        trust: whether the config's own code is trusted from now on.
        inspect_only: whether the config is only inspected; its own code is then executed only if it is trusted.

    Raises:
        ConfigError: see ``ConfigFile``; an override that is not ``key=value``, or whose key is unknown.
    """
    source = read_yaml(resolve_config_path(path))
    for override in overrides:
        source = apply_override(source, override)
    return ConfigFile(source, trusted_only=inspect_only or belongs_to_run(path), trust=trust)


def dump_config(resolved: dict[str, Any]) -> str:
    """A resolved config as YAML that reads back to the same values."""
    return dump_yaml(resolved)
