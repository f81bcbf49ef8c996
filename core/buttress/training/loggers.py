"""Loggers receive the metrics of a run and cannot change it. One that fails is named and left out; the run goes on.

A logger is a plugin with the hook ``log``, and ``start_run`` and ``end_run`` where it opens and closes something. It
stands under ``loggers`` in a config, not under ``plugins``: it is no part of the method. So it has no state in the
checkpoints, its context is its own (``ctx.record`` reaches nobody), and what it raises ends its own work only.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from buttress.components.loaded import LoadedPlugin, as_loaded, hooks_of, load_plugins
from buttress.components.place import Place
from buttress.engine.engine import Engine
from buttress.engine.implementation import Implementation
from buttress.engine.perturbation import Copies
from buttress.engine.resolution import resolve
from buttress.engine.state import RunState
from buttress.engine.writers import is_own
from buttress.errors import ButtressError, PluginError
from buttress.hookspecs import LOGGER_HOOKS
from buttress.nn.as_found import AsFound


def load_loggers(entries: Sequence[str | Mapping[str, Any]], place: Place | None = None) -> tuple[LoadedPlugin, ...]:
    """Loggers by name, as a config lists them: ``["tensorboard"]``.

    Raises:
        PluginError, ConfigError: unknown or broken logger, wrong settings, a package that is not installed.
    """
    loaded = load_plugins(entries, place, kind="logger")
    for logger in loaded:
        check_logger(logger)
    return tuple(loaded)


def check_logger(logger: LoadedPlugin) -> None:
    """Refuse what is no logger.

    Raises:
        PluginError: no hook ``log``, or a hook that takes part in training.
    """
    hooks = hooks_of(logger)
    if "log" not in hooks:
        raise PluginError(f"logger {logger} does not implement log; choose a logger")
    others = sorted(hooks - set(LOGGER_HOOKS))
    if others:
        raise PluginError(
            f"logger {logger} implements {', '.join(others)}; a logger has {', '.join(LOGGER_HOOKS)} only: list what "
            "takes part in training under plugins"
        )


class Loggers:
    """The loggers of a run.

    Args:
        loggers: loaded loggers, or plugin objects.
        engine: engine whose epoch and steps their contexts show.
        folder: folder of the run.
        say: tells the user that a logger failed.
    """

    def __init__(self, loggers: Sequence[Any], engine: Engine, folder: Path, say: Callable[[str], None]) -> None:
        self._engine, self._say = engine, say
        self._state = RunState(engine.training_threat, engine.device)
        self._state.folder = folder
        table = resolve(as_loaded(loggers), self._state)
        self._calls = {hook: table[hook].providers for hook in LOGGER_HOOKS}
        self._failed: set[str] = set()
        loaded = (each for hook in LOGGER_HOOKS for each in self._calls[hook])
        self._may_write = {each.plugin.label for each in loaded if not is_own(each.function)}
        self._copies = Copies()

    def start(self) -> None:
        """Training begins, or goes on after a resume: ``ctx.global_step`` says where."""
        self._call("start_run", {"model": self._engine.model})

    def log(self, record: Mapping[str, object]) -> None:
        """One record, as it is written to ``metrics.jsonl``."""
        self._call("log", {"metrics": MappingProxyType(dict(record))})

    def close(self) -> None:
        """The run has ended or was interrupted."""
        self._call("end_run", {"model": self._engine.model})

    def _call(self, hook: str, values: dict[str, Any]) -> None:
        state, engine = self._state, self._engine
        state.epoch, state.step, state.global_step = engine.epoch, engine.epoch_step, engine.global_step
        for logger in self._calls[hook]:
            if logger.plugin.label not in self._failed:
                self._try(logger, values)

    def _try(self, logger: Implementation, values: dict[str, Any]) -> None:
        as_found, copies = AsFound(self._engine.model), self._copies
        weights = copies.weights(logger.plugin.label in self._may_write)
        values_kept = as_found.values_kept_on_error(weights, copies.buffers)
        try:
            with as_found.kept_on_error(), values_kept:
                logger.tell(values)
        except ButtressError as problem:
            self._failed.add(logger.plugin.label)
            self._say(f"a logger failed and is left out from now on; training is not touched by it: {problem}")
