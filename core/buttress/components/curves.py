"""The curves among the settings of plugins, checked against the length of a run. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from buttress.components.loaded import LoadedPlugin
from buttress.components.members import attributes_of
from buttress.components.per_epoch import STRICT, curve_in
from buttress.components.place import Place
from buttress.components.plain import plain
from buttress.components.readable import readable
from buttress.components.signature import signature_of
from buttress.components.validation import problems
from buttress.epochs import Curve
from buttress.errors import ConfigError, PluginError

NO_EPOCHS = "expected one value, as evaluations have no epochs and compare under one attack"


def curves_of(plugin: Any) -> dict[str, Curve[Any]]:
    """The schedules over epochs among the attributes of a plugin, by name: its settings, as a dataclass keeps them."""
    return {name: value for name, value in attributes_of(plugin).items() if isinstance(value, Curve)}


def current_values(plugins: Sequence[LoadedPlugin], epoch: int, epochs: int | None) -> dict[str, Any]:
    """``"trades.beta"`` to its value in an epoch, of all settings that are schedules over epochs; JSON values."""
    return {
        f"{plugin.label}.{name}": recordable(curve.at(epoch, epochs))
        for plugin in plugins
        for name, curve in curves_of(plugin.plugin).items()
    }


def recordable(value: Any) -> Any:
    """``value`` as a metric: a number as such, anything else as a config writes it."""
    return float(value) if isinstance(value, Fraction) else plain(value)


def expect_no_curves(attack: Any, place: Place) -> None:
    """Refuse an evaluation attack one of whose settings changes over the epochs.

    Raises:
        PluginError: there is one, at ``place``.
    """
    for name, curve in curves_of(attack).items():
        raise PluginError(f"{NO_EPOCHS}, got {curve}", key=place / name)


def expect_curves_fit(plugins: Sequence[LoadedPlugin], epochs: int | None, place: Place | None = None) -> None:
    """Expect that the schedules of all settings fit a run of ``epochs``; None: a run whose length is not known.

    Args:
        plugins: plugins of the run, in order.
        epochs: number of epochs.
        place: place of the list of plugins, for messages.

    Raises:
        ConfigError: see ``expect_fit``, at the place of the setting.
    """
    place = place or Place("plugins")
    for position, plugin in enumerate(plugins):
        for name, curve in curves_of(plugin.plugin).items():
            with place.under(position, plugin.label.split("#")[0], name).error_context():
                expect_fit(curve, epochs, _adapter_of(plugin, name))


def expect_fit(curve: Curve[Any], epochs: int | None, adapter: TypeAdapter[Any] | None) -> None:
    """Expect that a run of ``epochs`` reaches each point, and that ``adapter`` takes the value of each epoch.

    Raises:
        ConfigError: a point after the end, two in one epoch, one at a share of a run whose length is not known, or a
            value between two points that the setting does not take.
    """
    for number, epoch in enumerate(curve.resolved(epochs), 1):
        if epochs is not None and epoch >= epochs:
            raise ConfigError(
                f"{curve.shape}, point {number}: expected an epoch of the run, 0 to {epochs - 1}, got {epoch}, which "
                "never comes; take more epochs, or an earlier point"
            )
    if adapter is None:
        return
    last = curve.resolved(epochs)[-1]
    for epoch in range(last):
        value = curve.at(epoch, epochs)
        try:
            adapter.validate_python(value)
        except ValidationError as failure:
            wrong = "; ".join(problem for _, problem in problems(failure, value))
            raise ConfigError(f"{curve.shape}, epoch {epoch}: {wrong}; take other points, or piecewise") from None


def _adapter_of(plugin: LoadedPlugin, setting: str) -> TypeAdapter[Any] | None:
    """Checks the values of a setting; None where the plugin was made by code, which may give what it likes."""
    if plugin.source is None:
        return None
    for parameter in signature_of(type(plugin.plugin)):
        if parameter.name == setting and (curve := curve_in(parameter.annotation)):
            return TypeAdapter(readable(get_args(curve)[0]), config=STRICT)
    return None
