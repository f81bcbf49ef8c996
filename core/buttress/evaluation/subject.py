"""The subject of an evaluation: weights in the model that they were trained in, with data and a threat model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from buttress.config.file import ConfigFile, load_config
from buttress.config.overrides import apply_override
from buttress.config.yaml_source import YamlSource
from buttress.data import Data, Split
from buttress.engine.attacking import ModelAtWork
from buttress.errors import CheckpointError, ConfigError
from buttress.precision import FULL, Precision
from buttress.storage.reading import file_sha256, read_facts
from buttress.storage.seals import after_epoch
from buttress.storage.user_path import user_path
from buttress.storage.weights_file import SUFFIXES, holds_weights, is_safetensors
from buttress.threat import ThreatModel
from buttress.training.dataset import load_data
from buttress.training.existing import existing_folder
from buttress.training.model import build_model
from buttress.training.same_data import expect_same_data
from buttress.training.threat_model import threat_of

# The keys that a config needs besides model, data and threat, for weights without a config; none of them is used.
_FREE_STANDING = {
    "name": "weights",
    "plugins": ["clean"],
    "optimizer": {"lr": 0.1},
    "epochs": 1,
    "evaluation": {"best_by": "test"},
}


@dataclass(frozen=True)
class ModelUnderAttack:
    """A model with its data, ready to be attacked.

    Args:
        model: with the weights loaded, on the device of the config.
        data: checked against the threat model, on the same device.
        threat: the threat model.
        file: the config, overrides applied.
        weights: the file that the weights came from.
        home: the run folder, or the folder of the weights.
        track: name of the track, or None for a file of weights.
        checkpoint: ``best`` or ``last``, or None for a file of weights.
    """

    model: nn.Module
    data: Data
    threat: ThreatModel
    file: ConfigFile
    weights: Path
    home: Path
    track: str | None
    checkpoint: str | None

    @cached_property
    def at_work(self) -> ModelAtWork:
        """The model, in the precision that the config has for ``score``."""
        config = self.file.config
        precision = Precision.scoring(Precision.read(config.precision).score)
        return ModelAtWork(self.model, precision, compile=config.compile, who="evaluation")

    def __str__(self) -> str:
        if self.checkpoint is None:
            return f"weights {self.weights}"
        epoch = self.epoch
        return f"{self.track} weights, {self.checkpoint}" + ("" if epoch is None else f" (epoch {epoch})")

    @property
    def epoch(self) -> int | None:
        """The epoch (from 1) after which the weights were saved, where their file says so."""
        if not is_safetensors(self.weights):
            return None
        facts = read_facts(self.weights)
        return after_epoch(facts) if "epoch" in facts else None

    @cached_property
    def facts(self) -> dict[str, Any]:
        """JSON-able facts that identify a number about this subject: equal facts mean the same weights and data."""
        config = self.file.config
        return {
            "weights_sha256": file_sha256(self.weights),
            "track": self.track,
            "checkpoint": self.checkpoint,
            "epoch": self.epoch,
            "threat": str(self.threat),
            "precision": self.at_work.precision.score,
            "model": config.model.model_dump(mode="json"),
            "data": config.data.model_dump(mode="json", exclude={"batch_size"}),
        }

    def split(self, name: str) -> Split:
        """A split of the data by name.

        Raises:
            ConfigError: the data set has none of that name.
        """
        splits = self.data.splits()
        if name not in splits:
            raise ConfigError(f"the data set has no {name} split; choose one of {', '.join(splits)}", key=self.home)
        return splits[name]


def load_subject(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    config: Path | None = None,
    track: str | None = None,
    checkpoint: str | None = None,
    key: str | None = None,
    trust: bool = False,
) -> ModelUnderAttack:
    """Load the weights of a run, or a file of weights, in their model.

    Args:
        path: run folder, or a file of safetensors or of ``torch.save`` (read by torch's restricted loader).
        overrides: ``key=value`` on the config; for a file they may stand for all of it.
        config: the config that a file of weights belongs to.
        track: track of a run: ``live`` (the default) or the name of an ensemble.
        checkpoint: checkpoint of a run: ``best`` (the default), ``last``, or a file of weights.
        key: key of the weights in a file that holds several sets.
        trust: whether to execute the code that came with a run, and remember it as trusted.

    Raises:
        TrustError: code came with the run that the user has not trusted.
        RunFolderError, CheckpointError, ModelError, ConfigError, DataError: a part is missing, or the parts do not fit
            together.
    """
    if path.is_file() and not holds_weights(path):
        raise CheckpointError(
            f"{path} is neither a run folder nor a file of weights: expected safetensors, or a file of torch.save",
            path=path,
        )
    if path.is_file() or (path.suffix.lower() in SUFFIXES and not path.is_dir()):
        if track is not None or checkpoint is not None:
            raise ConfigError(f"{path} is a file of weights: --track and --checkpoint choose among those of a run")
        file = _config_of_file(path, config, overrides, trust)
        _expect_effect(file, overrides)
        return _subject(file, path, path.parent, key=key)
    folder = existing_folder(path)
    if config is not None:
        raise ConfigError(f"{path} is a run folder and has a config: give changes as key=value, without --config")
    file = load_config(folder.config, overrides, trust=trust)
    _expect_effect(file, overrides)
    if checkpoint in (None, "best", "last"):
        track, checkpoint = track or "live", checkpoint or "best"
        if key is not None:
            raise ConfigError(
                f"the {checkpoint} weights of a run are one set; --key chooses in a FILE", key=f"--key {key}"
            )
        subject = _subject(file, folder.saved_weights(checkpoint, track), path, track, checkpoint)
    elif track is None:
        subject = _subject(file, user_path(checkpoint), path, key=key)
    else:
        raise ConfigError(f"{checkpoint} is one file of weights, and has no tracks", key=f"--track {track}")
    if _data_settings(file) == _data_settings(load_config(folder.config)):  # else the user has chosen other data
        expect_same_data(folder, subject.data.fingerprint)
    return subject


_OF_TRAINING = ("precision", "precision.attack", "precision.train")
"""Keys of overrides that may leave the precision of the score as it was."""


def _expect_effect(file: ConfigFile, overrides: Sequence[str]) -> None:
    """Refuse a precision that leaves the score, which is all that an evaluation has, as it was.

    Raises:
        ConfigError: ``precision=bf16``.
    """
    precision = Precision.read(file.config.precision)
    given = [override for override in overrides if override.partition("=")[0].strip() in _OF_TRAINING]
    if given and precision.score == FULL and precision != Precision():
        word = next(each for each in precision.words.values() if each != FULL)
        raise ConfigError(
            "it changes attacks and losses of training, and leaves evaluations in float32; give "
            f"precision={{score: {word}}}",
            key=f"override {given[-1]!r}",
        )


def _data_settings(file: ConfigFile) -> tuple[object, int]:
    """The settings on which the examples depend."""
    return file.config.data.model_dump(exclude={"batch_size", "drop_last"}), file.config.seed


def _subject(
    file: ConfigFile,
    weights: Path,
    home: Path,
    track: str | None = None,
    checkpoint: str | None = None,
    key: str | None = None,
) -> ModelUnderAttack:
    if not weights.is_file():
        raise CheckpointError(f"{weights} does not exist; expected best, last, or a file of weights", path=weights)
    data, _ = load_data(file)
    model, _ = build_model(file, data, weights, key, ("score",))
    return ModelUnderAttack(model, data, threat_of(file), file, weights, home, track, checkpoint)


def _config_of_file(path: Path, config: Path | None, overrides: Sequence[str], trust: bool) -> ConfigFile:
    if config is not None:
        return load_config(config, overrides, trust=trust)
    source = YamlSource({**_FREE_STANDING, "modules": str(Path.cwd())}, str(path), {})
    for override in overrides:
        source = apply_override(source, override)
    missing = [key for key in ("model", "data", "threat") if key not in source.value]
    if missing:
        raise ConfigError(
            f"which {', '.join(missing)} the weights belong to is not known; give --config CONFIG, or "
            "model.name=... data.name=... threat.norm=... threat.eps=...",
            key=path,
        )
    return ConfigFile(source)
