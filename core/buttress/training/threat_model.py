"""The threat model of a run, as the config describes it."""

from __future__ import annotations

from buttress.config.file import ConfigFile
from buttress.errors import ConfigError
from buttress.threat import ThreatModel


def threat_of(file: ConfigFile) -> ThreatModel:
    """The threat model of a config.

    Raises:
        ConfigError: its radius or its box is refused.
    """
    section = file.config.threat
    try:
        return ThreatModel(section.norm, section.eps, section.box)
    except ConfigError as problem:
        key = problem.key
        place = str(file.source.blame(tuple(key.split(".")), ("threat", "eps"), ("threat", "box"), ("threat", "norm")))
        raise ConfigError(problem.message if place.endswith(key) else problem, key=place) from None
