"""The attributes by which a plugin declares what it is like: read once, names and values checked. Loads no torch.

``hookspecs.Traits`` says which there are and what each means.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from types import FunctionType
from typing import Any, get_args

from buttress.components.members import attributes_of, hooks_in
from buttress.errors import PluginError, nearest
from buttress.hookspecs import AttackMode, BatchTrait, ExitOrder, Traits

TRAITS = tuple(each.name for each in fields(Traits))
"""Names of all traits."""
_METHODS: dict[str, tuple[str, ...]] = {
    "masked_loss": ("model", "batch", "adv", "c_min", "inclusive"),
    "forwards": ("examples",),
    "notes": ("epochs", "steps_per_epoch"),
    "state_dict": (),
    "load_state_dict": ("state",),
}
"""Traits that are methods, and the arguments that the core calls them with, by position."""
_WORDS: dict[str, tuple[str, ...]] = {"exit_order": get_args(ExitOrder), "attack_mode": get_args(AttackMode)}
"""Traits that are one of a few words."""
_UNKNOWN = object()


def traits_of(plugin: Any, who: str) -> Traits:
    """What a plugin, or as far as it can be told its class, declares.

    Args:
        plugin: an object, or a class.
        who: names it in messages.

    Raises:
        PluginError: an attribute has a value that its trait does not take, or nearly the name of a trait.
    """
    _expect_no_near_miss(plugin, who)
    found = {name: value for name in TRAITS if (value := _value(plugin, name, who)) is not _UNKNOWN}
    for name, value in found.items():
        fault = _fault(name, value, is_class=inspect.isclass(plugin))
        if fault:
            raise PluginError(f"{who}: {name}: {fault}")
    if ("state_dict" in found) != ("load_state_dict" in found):
        has, lacks = ("state_dict", "load_state_dict")[:: 1 if "state_dict" in found else -1]
        raise PluginError(f"{who} has {has} and no {lacks}: its runs could not be resumed; write both")
    return Traits(**found)


def declared_name(cls: type) -> str | None:
    """The trait ``name`` of a class, where it is one."""
    name = inspect.getattr_static(cls, "name", None)
    return name if isinstance(name, str) and name else None


def _value(plugin: Any, name: str, who: str) -> Any:
    """An attribute that is there: what ``__getattr__`` makes up is none, and None says as much as nothing."""
    static = inspect.getattr_static(plugin, name, None)
    if static is None or (inspect.isclass(plugin) and _is_computed(static)):
        return _UNKNOWN
    try:
        value = getattr(plugin, name)
    except Exception as problem:
        raise PluginError(f"{who}: {name} cannot be read: {type(problem).__name__}: {problem}") from problem
    return _UNKNOWN if value is None else value


def _is_computed(static: object) -> bool:
    """Whether a member of a class is a property, a slot or the like, whose value an object alone has."""
    return hasattr(type(static), "__get__") and not isinstance(static, (FunctionType, staticmethod, classmethod))


def _fault(name: str, value: Any, *, is_class: bool) -> str:
    """What is wrong with the value of a trait; nothing where all is well."""
    if name in _METHODS:
        return _method_fault(name, value, is_class)
    if name in _WORDS:
        return _word_fault(value, _WORDS[name])
    if name == "writes_back":
        return "" if isinstance(value, bool) else f"expected True or False, got {value!r}"
    if name == "gives":
        return _gives_fault(value)
    if name == "refuses":
        return _refuses_fault(value)
    if name == "hookspec":
        good = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        return "" if good else f"expected a version like '1.0', got {value!r}"
    return "" if isinstance(value, str) and value else f"expected a name, got {value!r}"


def _word_fault(value: object, words: tuple[str, ...]) -> str:
    if value in words:
        return ""
    hint = nearest(value, words).partition("; known")[0] if isinstance(value, str) else ""
    return f"expected one of {', '.join(words)}, got {value!r}{hint}"


def _gives_fault(value: object) -> str:
    if not isinstance(value, (tuple, list, set, frozenset)):
        return f"expected a tuple of words like ('soft labels',), got {value!r}"
    return next(filter(None, map(_batch_trait_fault, value)), "")


def _refuses_fault(value: object) -> str:
    if not isinstance(value, Mapping):
        return f"expected words with reasons, like {{'soft labels': 'why'}}, got {value!r}"
    for word, reason in value.items():
        if not isinstance(reason, str) or not reason.strip():
            return f"expected the reason why it refuses {word!r}, got {reason!r}"
    return next(filter(None, map(_batch_trait_fault, value)), "")


def _batch_trait_fault(word: object) -> str:
    """A word is one that all plugins know, or one that names the distribution which it belongs to."""
    known = get_args(BatchTrait)
    if word in known or (isinstance(word, str) and all(word.partition(":"))):
        return ""
    hint = nearest(word, known) if isinstance(word, str) else f"; known: {', '.join(known)}"
    return f"unknown word {word!r}{hint} (a word of your own has a colon: 'my-dist:pairs')"


def _method_fault(name: str, value: Any, is_class: bool) -> str:
    arguments = _METHODS[name]
    expected = f"expected a method {name}({', '.join(arguments)})"
    if not callable(value):
        return f"{expected}, got {value!r}"
    waits = inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)
    if waits or (inspect.isgeneratorfunction(value) and name != "notes"):
        return f"{expected}, got one that is 'async' or has a yield: nothing in it would run"
    wrong = None if is_class else _wrong_arguments(value, arguments)
    return f"{expected}, got {name}{wrong}" if wrong else ""


def _wrong_arguments(method: Callable[..., object], arguments: tuple[str, ...]) -> str | None:
    """The signature of a method that cannot be called with ``arguments``, or calls them in another order."""
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


# Names that are nearly those of traits


def _expect_no_near_miss(plugin: Any, who: str) -> None:
    settings = _settings_of(plugin if inspect.isclass(plugin) else type(plugin))
    for name, value in _declared(plugin):
        trait = next((each for each in TRAITS if _is_near(name, each)), None)
        if trait and _could_be(trait, value, name in settings):
            raise PluginError(f"{who}: unknown attribute {name!r}; did you mean {trait!r}? (else call it otherwise)")


def _declared(plugin: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of the public attributes of an object and of its classes, as they stand there.

    Left out is what a class without hooks of somebody else's asks for: ``forward`` of ``torch.nn.Module``.
    """
    cls = plugin if inspect.isclass(plugin) else type(plugin)
    home = cls.__module__.partition(".")[0]
    own = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == home or hooks_in(base)]
    others = {name for base in cls.__mro__ if base not in own for name in vars(base)}
    seen = {name: value for base in reversed(own) for name, value in vars(base).items()}
    if plugin is not cls:
        seen |= attributes_of(plugin)
    for name, value in seen.items():
        if not name.startswith("_") and name not in others and name not in TRAITS:
            yield name, value


def _settings_of(cls: type) -> set[str]:
    try:
        return set(inspect.signature(cls).parameters)
    except (TypeError, ValueError):
        return set()


def _could_be(trait: str, value: Any, is_setting: bool) -> bool:
    """Whether a value is such as the trait has: it tells a misspelt trait from an attribute of another meaning."""
    if trait in _METHODS:
        return _is_method(value, _METHODS[trait])
    if trait in _WORDS:
        return isinstance(value, str) and (not is_setting or value in _WORDS[trait])
    if trait == "writes_back":
        return isinstance(value, bool)
    if trait == "gives":
        return isinstance(value, (str, tuple, list, set, frozenset)) and all(isinstance(each, str) for each in value)
    if trait == "refuses":
        return isinstance(value, (str, tuple, list, Mapping)) and all(isinstance(each, str) for each in value)
    return isinstance(value, str) and not is_setting


def _is_method(value: Any, arguments: tuple[str, ...]) -> bool:
    """Whether it is a method that is written with these very arguments, the only one whatever its name."""
    if not inspect.isfunction(value):
        return False
    names = tuple(inspect.signature(value).parameters)[1:]
    return names == arguments or (len(names) == 1 and arguments == _METHODS["load_state_dict"])


def _is_near(name: str, trait: str) -> bool:
    """Equal but for capitals and underscores, or for a slip or two of the fingers in a long name."""
    one, two = (word.replace("_", "").lower() for word in (name, trait))
    if len(two) < _SHORT:  # another letter makes another word of it: given, lives, same
        return one == two or (_distance(one, two, change=2) == 1 and (len(two) == len(one) or len(two) > 4))
    return _distance(one, two) <= (1 if len(two) < _LONG else 2)


# Letters of a word.
_SHORT, _LONG = 6, 9


def _distance(one: str, two: str, change: int = 1) -> int:
    """Letters to be left out, put in, changed or swapped with their neighbour to make one word the other."""
    before: list[int] = []
    row = list(range(len(two) + 1))
    for i, letter in enumerate(one, 1):
        before, above, row = row, before, [i]
        for j, other in enumerate(two, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + change * (letter != other)))
            if i > 1 and j > 1 and letter == two[j - 2] and one[i - 2] == other:
                row[j] = min(row[j], above[j - 2] + 1)
    return row[-1]
