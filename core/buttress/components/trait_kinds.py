"""Kinds of traits: the values that each takes, and the values by which a misspelt trait is recognized."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, get_args

from buttress.errors import nearest
from buttress.hookspecs import AttackMode, BatchTrait, ExitOrder


class TraitKind(Protocol):
    """The values of a trait."""

    def fault(self, value: Any, is_class: bool) -> str:
        """The reason why a trait cannot have ``value``, or nothing.

        Args:
            value: value of the attribute.
            is_class: whether it was read from the class, so that a method takes ``self``.
        """
        ...

    def resembles(self, value: Any, is_setting: bool) -> bool:
        """Whether ``value`` shows that an attribute with nearly the name of the trait is the trait, misspelt.

        Args:
            value: value of the attribute.
            is_setting: whether a setting of the plugin has the name of the attribute.
        """
        ...


@dataclass(frozen=True)
class MethodTrait:
    """A method that the core calls with these arguments, by position.

    Args:
        name: name of the trait.
        arguments: names of the arguments.
        may_yield: whether it may be a generator.
        any_name: whether the argument may have any name.
    """

    name: str
    arguments: tuple[str, ...] = ()
    may_yield: bool = False
    any_name: bool = False

    def fault(self, value: Any, is_class: bool) -> str:
        expected = f"expected a method {self.name}({', '.join(self.arguments)})"
        if not callable(value):
            return f"{expected}, got {value!r}"
        waits = inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)
        if waits or (inspect.isgeneratorfunction(value) and not self.may_yield):
            return f"{expected}, got one that is 'async' or has a yield: nothing in it would run"
        wrong = None if is_class else _wrong_signature(value, self.arguments)
        return f"{expected}, got {self.name}{wrong}" if wrong else ""

    def resembles(self, value: Any, is_setting: bool) -> bool:
        if not inspect.isfunction(value):
            return False
        names = tuple(inspect.signature(value).parameters)[1:]
        return names == self.arguments or (self.any_name and len(names) == len(self.arguments))


@dataclass(frozen=True)
class ClassTrait(MethodTrait):
    """A class method or a static method that the core calls with these arguments, by position, before any object is."""

    def fault(self, value: Any, is_class: bool) -> str:
        fault = super().fault(value, is_class=False)  # a plain method of a class wants its ``self`` beside them
        return f"{fault}, a class method or a static method" if fault else ""

    def resembles(self, value: Any, is_setting: bool) -> bool:
        function = getattr(value, "__func__", value)
        names = tuple(inspect.signature(function).parameters) if inspect.isfunction(function) else ()
        return names[-len(self.arguments) :] == self.arguments


def _wrong_signature(method: Callable[..., object], arguments: tuple[str, ...]) -> str | None:
    """The signature of a method that cannot be called with ``arguments``, or takes them in another order."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # compiled code
        return None
    try:
        bound = signature.bind(*arguments)
    except TypeError:
        return str(signature)
    swapped = any(name in arguments and value in arguments and name != value for name, value in bound.arguments.items())
    return str(signature) if swapped else None


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    words: tuple[str, ...]

    def fault(self, value: Any, is_class: bool) -> str:
        if value in self.words:
            return ""
        hint = nearest(value, self.words).partition("; known")[0] if isinstance(value, str) else ""
        return f"expected one of {', '.join(self.words)}, got {value!r}{hint}"

    def resembles(self, value: Any, is_setting: bool) -> bool:
        return isinstance(value, str) and (not is_setting or value in self.words)


class FlagTrait:
    """True or False."""

    def fault(self, value: Any, is_class: bool) -> str:
        return "" if isinstance(value, bool) else f"expected True or False, got {value!r}"

    def resembles(self, value: Any, is_setting: bool) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class ClassCount:
    """A number of classes.

    Args:
        least: smallest value.
    """

    least: int

    def fault(self, value: Any, is_class: bool) -> str:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= self.least
        return "" if good else f"expected an integer >= {self.least}, got {value!r}"

    def resembles(self, value: Any, is_setting: bool) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and not is_setting


class PositiveNumber:
    """A finite number above zero."""

    def fault(self, value: Any, is_class: bool) -> str:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        return "" if is_number and 0 < value < math.inf else f"expected a finite number > 0, got {value!r}"

    def resembles(self, value: Any, is_setting: bool) -> bool:
        return isinstance(value, Real) and not isinstance(value, bool) and not is_setting


class BatchTraits:
    """Words about batches."""

    def fault(self, value: Any, is_class: bool) -> str:
        if not isinstance(value, (tuple, list, set, frozenset)):
            return f"expected a tuple of words like ('soft labels',), got {value!r}"
        return _batch_traits_fault(value)

    def resembles(self, value: Any, is_setting: bool) -> bool:
        return isinstance(value, (str, tuple, list, set, frozenset)) and all(isinstance(each, str) for each in value)


@dataclass(frozen=True)
class Reasons:
    """Words about batches, each with a reason.

    Args:
        verb: verb for messages, in front of a word: ``refuses``.
    """

    verb: str

    def fault(self, value: Any, is_class: bool) -> str:
        if not isinstance(value, Mapping):
            return f"expected words with reasons, like {{'soft labels': 'why'}}, got {value!r}"
        for word, reason in value.items():
            if not isinstance(reason, str) or not reason.strip():
                return f"expected the reason why it {self.verb} {word!r}, got {reason!r}"
        return _batch_traits_fault(value)

    def resembles(self, value: Any, is_setting: bool) -> bool:
        return isinstance(value, (str, tuple, list, Mapping)) and all(isinstance(each, str) for each in value)


def _batch_traits_fault(words: Iterable[object]) -> str:
    return next(filter(None, map(_batch_trait_fault, words)), "")


def _batch_trait_fault(word: object) -> str:
    """A word is one that all plugins know, or it begins with the distribution that it belongs to."""
    known = get_args(BatchTrait)
    if word in known or (isinstance(word, str) and all(word.partition(":"))):
        return ""
    hint = nearest(word, known) if isinstance(word, str) else f"; known: {', '.join(known)}"
    return f"unknown word {word!r}{hint} (a word of your own has a colon: 'my-dist:pairs')"


class Name:
    """A name."""

    def fault(self, value: Any, is_class: bool) -> str:
        return "" if isinstance(value, str) and value else f"expected a name, got {value!r}"

    def resembles(self, value: Any, is_setting: bool) -> bool:
        return isinstance(value, str) and not is_setting


class Version(Name):
    """A version, as text or as a number."""

    def fault(self, value: Any, is_class: bool) -> str:
        good = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        return "" if good else f"expected a version like '1.0', got {value!r}"


KINDS: dict[str, TraitKind] = {
    "name": Name(),
    "hookspec": Version(),
    "exit_order": OneOf(get_args(ExitOrder)),
    "writes_back": FlagTrait(),
    "gives": BatchTraits(),
    "refuses": Reasons("refuses"),
    "needs": Reasons("needs"),
    "takes": BatchTraits(),
    "attack_mode": OneOf(get_args(AttackMode)),
    "radius": PositiveNumber(),
    "input_grad": FlagTrait(),
    "masked_loss": MethodTrait("masked_loss", ("model", "batch", "adv", "c_min", "inclusive")),
    "forwards": MethodTrait("forwards", ("examples",)),
    "notes": MethodTrait("notes", ("epochs", "steps_per_epoch"), may_yield=True),
    "example": ClassTrait("example", ("folder", "model", "batch")),
    "state_dict": MethodTrait("state_dict"),
    "load_state_dict": MethodTrait("load_state_dict", ("state",), any_name=True),
}
"""Name of a trait to its kind."""
