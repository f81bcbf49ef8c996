"""Refuse plugins that do not fit the extra examples of a config, before step 1."""

from __future__ import annotations

from collections.abc import Iterator

from buttress.components.loaded import LoadedPlugin
from buttress.components.place import Place
from buttress.data import Data
from buttress.data.joined import has_unlabelled
from buttress.engine.engine import Engine
from buttress.errors import PluginError

_EXTRA, _UNLABELLED = "extra examples", "unlabelled examples"


def expect_fitting_plugins(engine: Engine, data: Data, place: Place) -> None:
    """Compare the properties that the data give to batches with those that plugins refuse, need and take.

    Args:
        engine: engine with the plugins of a run.
        data: data of the run.
        place: place of ``data.extra`` in the config.

    Raises:
        PluginError: names the plugin, and what to do.
    """
    given = given_by(data)
    for plugin in engine.plugins:
        for word in given & plugin.traits.refuses.keys():
            raise PluginError(f"plugin {plugin} refuses {word}: {plugin.traits.refuses[word]}", key=place)
        missing = plugin.traits.needs.keys() - given - {w for other in engine.plugins for w in other.traits.gives}
        for word in sorted(missing):
            cure = "; set data.extra: {file: FILE, share: 1/2}" if word == _EXTRA else ""
            raise PluginError(f"plugin {plugin} needs {word}: {plugin.traits.needs[word]}{cure}")
    if _UNLABELLED in given:
        for plugin in _readers_of_labels(engine):
            if _UNLABELLED not in plugin.traits.takes:
                raise PluginError(
                    f"it holds examples without a label, which plugin {plugin} with its settings cannot take; label "
                    "them by a trained run first (buttress pseudo-label RUN --data DATA --output FILE.npz), or choose "
                    "the plugins of docs/methods/rst.md",
                    key=place,
                )


def given_by(data: Data) -> set[str]:
    """The properties that the data give to batches."""
    if data.extra is None:
        return set()
    return {_EXTRA, _UNLABELLED} if has_unlabelled(data.extra) else {_EXTRA}


def _readers_of_labels(engine: Engine) -> Iterator[LoadedPlugin]:
    """The plugins that compute losses, attack, or mix examples with one another."""
    order = engine.hooks.order()
    labels = {*order.get("compute_loss", []), *order.get("generate_adv", [])}
    return (each for each in engine.plugins if each.label in labels or "mixed inputs" in each.traits.gives)
