"""Objects made of components: settings checked, the class examined, every fault with its place. Loads no torch."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from buttress.components.place import Where, in_code
from buttress.components.plain import plain
from buttress.components.plugin_class import check_class
from buttress.components.signature import settings_model
from buttress.components.sources import HOOKED, Local, Source, find, load, usable_names
from buttress.components.traits import traits_of
from buttress.components.validation import validate
from buttress.errors import InputError, PluginError


def build(
    kind: str,
    name: str,
    settings: Mapping[str, Any],
    where: Where | None = None,
    given: Mapping[str, Any] | None = None,
    named: str = "",
    local: Local | None = None,
) -> tuple[Any, Source, dict[str, Any]]:
    """The component called ``name`` with ``settings``: the object, its source, and all settings as plain values.

    Args:
        kind: a key of ``GROUPS``.
        name: as the config says.
        settings: values from the config.
        where: names the place of a setting in error messages.
        given: values that the core gives to components whose signature asks for them (``num_classes``).
        named: the place of the name in error messages, where it is not that of the settings.
        local: components that are not installed, by name: those of a ``plugins_file``.

    Raises:
        PluginError, ConfigError: unknown or broken component; unknown or wrong settings.
    """
    where = where or in_code(name)
    if local and name in local:
        component, source = local[name]
    else:
        source = find(kind, name, named or (where(()) if where(()) != name else ""), usable_names(kind, local or {}))
        component = load(source)
    if kind in HOOKED:
        check_class(component, source)
    try:
        built, resolved = construct(component, settings, where, given)
    except InputError:
        raise
    except (Exception, SystemExit) as problem:
        raise PluginError(
            f"{where(())}: {kind} {name!r} from {source} cannot be made: {type(problem).__name__}: {problem}"
        ) from problem
    if kind in HOOKED:
        check_class(built, source)
        traits_of(built, f"{kind} {name!r} from {source}")
    return built, source, resolved


def construct(
    component: Callable[..., Any], settings: Mapping[str, Any], where: Where, given: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """The object that ``component`` makes of ``settings``, and all settings as plain values; ``given`` as in ``build``.

    Raises:
        PluginError, ConfigError: unknown or wrong settings.
    """
    accepted = inspect.signature(component).parameters
    automatic = {key: value for key, value in (given or {}).items() if key in accepted and key not in settings}
    model = settings_model(component, frozenset(automatic))
    checked = validate(model, dict(settings), where)
    values = {key: getattr(checked, key) for key in model.model_fields}
    try:
        built = component(**values, **automatic)
    except ValueError as problem:
        raise PluginError(f"{where(())}: {problem}") from problem
    except InputError as problem:
        if str(problem).startswith(where(())):
            raise
        raise type(problem)(f"{where(())}: {problem}") from problem.__cause__
    return built, {key: _as_written(key, value, where) for key, value in checked.model_dump(warnings=False).items()}


def _as_written(key: str, value: Any, where: Where) -> Any:
    try:
        return plain(value)
    except ValueError as problem:
        raise PluginError(f"{where((key,))}: {problem}") from None
