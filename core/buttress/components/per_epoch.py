"""Settings that may change over the epochs: their curves read, written and checked. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema

from buttress.components.validation import problems
from buttress.epochs import Curve, CurveShape

_NULL = {"type": "null"}
STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
SHAPES = get_args(CurveShape)
TITLE = "schedule over epochs"
"""Title of curves in a JSON schema."""


def curve_in(annotation: Any) -> Any:
    """The ``Curve[T]`` that a type such as ``PerEpoch[T] | None`` has as a member; None for other types."""
    if get_origin(annotation) is Annotated:
        return curve_in(bounds_inside(annotation)) if curve_in(get_args(annotation)[0]) else None
    return next((part for part in get_args(annotation) if get_origin(part) is Curve), None)


def bounds_inside(annotation: Any) -> Any:
    """``Annotated[PerEpoch[T], Ge(0)]`` as ``PerEpoch[Annotated[T, Ge(0)]]``: the values have bounds, not the curve."""
    union, *bounds = get_args(annotation)

    def bounded(part: Any) -> Any:
        if get_origin(part) is Curve:
            return Curve[bounded(get_args(part)[0])]  # type: ignore[misc]
        return part if part is NoneType else Annotated[(part, *bounds)]

    return Union[tuple(map(bounded, get_args(union)))]  # noqa: UP007


@dataclass(frozen=True)
class CurveReader:
    """Part of a type ``Annotated[PerEpoch[T] | None, CurveReader(T)]``, which reads and writes its curves.

    Args:
        value: type of the values, which reads what a config may write.
    """

    value: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        others = tuple(part for part in get_args(source) if get_origin(part) is not Curve)
        plain, adapter = handler.generate_schema(Union[others]), TypeAdapter(self.value, config=STRICT)  # noqa: UP007

        def read(given: object, read_plain: core_schema.ValidatorFunctionWrapHandler) -> object:
            return read_curve(given, adapter) if isinstance(given, (Mapping, Curve)) else read_plain(given)

        def write(value: object, write_plain: core_schema.SerializerFunctionWrapHandler) -> object:
            return written(value, adapter) if isinstance(value, Curve) else write_plain(value)

        writer = core_schema.wrap_serializer_function_ser_schema(write, schema=plain)
        return core_schema.no_info_wrap_validator_function(read, plain, serialization=writer)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        plain = handler(schema)
        plains = plain.get("anyOf", [plain])
        values = [each for each in plains if each != _NULL]
        point = {
            "type": "array",
            "prefixItems": [{"type": "number", "minimum": 0}, values[0] if len(values) == 1 else {"anyOf": values}],
            "minItems": 2,
            "maxItems": 2,
        }
        points = {"type": "array", "items": point, "minItems": 1}
        curve = {
            "title": TITLE,
            "type": "object",
            "properties": dict.fromkeys(SHAPES, points),
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        }
        return {"anyOf": [*values, curve, *(each for each in plains if each == _NULL)]}


def read_curve(given: Mapping[str, Any] | Curve[Any], adapter: TypeAdapter[Any]) -> Curve[Any]:
    """The curve that a config writes as ``{linear: [[0, 0.0], [10, 6.0]]}``, each value read by ``adapter``.

    Raises:
        ValueError: it is no curve, or a point has a value that the setting does not take; names the point.
    """
    shape, points = (given.shape, given.points) if isinstance(given, Curve) else _shape_and_points(given)
    if isinstance(points, Sequence) and not isinstance(points, str):
        points = [_read_point(f"{shape}, point {number}", point, adapter) for number, point in enumerate(points, 1)]
    try:
        return Curve(shape, points)
    except ValueError as problem:
        raise ValueError(f"{shape}, {problem}" if shape in SHAPES else str(problem)) from None


def _shape_and_points(given: Mapping[str, Any]) -> tuple[Any, Any]:
    if len(given) != 1:
        raise ValueError(f"expected one schedule over epochs, {{linear: [[epoch, value], ...]}}, got {dict(given)!r}")
    return next(iter(given.items()))


def _read_point(name: str, point: Any, adapter: TypeAdapter[Any]) -> Any:
    """The point with its value read; one of another form as it is, which ``Curve`` refuses."""
    if isinstance(point, str) or not isinstance(point, Sequence) or len(point) != 2:
        return point
    try:
        return point[0], adapter.validate_python(point[1])
    except ValidationError as failure:
        wrong = "; ".join(problem for _, problem in problems(failure, point[1]))
        raise ValueError(f"{name}: {wrong}") from None


def written(curve: Curve[Any], adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """``curve`` as a config writes it; reading that gives the curve again."""
    return {curve.shape: [[epoch, adapter.dump_python(value)] for epoch, value in curve.points]}
