"""Build the model of a config, try it on two examples, and load the weights that it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from buttress.components.construct import choose
from buttress.components.place import Place
from buttress.config.file import ConfigFile
from buttress.config.model_section import WeightsSection
from buttress.config.targets import MODEL
from buttress.data import Data
from buttress.errors import CheckpointError, ModelError, extended
from buttress.nn.loading import check_logits, load_weights
from buttress.nn.preparation import prepared
from buttress.precision import WORKS, Work
from buttress.storage.user_path import user_path
from buttress.training.data_paths import weights_path, where_looked
from buttress.training.device import configured_device, dtype_of, memory_format_of
from buttress.training.normalizing import normalize, read_old_keys
from buttress.training.trial import expect_works


def build_model(
    file: ConfigFile,
    data: Data,
    weights: Path | None = None,
    key: str | None = None,
    works: Sequence[Work] = WORKS,
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the model of a config on its device; returns also all settings of the model.

    Args:
        file: the config.
        data: data of which two examples are tried.
        weights: file of weights to load, in place of the one that the config may name.
        key: key of the weights in a file that holds several sets.
        works: kinds of work that the model will do.

    Raises:
        ConfigError, PluginError, ModelError, CheckpointError: it cannot be built, or the weights are not its own.
        DataError: the two examples cannot be read.
    """
    section, place = file.config.model, file.place / "model"
    shape = data.train.example_shape
    facts: dict[str, Any] = {"num_classes": data.num_classes, "in_channels": shape[0], "in_features": prod(shape)}
    settings: dict[str, Any] = {}
    normalization = section.normalize
    with (file.place / "data").error_context():
        first = next(iter(data.train.batches(torch.arange(min(2, len(data.train))), 2)))
    chosen = place_of_model(file)
    with torch.random.fork_rng():  # initial weights follow the seed and move nobody's generator
        if section.target is not None:  # a module may draw while it is imported, once a process
            file.own.imported("model", chosen)
        torch.manual_seed(file.config.seed)
        if section.target is not None:
            model, settings = file.own.make(MODEL, "model", section.args, place, facts)
        else:
            component = choose("model", section.chosen, place / "name")
            given, old = read_old_keys(section.settings(), component.factory, place)
            normalization = normalization or old
            model, settings = component.make(given, place, facts)
            settings |= {"normalize": old.model_dump()} if old else {}
        if not isinstance(model, nn.Module):
            raise ModelError(f"{chosen}: expected an nn.Module, got {type(model).__name__}")
        model = normalize(model, normalization, shape, place / "normalize")
        with chosen.error_context():
            model = prepared(model, first.x, configured_device(file), memory_format_of(file), dtype_of(file))
    if weights is not None:
        load_weights(model, weights, key=key)
    elif section.weights is not None:
        _start_from(model, file, section.weights)
    expect_works(model, first.x, file, works)
    with chosen.error_context():
        check_logits(model, first.x, data.num_classes)
    return model, settings


def place_of_model(file: ConfigFile) -> Place:
    return file.place / "model" / ("target" if file.config.model.target else "name")


def _start_from(model: nn.Module, file: ConfigFile, given: WeightsSection) -> None:
    relative = weights_path(file)
    path = user_path(given.file) if relative is None else relative.shortest
    with (file.place / "model" / "weights").error_context():
        try:
            load_weights(model, path, key=given.key, fresh=given.fresh)
        except CheckpointError as problem:
            looked = "" if relative is None or len(relative.folders) == 1 else where_looked([relative])
            raise extended(problem, looked) from None
