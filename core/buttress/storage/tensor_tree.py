"""A state as a JSON text and a safetensors file: split, and joined again to the same state.

A state is a tree of dicts, lists and tuples with tensors and plain values at its leaves. Whatever would come back as
something else is refused, so that what is loaded is what was saved, the order of the keys of a dict included.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buttress.storage.tensor_file import DTYPES

TreePath = tuple[str, ...]
"""The keys that lead to a part of a state."""

# Deeper trees are refused: JSON is read by recursion.
_DEEPEST = 100
# Digits of the longest integer that is kept; Python reads none of more than 4300.
_LONGEST_INTEGER = 4000
_TOO_LARGE = 10**_LONGEST_INTEGER
_DTYPES = {*DTYPES.values(), torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2}
_PLAIN = (bool, int, float, str, type(None))

# Advice for each type whose values would be read back as another type.
_INSTEAD: dict[type, str] = {
    np.generic: "use value.item()",
    np.ndarray: "use torch.from_numpy(value)",
    set: "use sorted(value), a list",
    frozenset: "use sorted(value), a list",
    bytes: "use list(value), or a tensor of uint8",
    bytearray: "use list(value), or a tensor of uint8",
    Mapping: "use dict(value)",
    tuple: "use tuple(value)",
    list: "use list(value)",
    str: "use a plain str",
    int: "use int(value)",
    float: "use float(value)",
    complex: "use [value.real, value.imag]",
    torch.dtype: "use str(value)",
    torch.Generator: "use value.get_state()",
}


class StateError(TypeError):
    """A part of a state that would not come back as it is.

    Args:
        place: the keys that lead to it.
        reason: expected value, actual value, and the value to use instead.
    """

    def __init__(self, place: TreePath, reason: str) -> None:
        super().__init__(f"state at {'.'.join(('state', *place))}: {reason}")
        self.place, self.reason = place, reason


def split_tensors(tree: object) -> tuple[object, dict[str, Tensor]]:
    """A JSON-able tree and its tensors by name; the inverse of ``join_tensors``.

    Raises:
        StateError: a part that would not come back as it is; names its place.
    """
    splitter = _Splitter()
    return splitter.visit(tree, ()), splitter.tensors


class _Splitter:
    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._leaves: dict[int, dict[str, Any]] = {}

    def visit(self, node: object, place: TreePath) -> object:
        kind = type(node)
        if len(place) > _DEEPEST:
            raise StateError(place[:3], f"expected at most {_DEEPEST} levels; it is nested deeper, or holds itself")
        if isinstance(node, Tensor):
            return self._tensor(node, place)
        if kind is dict:
            return self._dict(node, place)  # type: ignore[arg-type]
        if kind is OrderedDict:
            return {"$ordered": self._items(node, place)}  # type: ignore[arg-type]
        if kind is list or kind is tuple:
            parts = [self.visit(value, (*place, str(number))) for number, value in enumerate(node)]  # type: ignore[arg-type,var-annotated]
            return parts if kind is list else {"$tuple": parts}
        if kind in _PLAIN:
            _expect_short(node, place)
            return node
        raise StateError(place, f"expected tensors and plain values, got {_described(node)}")

    def _dict(self, node: Mapping[object, object], place: TreePath) -> object:
        if all(type(key) is str and not key.startswith("$") for key in node):
            return dict(self._items(node, place))
        return {"$items": self._items(node, place)}

    def _items(self, node: Mapping[object, object], place: TreePath) -> list[list[Any]]:
        for key in node:
            if type(key) not in _PLAIN:
                raise StateError(place, f"expected plain values as keys, got {key!r}; use a list of pairs")
            _expect_short(key, place)
        return [[key, self.visit(value, (*place, str(key)))] for key, value in node.items()]

    def _tensor(self, node: Tensor, place: TreePath) -> dict[str, Any]:
        """The leaf of a tensor; one that stands in two places has one leaf, and comes back as one tensor."""
        if id(node) not in self._leaves:
            self._leaves[id(node)] = self._leaf(node, place)
        return self._leaves[id(node)]

    def _leaf(self, node: Tensor, place: TreePath) -> dict[str, Any]:
        _expect_storable(node, place)
        name = ".".join(("state", *place))
        while name in self.tensors:  # {"a.b": x} beside {"a": {"b": y}}
            name += "'"
        if node.is_contiguous():
            self.tensors[name] = node
            return {"$tensor": name}
        # Its memory has another order, on which the rounding of sums depends.
        strides = node.stride()
        order = sorted(range(node.dim()), key=lambda axis: -strides[axis])
        self.tensors[name] = node.permute(order)
        return {"$tensor": name, "order": order}


def join_tensors(tree: object, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that ``split_tensors`` took apart.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: it is no such tree, or a tensor is missing.
    """
    joined: dict[str, Tensor] = {}

    def tensor(leaf: Mapping[str, Any]) -> Tensor:
        name = leaf["$tensor"]
        if name not in joined:
            whole = tensors[name]
            joined[name] = whole.permute(_inverse(leaf["order"])) if "order" in leaf else whole
        return joined[name]

    def visit(node: object) -> Any:
        if isinstance(node, list):
            return [visit(value) for value in node]
        if not isinstance(node, dict):
            return node
        if "$tensor" in node:
            return tensor(node)
        for mark, make in _MARKS.items():
            if mark in node:
                return make(node[mark], visit)
        return {key: visit(value) for key, value in node.items()}

    return visit(tree)


_MARKS: dict[str, Callable[[Any, Callable[[object], Any]], Any]] = {
    "$items": lambda items, visit: {key: visit(value) for key, value in items},
    "$ordered": lambda items, visit: OrderedDict((key, visit(value)) for key, value in items),
    "$tuple": lambda parts, visit: tuple(visit(value) for value in parts),
}
"""Marks of dicts for which JSON has no type, with the functions that make the objects again."""


def _inverse(order: list[int]) -> list[int]:
    return [order.index(axis) for axis in range(len(order))]


def _described(node: object) -> str:
    kind = type(node)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    instead = next((cure for known, cure in _INSTEAD.items() if isinstance(node, known)), "")
    return f"{name}; {instead}" if instead else name


def _expect_storable(tensor: Tensor, place: TreePath) -> None:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise StateError(place, "expected a dense tensor with values, got one that is sparse, quantized or without any")
    if tensor.dtype not in _DTYPES:
        raise StateError(place, f"expected a dtype that safetensors files hold, got {tensor.dtype}")


def _expect_short(value: object, place: TreePath) -> None:
    """Refuse plain values that no file can hold."""
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        raise StateError(place, f"expected at most {_LONGEST_INTEGER:,} digits, got a longer integer")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise StateError(place, f"expected text that UTF-8 can hold, got {value!r}") from None
