"""The threat models of a run, as the config describes them."""

from __future__ import annotations

from buttress.config.file import ConfigFile
from buttress.engine.training_threat import TrainingThreat
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


def check_radii(file: ConfigFile, epochs: int | None) -> None:
    """Check the radius of evaluations and, for a run of so many ``epochs``, those of training.

    Args:
        file: the config.
        epochs: number of epochs, or None where it is not known before the data are loaded.

    Raises:
        ConfigError: a radius is refused, or the schedule of them does not fit the run.
    """
    threat = threat_of(file)
    if epochs is not None:
        TrainingThreat(threat, file.config.threat.training_eps, epochs, file.place.under("threat", "training_eps"))
