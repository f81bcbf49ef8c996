"""Assemble the objects of a run from its config; everything is built and checked before anything is written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from buttress.components.curves import expect_curves_fit
from buttress.components.loaded import LoadedPlugin, load_plugins
from buttress.config.component_section import ComponentSection
from buttress.config.file import ConfigFile
from buttress.config.known_names import expect_known_names
from buttress.config.schedule import Schedule
from buttress.data import Data, Split
from buttress.data.extra_source import ExtraSource
from buttress.data.joined import JoinedSplit
from buttress.data.order import fixed_order
from buttress.data.training_set import TrainingSet
from buttress.engine.arguments import expect_accumulation
from buttress.engine.engine import Engine
from buttress.engine.world import World
from buttress.errors import ConfigError
from buttress.nn.contract import ONE_EXAMPLE, expect_learnable
from buttress.nn.loading import trains_on_one
from buttress.precision import Precision
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import Evaluator
from buttress.training.data_paths import relative_paths, weights_path
from buttress.training.dataset import DataSettings, load_data
from buttress.training.extra_examples import expect_fitting_plugins
from buttress.training.length import Length, length_of
from buttress.training.loggers import load_loggers
from buttress.training.model import build_model, place_of_model
from buttress.training.norm_momentum import NormMomentum
from buttress.training.optimizer import configured_optimizer
from buttress.training.threat_model import check_radii, threat_of
from buttress.types import Batch


@dataclass(frozen=True)
class Assembly:
    """A run, ready to start.

    Args:
        file: config of the run.
        data: data on the device.
        engine: engine with model, optimizer and plugins.
        evaluator: evaluator of the engine's model under the config's attack.
        schedule: schedule of the learning rate.
        norm_momentum: momentum of batch norm's running statistics.
        loggers: loggers of the metrics.
        training_set: examples of training, in the batches of any epoch.
        batches: number of batches in an epoch, each of which is trained ``data.replays`` times.
        length: length of the run.
        resolved: config with every default filled in.
    """

    file: ConfigFile
    data: Data
    engine: Engine
    evaluator: Evaluator
    schedule: Schedule
    norm_momentum: NormMomentum
    loggers: tuple[LoadedPlugin, ...]
    training_set: TrainingSet
    batches: int
    length: Length
    resolved: dict[str, Any]

    @property
    def evaluated_splits(self) -> dict[str, Split]:
        """Name to split, of the splits that every evaluation scores."""
        names = {"validation", "test", *(["train"] if self.file.config.evaluation.train else [])}
        return {name: split for name, split in self.data.splits().items() if name in names}

    def fixed_batches(self) -> Iterator[Batch]:
        """The real training examples in one order, the same at every call, on which batch norm is measured."""
        return _fixed_batches(self.data.train, self.file, self.batches)


def _fixed_batches(train: Split, file: ConfigFile, batches: int) -> Iterator[Batch]:
    size = file.config.data.batch_size
    return train.batches(fixed_order(len(train), file.config.seed)[: batches * size], size)


def _validation_of(data: Data, size: int) -> Callable[[], Iterator[Batch]] | None:
    """A function that makes the batches of the validation split in their order, or None where there is none."""
    split = data.validation
    return None if split is None else lambda: split.batches(torch.arange(len(split)), size)


def assemble(
    file: ConfigFile, data: Data, data_settings: DataSettings, history: Path | None, world: World | None = None
) -> Assembly:
    """Make model, plugins, optimizer and evaluator for ``data``. Two calls give equal objects that share only data.

    ``world``: processes that train the model together; None: this one alone.

    Raises:
        ConfigError, PluginError, ModelError, CheckpointError: something does not fit.
    """
    config = file.config
    training_set = _training_set(file, data)
    batches = training_set.batches_per_epoch
    length = length_of(config, batches)
    entries = [dict(entry) for entry in config.plugins]
    facts = {"num_classes": data.num_classes}
    local = file.own.components
    plugins = load_plugins(entries, file.place / "plugins", facts, local=local)
    ((attack_name, attack_settings),) = config.evaluation.attack.items()
    attack = load_attack(
        {attack_name: attack_settings}, file.place.under("evaluation", "attack", attack_name), facts, local=local
    )
    loggers = load_loggers(config.loggers, file.place / "loggers")
    schedule, schedule_settings = file.schedule(length.time)
    model, model_settings = build_model(file, data)
    with place_of_model(file).error_context():
        expect_learnable(model, f"model {type(model).__name__}")
    norm_momentum = NormMomentum(model, file)
    optimizer = configured_optimizer(file)
    _expect_accumulation(file, plugins)
    threat = threat_of(file)
    check_radii(file, length.epochs)
    expect_curves_fit(plugins, length.epochs, file.place / "plugins")
    with (file.place / "plugins").error_context():
        engine = Engine(
            model,
            optimizer.factory,
            plugins,
            threat,
            training_eps=config.threat.training_eps,
            seed=config.seed,
            epochs=length.epochs,
            steps_per_epoch=length.steps_per_epoch,
            replays=config.data.replays,
            examples=training_set.examples,
            classes=training_set.class_counts(data.num_classes),
            precision=Precision.read(config.precision),
            compile=config.compile,
            checks=None if config.checks == "auto" else config.checks,
            nonfinite=config.guards.nonfinite,
            max_skipped=config.guards.max_skipped,
            history=history,
            batches=lambda: _fixed_batches(data.train, file, batches),
            validation=_validation_of(data, config.data.batch_size),
            world=World() if world is None else world,
            batch_norm=config.model.batch_norm,
            accumulate=config.optimizer.accumulate,
        )
    expect_fitting_plugins(engine, data, file.place / "data" / "extra")
    evaluator = Evaluator(
        engine.at_work,
        attack,
        threat,
        seed=config.evaluation.seed,
        batch_size=config.evaluation.batch_size,
        world=engine.world,
    )
    resolved = _resolve_sections(
        file, data_settings, model=model_settings, optimizer=optimizer.settings, schedule=schedule_settings
    )
    resolved["plugins"] = _entries(plugins, config.plugins)
    resolved["loggers"] = _entries(loggers, config.loggers)
    resolved["evaluation"]["attack"] = _entries([attack], [config.evaluation.attack])[0]
    return Assembly(
        file, data, engine, evaluator, schedule, norm_momentum, loggers, training_set, batches, length, resolved
    )


def _training_set(file: ConfigFile, data: Data) -> TrainingSet:
    section, seed, place = file.config.data, file.config.seed, file.place / "data" / "extra"
    if section.extra is None:
        return TrainingSet(data.train, section.batch_size, section.drop_last, seed)
    splits = data.extra.parts if isinstance(data.extra, JoinedSplit) else [data.extra]
    with (place / "share" if len(section.extras) == 1 else place).error_context():
        sources = [
            ExtraSource(split, each.share, each.replacement)
            for split, each in zip(splits, section.extras.values(), strict=True)
            if split is not None
        ]
        return TrainingSet(data.train, section.batch_size, section.drop_last, seed, sources)


def _resolve_sections(file: ConfigFile, data: DataSettings, **settings: Mapping[str, Any]) -> dict[str, Any]:
    """The config as a dict, with every setting of its components. Relative paths in it work from the run folder."""
    resolved, extra = file.config.model_dump(), file.config.data.extra
    for section, values in {"data": data.get("data", {}), **settings}.items():
        resolved[section] = _component(getattr(file.config, section), values)
    extras = [_component(each, data.get(name, {})) for name, each in file.config.data.extras.items()]
    if extra is not None:
        resolved["data"]["extra"] = extras if isinstance(extra, list) else extras[0]
    if file.targets():
        resolved["modules"] = str(file.modules)
    _record_paths(file, resolved)
    return resolved


def _record_paths(file: ConfigFile, resolved: dict[str, Any]) -> None:
    """Record relative paths so that they hold in the config of the run, which lies elsewhere."""
    weights = weights_path(file)
    if weights is not None:
        given = resolved["model"]["weights"]
        resolved["model"]["weights"] = (
            {**given, "file": weights.recorded} if isinstance(given, dict) else weights.recorded
        )
    if any(path.is_in(file.folder) for path in [*relative_paths(file), *([weights] if weights else [])]):
        resolved["folder"] = str(file.folder)


def _component(section: ComponentSection, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A section with all settings: beside the name, or in the args of a target."""
    values = section.model_dump(include=set(type(section).model_fields))
    own = {key: value for key, value in values.items() if value not in (None, {})}
    return own | ({"args": dict(settings)} if "target" in own and settings else dict(settings))


def _entries(plugins: Sequence[LoadedPlugin], entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries of a config with all settings of the plugins, under the names in the config."""
    return [{next(iter(entry)): dict(plugin.settings)} for entry, plugin in zip(entries, plugins, strict=True)]


@contextmanager
def scratch_assembly(file: ConfigFile) -> Iterator[Assembly]:
    """Build everything that a run of ``file`` would build, for a block at whose end all that it has written goes.

    Raises:
        TrustError: that would execute code that the user has not trusted.
        InputError: anything that would stop the run before step 1.
    """
    file.own.expect_trusted()
    expect_known_names(file)
    file.check_schedule()
    check_radii(file, file.config.epochs)
    data, settings = load_data(file)
    with tempfile.TemporaryDirectory() as scratch:
        assembly = assemble(file, data, settings, Path(scratch))
        assembly.engine.tracks()  # starts it; names of tracks are settings too
        check_last_batch(assembly)
        yield assembly


def check_config(file: ConfigFile) -> Assembly:
    """Build everything that a run of ``file`` would build, and write nothing that stays.

    Raises:
        InputError: see ``scratch_assembly``.
    """
    with scratch_assembly(file) as assembly:
        return assembly


def _expect_accumulation(file: ConfigFile, plugins: Sequence[LoadedPlugin]) -> None:
    """Expect that steps can be made in the parts that a config asks for."""
    parts, size, place = file.config.optimizer.accumulate, file.config.data.batch_size, file.place / "optimizer"
    with (place / "accumulate").error_context():
        expect_accumulation(parts, file.config.compile, file.config.model.batch_norm, plugins)
        if parts > size:
            raise ConfigError(f"expected at most as many parts as a batch has examples, {size}, got {parts}")


def check_last_batch(assembly: Assembly) -> None:
    """Check that the model takes a batch, or a part of one, of one example; ``assembly`` is started for it.

    Raises:
        ConfigError: it does not.
    """
    section, train, engine = assembly.file.config.data, assembly.data.train, assembly.engine
    parts = assembly.file.config.optimizer.accumulate
    left = 0 if section.drop_last or section.extra else len(train) % section.batch_size
    if all(_smallest_part(size, parts) != 1 for size in (section.batch_size, left)):
        return
    engine.start()  # plugins may put batch norm into eval mode
    (batch,) = train.batches(torch.arange(1), 1)
    if not trains_on_one(engine.model, batch.x):
        place = assembly.file.place / "data" / "batch_size"
        whole = f"{section.batch_size} of {len(train)} training examples"
        cut = f" or, in {parts} parts of a step," if parts > 1 else ""
        raise ConfigError(f"{whole} leave{cut} {ONE_EXAMPLE}", key=place)


def _smallest_part(size: int, parts: int) -> int:
    """Number of rows in the smallest part of a batch; one that has fewer rows than there are parts is a whole."""
    return size if size < parts else size // parts
