"""Load and check the data of a config."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from buttress.components.construct import choose
from buttress.components.own_modules import describe_exception
from buttress.components.requirements import check_requirements
from buttress.config.component_section import ComponentSection, path_of
from buttress.config.file import ConfigFile
from buttress.config.targets import DATA
from buttress.data import Data, Split, check_data
from buttress.data.joined import JoinedSplit
from buttress.errors import ConfigError, DataError, InputError, extended, raising_line
from buttress.training.data_paths import relative_paths_of, where_looked
from buttress.training.device import memory_format_of, placed
from buttress.training.threat_model import threat_of

DataSettings = dict[str, dict[str, Any]]
"""Name of a section (``data``, ``data.extra``, ``data.extra.0``) to all settings of its data set."""


def load_data(file: ConfigFile) -> tuple[Data, DataSettings]:
    """Load the data of a config, checked and on its device; returns also all settings of its data sets.

    The split ``extra`` is there where the config has ``data.extra``; of several sources it is a ``JoinedSplit``.

    Raises:
        ConfigError, PluginError, DataError: wrong settings, or data that break the threat model.
    """
    check_requirements(file.config.requires, file.place / "requires")
    data, own = load_section(file, "data", file.config.data)
    extra, further = _load_extra(file, data)
    data, settings = replace(data, extra=extra), {"data": own, **further}
    _expect_valid(file, data)
    if data.validation is None and file.config.evaluation.best_by == "validation":
        place = file.source.blame(("evaluation", "best_by"), ("data", "validation"), ("data", "name"))
        raise ConfigError(
            "the data set has no validation split to choose the best epoch "
            "on; set data.validation, or evaluation.best_by: test (the papers' protocol, biased upward)",
            key=place,
        )
    shape = data.train.example_shape
    if memory_format_of(file) == torch.channels_last and len(shape) != 3:
        raise ConfigError(
            f"channels_last is a layout of images [C,H,W], and these examples have shape {list(shape)}; use contiguous",
            key=file.place / "model" / "memory_format",
        )
    moved = {name: _placed(split, file) for name, split in data.splits().items()}
    moved_data = replace(
        data, train=moved["train"], test=moved["test"], validation=moved.get("validation"), extra=moved.get("extra")
    )
    return moved_data, settings


def _load_extra(file: ConfigFile, data: Data) -> tuple[Split | None, DataSettings]:
    """The extra examples of a config, and the settings of their data sets where they are others than ``data``."""
    splits, settings = [], {}
    for name, section in file.config.data.extras.items():
        if not section.is_own:
            other, settings[name] = load_section(file, name, section)
            splits.append(other.train)
        elif data.extra is not None:
            splits.append(data.extra)
        else:
            raise ConfigError(
                f"{file.config.data.chosen} sets no extra examples apart; name a file of them, like "
                f"{{file: FILE, share: {section.share}}}",
                key=file.place.under(*path_of(name)),
            )
    with (file.place / "data" / "extra").error_context():
        return (JoinedSplit(splits) if len(splits) > 1 else next(iter(splits), None)), settings


def _placed(split: Split, file: ConfigFile) -> Split:
    """``placed``; of a joined split its parts are, so that they can be drawn from one by one."""
    return (
        JoinedSplit([placed(part, file) for part in split.parts])
        if isinstance(split, JoinedSplit)
        else placed(split, file)
    )


def _expect_valid(file: ConfigFile, data: Data) -> None:
    """Check the data; an exception of the user's own split becomes one message too."""
    threat = threat_of(file)
    try:
        check_data(data, threat)
    except InputError:
        raise
    except Exception as problem:
        raise DataError(
            f"{file.config.data.chosen}: {describe_exception(problem)}", key=file.place / "data"
        ) from problem


def load_section(file: ConfigFile, name: str, section: ComponentSection) -> tuple[Data, dict[str, Any]]:
    """Load the data set of a section; returns also all settings of it.

    Args:
        file: the config.
        name: name of the section: ``data``, ``data.extra`` or ``data.extra.0``.
        section: the section.

    Raises:
        ConfigError, PluginError, DataError: wrong settings, or a data set that does not load.
    """
    place, seed = file.place.under(*path_of(name)), file.config.seed
    paths = relative_paths_of(file, name, section)
    given = {**section.given(), **{path.name: str(path.resolved) for path in paths}}
    try:
        if section.target is None:
            dataset, settings = choose("dataset", section.chosen, place / "name").make(given, place)
        else:
            dataset, settings = file.own.make(DATA, name, given, place, {"seed": seed})
    except ConfigError as problem:
        raise extended(problem, where_looked(paths)) from problem.__cause__
    try:
        data = dataset.load(seed) if hasattr(dataset, "load") else dataset
    except InputError as problem:
        line = raising_line(problem) if section.target else ""
        raise type(problem)(f"{place}: {problem}{f' ({line})' if line else ''}{where_looked(paths)}") from problem
    except Exception as problem:
        about_settings = isinstance(problem, ValueError) and section.target is None
        text = problem if about_settings else describe_exception(problem)
        raise DataError(f"{text}{where_looked(paths)}", key=place) from problem
    if not isinstance(data, Data):
        raise DataError(f"{section.chosen} loaded a {type(data).__name__}, expected a buttress.Data", key=place)
    return data, {**settings, **{path.name: path.recorded for path in paths}}
