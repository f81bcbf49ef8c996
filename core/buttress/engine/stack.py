"""Complete a stack of plugins by the default loss; save and load the states of its plugins by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from buttress.components.loaded import LoadedPlugin, as_loaded, load_plugins, provides
from buttress.errors import ButtressError, CheckpointError, HookError, describe, kind_and_text, raising_line

logger = logging.getLogger("buttress")


def stack_of(plugins: Sequence[Any]) -> tuple[LoadedPlugin, ...]:
    """``plugins`` as ``as_loaded`` takes them; where none provides the loss, the core's default is added.

    Raises:
        PluginError, ConfigError: see ``as_loaded``.
    """
    loaded = tuple(as_loaded(plugins))
    if any(provides(plugin, "compute_loss") for plugin in loaded):
        return loaded
    logger.info("no plugin provides compute_loss: the loss is cross_entropy")
    return (*loaded, *load_plugins(["cross_entropy"]))  # found like any plugin


def states_of(plugins: Sequence[LoadedPlugin]) -> dict[str, Mapping[str, Any]]:
    """The states of the plugins that keep one, by label.

    Raises:
        HookError: a plugin's ``state_dict`` raises.
    """
    states = {}
    for loaded in plugins:
        if loaded.traits.state_dict is None:
            continue
        try:
            states[loaded.label] = loaded.traits.state_dict()
        except ButtressError:
            raise
        except Exception as problem:
            raise HookError(
                f"plugin {loaded.label!r}: its state_dict raised {kind_and_text(problem)}",
                plugin=loaded.label,
                hook="state_dict",
                place=raising_line(problem, loaded.plugin),
            ) from problem
    return states


def load_states(plugins: Sequence[LoadedPlugin], states: Mapping[str, Any]) -> None:
    """Give each plugin that keeps a state the state saved under its label.

    Raises:
        CheckpointError: the states belong to another stack, or a plugin cannot take its own.
    """
    stateful = {loaded.label: loaded for loaded in plugins if loaded.traits.load_state_dict}
    if set(stateful) != set(states):
        raise CheckpointError(
            f"the checkpoint holds the state of plugins {sorted(states)}, this run has {sorted(stateful)}; resume with "
            "the config that the run was started with"
        )
    for label, loaded in stateful.items():
        load = loaded.traits.load_state_dict
        assert load is not None
        try:
            load(states[label])
        except ButtressError:
            raise
        except Exception as problem:
            raise CheckpointError(
                f"plugin {label!r} cannot take the checkpoint's state: {describe(problem, loaded.plugin)}; resume "
                "with the version of the plugin that the manifest names"
            ) from problem
