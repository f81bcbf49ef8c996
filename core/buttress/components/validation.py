"""Values of a config checked by a pydantic model; every problem is one line with its place. Loads no torch."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ValidationError

from buttress.components.place import Place
from buttress.errors import all_faults, nearest

IN_UNION = ("<a mapping>", "<a list>")
"""Tags of the members of a union of sections, which stand in pydantic's locations and are no keys."""


def validate(model: type[BaseModel], values: dict[str, Any], place: Place) -> BaseModel:
    """Check ``values`` and make an instance of ``model`` of them; every problem is in one message.

    Raises:
        ConfigError: one line for each problem, with file, line, key, expected value, and the nearest known name.
    """
    try:
        return model.model_validate(values)
    except ValidationError as failure:
        raise all_faults(_problems(model, failure, place, values)) from None


def problems(failure: ValidationError, values: object) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The path in ``values`` of each wrong key, with the expected and the given value."""
    return ((path, _problem(errors)) for path, errors in _by_key(failure, values))


def _problems(
    model: type[BaseModel], failure: ValidationError, place: Place, values: object
) -> list[tuple[Place, str]]:
    unknown, others = [], []
    for path, errors in _by_key(failure, values):
        if errors[0]["type"] == "extra_forbidden":
            owner = _owner(model, path[:-1])
            unknown.append((place.under(*path), f"unknown key{nearest(str(path[-1]), owner)}"))
        else:
            others.append((place.under(*path), _problem(errors)))
    return unknown + others  # unknown keys first: a mistyped key makes the intended one missing


def _by_key(failure: ValidationError, values: object) -> Iterator[tuple[tuple[str | int, ...], list[Any]]]:
    """The errors of each key: several if the key may have one of several types."""
    errors = [(_path(error["loc"], values), error) for error in failure.errors()]
    for path, group in groupby(errors, key=lambda pair: pair[0]):
        yield path, [error for _, error in group]


def _path(location: tuple[str | int, ...], values: object) -> tuple[str | int, ...]:
    """The keys of ``location``, without the names that pydantic gives to the members of a union."""
    path: list[str | int] = []
    for part in location:
        if part in IN_UNION:
            continue
        if isinstance(values, Mapping):
            path, values = [*path, part], values.get(part)
        elif isinstance(part, int) and isinstance(values, (list, tuple)):
            path, values = [*path, part], values[part] if part < len(values) else None
    return tuple(path)


def _problem(errors: Sequence[Any]) -> str:
    if errors[0]["type"] == "missing":
        too_short = isinstance(errors[0]["loc"][-1], int)
        return f"expected more values, got {list(errors[0]['input'])}" if too_short else "required, and not given"
    messages = [error["msg"].removeprefix("Value error, ").replace("Input should be", "expected") for error in errors]
    whole = [message for message in messages if ", got " in message]
    if whole:  # the message of a setting's own check
        return str(whole[0])
    if errors[-1]["type"] == "list_type":
        return f"expected a list, got {errors[-1]['input']!r}{_as_list(errors[-1]['input'])}"
    first, *others = map(str, dict.fromkeys(messages))
    choices = " or ".join([first, *(other.removeprefix("expected ") for other in others)])
    return f"{choices}, got {errors[0]['input']!r}"


def _as_list(value: object) -> str:
    """``value`` written as a list, for messages."""
    if isinstance(value, Mapping):
        return f"; write each as an entry: [{', '.join(f'{key}: ...' for key in value)}]" if value else ""
    return "" if value is None else f"; write [{value}]"


def _owner(model: type[BaseModel], path: tuple[str | int, ...]) -> set[str]:
    """The known keys of the section that ``path`` leads to."""
    for part in path:
        field = model.model_fields.get(str(part))
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ())) if field else ()
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return {field.alias or name for name, field in model.model_fields.items()}
