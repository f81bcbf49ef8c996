"""From a config to the objects of a run: everything is built and checked here, before anything is written."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from buttress.components.arguments import read_arguments
from buttress.components.construct import choose
from buttress.components.loaded import LoadedPlugin, load_plugins
from buttress.components.own_modules import describe_exception
from buttress.components.place import Place
from buttress.components.requirements import check_requirements
from buttress.config.file import ConfigFile
from buttress.config.schedule import Schedule
from buttress.config.schema import ComponentSection, WeightsSection
from buttress.config.targets import DATA, MODEL
from buttress.data import Data, Split, check_data
from buttress.data.order import fixed_order, steps_per_epoch
from buttress.engine.engine import Engine
from buttress.errors import CheckpointError, ConfigError, DataError, InputError, ModelError, nearest, raising_line
from buttress.nn.contract import ONE_EXAMPLE, expect_learnable
from buttress.nn.loading import check_logits, load_weights, trains_on_one
from buttress.nn.preparation import prepared
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import Evaluator
from buttress.storage.user_path import user_path
from buttress.threat import ThreatModel
from buttress.training.data_paths import relative_paths, weights_path, where_looked
from buttress.training.loggers import load_loggers
from buttress.training.normalizing import normalize, read_old_keys
from buttress.types import Batch


@dataclass(frozen=True)
class Assembly:
    """A run, ready to start.

    Args:
        file: the config that it was made from.
        data: splits on the device.
        engine: with model, optimizer and plugins.
        evaluator: scores the engine's model with the config's attack.
        schedule: of the learning rate.
        loggers: are told the metrics.
        steps: an epoch's number of steps.
        resolved: the config with every default filled in.
    """

    file: ConfigFile
    data: Data
    engine: Engine
    evaluator: Evaluator
    schedule: Schedule
    loggers: tuple[LoadedPlugin, ...]
    steps: int
    resolved: dict[str, Any]

    def fixed_batches(self) -> Iterator[Batch]:
        """The training set in one order, the same at every call: what batch norm is measured on."""
        return _fixed_batches(self.data.train, self.file, self.steps)


def _fixed_batches(train: Split, file: ConfigFile, steps: int) -> Iterator[Batch]:
    size = file.config.data.batch_size
    return train.batches(fixed_order(len(train), file.config.seed)[: steps * size], size)


def load_data(file: ConfigFile) -> tuple[Data, dict[str, Any]]:
    """The config's data, checked, on its device; and all settings of the data set.

    Raises:
        ConfigError, PluginError, DataError: wrong settings, or data that break the threat model.
    """
    check_requirements(file.config.requires, file.place / "requires")
    data, settings = _loaded(file)
    _check(file, data)
    if data.validation is None and file.config.evaluation.best_by == "validation":
        place = file.source.blame(("evaluation", "best_by"), ("data", "validation"), ("data", "name"))
        raise ConfigError(
            f"{place}: the data set has no validation split to choose the best epoch "
            "on; set data.validation, or evaluation.best_by: test (the papers' protocol, biased upward)"
        )
    device, layout = device_of(file), memory_format_of(file)
    shape = data.train.example_shape
    if layout == torch.channels_last and len(shape) != 3:
        raise ConfigError(
            f"{file.place / 'model' / 'memory_format'}: channels_last is a layout of images [C,H,W], and these "
            f"examples have shape {list(shape)}; use contiguous"
        )
    moved = {name: split.to(device, layout) for name, split in data.splits().items()}
    return replace(data, train=moved["train"], test=moved["test"], validation=moved.get("validation")), settings


def _check(file: ConfigFile, data: Data) -> None:
    """As ``check_data``; what the methods of a split of one's own raise is one message too."""
    threat = threat_of(file)
    try:
        check_data(data, threat)
    except InputError:
        raise
    except Exception as problem:
        raise DataError(f"{file.place / 'data'}: {file.config.data.chosen}: {describe_exception(problem)}") from problem


def _loaded(file: ConfigFile) -> tuple[Data, dict[str, Any]]:
    section, place, seed = file.config.data, file.place / "data", file.config.seed
    paths = relative_paths(file)
    given = {**section.given(), **{path.name: str(path.found) for path in paths}}
    if section.target is None:
        dataset, settings = choose("dataset", section.chosen, place / "name").make(given, place)
    else:
        dataset, settings = file.own.make(DATA, "data", given, place, {"seed": seed})
    try:
        data = dataset.load(seed) if hasattr(dataset, "load") else dataset
    except InputError as problem:
        line = raising_line(problem) if section.target else ""
        text = f"{problem} ({line})" if line else problem
        raise type(problem)(f"{place}: {text}{where_looked(paths)}") from problem
    except Exception as problem:
        known = isinstance(problem, ValueError) and section.target is None  # a data set's own words about its settings
        raise DataError(
            f"{place}: {problem if known else describe_exception(problem)}{where_looked(paths)}"
        ) from problem
    if not isinstance(data, Data):
        raise DataError(f"{place}: {section.chosen} loaded a {type(data).__name__}, expected a buttress.Data")
    return data, {**settings, **{path.name: path.recorded for path in paths}}


def assemble(file: ConfigFile, data: Data, data_settings: dict[str, Any], history: Path | None) -> Assembly:
    """Model, plugins, optimizer and evaluator for ``data``. Two calls give equal objects that share nothing but data.

    Raises:
        ConfigError, PluginError, ModelError, CheckpointError: something does not fit.
    """
    config = file.config
    steps = steps_per_epoch(data.train, config.data.batch_size, config.data.drop_last)
    entries = [dict(entry) for entry in config.plugins]
    facts = {"num_classes": data.num_classes}
    local = file.own.plugins
    plugins = load_plugins(entries, file.place / "plugins", facts, local=local)
    ((attack_name, attack_settings),) = config.evaluation.attack.items()
    attack = load_attack(
        {attack_name: attack_settings}, file.place.under("evaluation", "attack", attack_name), facts, local=local
    )
    loggers = load_loggers(config.loggers, file.place / "loggers")
    schedule, schedule_settings = file.schedule()
    model, model_settings = build_model(file, data)
    with _place_of_model(file).error_context():
        expect_learnable(model, f"model {type(model).__name__}")
    factory, optimizer_settings = _optimizer(file)
    with (file.place / "plugins").error_context():
        engine = Engine(
            model,
            factory,
            plugins,
            threat_of(file),
            seed=config.seed,
            epochs=config.epochs,
            steps_per_epoch=steps,
            checks=None if config.checks == "auto" else config.checks,
            nonfinite=config.guards.nonfinite,
            max_skipped=config.guards.max_skipped,
            history=history,
            batches=lambda: _fixed_batches(data.train, file, steps),
        )
    evaluator = Evaluator(
        model, attack, engine.threat, seed=config.evaluation.seed, batch_size=config.evaluation.batch_size
    )
    resolved = config.model_dump()
    for section, settings in (("data", data_settings), ("model", model_settings), ("schedule", schedule_settings)):
        resolved[section] = _component(getattr(config, section), settings)
    if file.targets():
        resolved["modules"] = str(file.modules)  # a run's config lies elsewhere
    _record_paths(file, resolved)
    resolved["plugins"] = _entries(plugins, [next(iter(entry)) for entry in config.plugins])
    resolved["loggers"] = _entries(loggers, [next(iter(entry)) for entry in config.loggers])
    resolved["optimizer"] |= optimizer_settings
    resolved["evaluation"]["attack"] = _entries([attack], [attack_name])[0]
    return Assembly(file, data, engine, evaluator, schedule, loggers, steps, resolved)


def _record_paths(file: ConfigFile, resolved: dict[str, Any]) -> None:
    """Keep relative paths of a config right in that of the run, which lies elsewhere."""
    weights = weights_path(file)
    if weights is not None:
        given = resolved["model"]["weights"]
        resolved["model"]["weights"] = (
            {**given, "file": weights.recorded} if isinstance(given, dict) else weights.recorded
        )
    if any(path.is_in(file.folder) for path in [*relative_paths(file), *([weights] if weights else [])]):
        resolved["folder"] = str(file.folder)


def threat_of(file: ConfigFile) -> ThreatModel:
    section = file.config.threat
    try:
        return ThreatModel(section.norm, section.eps, section.box)
    except ConfigError as problem:
        key, _, said = str(problem).partition(": ")  # threat.eps or threat.box
        place = str(file.source.blame(tuple(key.split(".")), ("threat", "eps"), ("threat", "box"), ("threat", "norm")))
        raise ConfigError(f"{place}: {said if place.endswith(key) else problem}") from None


def device_of(file: ConfigFile) -> torch.device:
    """The device of the config; ``auto`` is CUDA where there is one.

    Raises:
        ConfigError: no such device.
    """
    name = file.config.device
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{file.place / 'device'}: expected auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"{file.place / 'device'}: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"{file.place / 'device'}: {name} asked for, but torch sees {torch.cuda.device_count()} CUDA devices; "
            "use device: cpu or auto"
        )
    return device


def memory_format_of(file: ConfigFile) -> torch.memory_format:
    return torch.channels_last if file.config.model.memory_format == "channels_last" else torch.contiguous_format


def build_model(
    file: ConfigFile, data: Data, weights: Path | None = None, key: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """The config's model on its device, tried on two examples of ``data``; and all settings of the model.

    ``weights`` is the file to load, in the place of the one that the config may name; ``key`` as in ``load_weights``.

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
    chosen = _place_of_model(file)
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
            model = prepared(model, first.x, device_of(file), memory_format_of(file))
    if weights is not None:
        load_weights(model, weights, key=key)
    elif section.weights is not None:
        _start_from(model, file, section.weights)
    with chosen.error_context():
        check_logits(model, first.x, data.num_classes)
    return model, settings


def _place_of_model(file: ConfigFile) -> Place:
    return file.place / "model" / ("target" if file.config.model.target else "name")


def _start_from(model: nn.Module, file: ConfigFile, given: WeightsSection) -> None:
    relative = weights_path(file)
    path = user_path(given.file) if relative is None else relative.shortest
    with (file.place / "model" / "weights").error_context():
        try:
            load_weights(model, path, key=given.key, fresh=given.fresh)
        except CheckpointError as problem:
            looked = "" if relative is None or len(relative.folders) == 1 else where_looked([relative])
            raise CheckpointError(f"{problem}{looked}") from None


def _optimizer(file: ConfigFile) -> tuple[Callable[[list[dict[str, Any]]], Optimizer], dict[str, Any]]:
    section, place = file.config.optimizer, file.place / "optimizer"
    known = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, Optimizer) and kind is not Optimizer and name != "LBFGS"
    }
    kind = known.get(section.name.lower())
    if kind is None:
        raise ConfigError(f"{place / 'name'}: unknown optimizer {section.name!r}{nearest(section.name, known)}")
    settings = {"lr": section.lr, **read_arguments(kind, section.settings(), place, taken=("params", "lr"))}

    def factory(groups: list[dict[str, Any]]) -> Optimizer:
        return kind(groups, **settings)

    try:
        weight = nn.Parameter(torch.zeros(1, device=device_of(file)))
        weight.grad = torch.zeros_like(weight)
        factory([{"params": [weight]}]).step()
    except Exception as problem:  # optimizers refuse settings by many kinds, AssertionError among them
        said = str(problem).splitlines() or [type(problem).__name__]
        raise ConfigError(f"{place}: {kind.__name__}: {said[0]}") from None
    return factory, settings


def _component(section: ComponentSection, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A section with all settings: beside the name, or in the args of a target."""
    keys = section.model_dump(include=set(type(section).model_fields))
    given = {key: value for key, value in keys.items() if value not in (None, {})}
    return given | ({"args": dict(settings)} if "target" in given and settings else dict(settings))


def _entries(plugins: Sequence[LoadedPlugin], names: list[str]) -> list[dict[str, Any]]:
    """Entries of a config with all settings, under the names by which the config chose them."""
    return [{name: dict(plugin.settings)} for name, plugin in zip(names, plugins, strict=True)]


def check_config(file: ConfigFile) -> Assembly:
    """Build everything that a run of ``file`` would build, and write nothing that stays.

    Raises:
        TrustError: that would execute code that the user has not trusted.
        InputError: anything that would stop the run before step 1.
    """
    file.own.expect_trusted()
    data, settings = load_data(file)
    with tempfile.TemporaryDirectory() as scratch:
        assembly = assemble(file, data, settings, Path(scratch))
        assembly.engine.tracks()  # starts it; names of tracks are settings too
        check_last_batch(assembly)
    return assembly


def check_last_batch(assembly: Assembly) -> None:
    """The model can take the last batch of an epoch, where that has one example; ``assembly`` is started for it.

    Raises:
        ConfigError: it cannot.
    """
    section, train, engine = assembly.file.config.data, assembly.data.train, assembly.engine
    if section.drop_last or (len(train) - 1) % section.batch_size:
        return
    engine.start()  # plugins may put batch norm into eval mode
    (batch,) = train.batches(torch.arange(1), 1)
    if not trains_on_one(engine.model, batch.x):
        place = assembly.file.place / "data" / "batch_size"
        raise ConfigError(f"{place}: {section.batch_size} of {len(train)} training examples leave {ONE_EXAMPLE}")
