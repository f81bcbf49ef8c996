"""Settings: documented, bounded, checked, and each instance's own."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from types import NoneType
from typing import Any

from buttress.components.construct import construct
from buttress.components.members import attributes_of
from buttress.components.per_epoch import curve_in
from buttress.components.place import Place
from buttress.components.plain import plain
from buttress.components.signature import documentation_of, settings_model, signature_of
from buttress.components.sources import HOOKED
from buttress.epochs import Curve
from buttress.errors import ButtressError, ConfigError, PluginError, describe
from buttress.testing.promise import Broken, expect, rule
from buttress.testing.subject import Subject, differing, outcome, train
from buttress.testing.use import use

# Beyond what any setting means: a learning rate, a radius, a number of steps, an epoch.
_HUGE = 10**30
# Characters of a line under Args.
_SHORTEST = 3

setting = partial(rule, kinds=HOOKED, presumes=())  # of every kind, whether it can be run or not


@setting("the class has a docstring, and the module says where the method comes from")
def documented_source(subject: Subject) -> None:
    module = inspect.getmodule(subject.component)
    expect(bool(inspect.getdoc(subject.component)), "the class has no docstring; say what the plugin does")
    expect(bool(module and inspect.getdoc(module)), "its module has no docstring; name the method and its source")


@setting("every setting is documented under Args, and nothing else is")
def documented_settings(subject: Subject) -> None:
    documented = documentation_of(subject.component)
    expected = [parameter.name for parameter in signature_of(subject.component)]
    missing = [name for name in expected if name not in documented]
    expect(not missing, f"no line under Args for: {', '.join(missing)}")
    short = [f"{name}: {documented[name]!r}" for name in expected if len(documented[name]) < _SHORTEST]
    expect(not short, f"a line under Args that says nothing: {', '.join(short)}; write what the setting means")
    extra = [name for name in documented if name not in expected]
    expect(not extra, f"Args documents settings that do not exist: {', '.join(extra)}")


@setting("every default passes the check of its own setting")
def valid_defaults(subject: Subject) -> None:
    schema = _schema(subject)
    required = set(schema.get("required", ()))
    given = {key: value for key, value in subject.settings.items() if key in required}
    construct(subject.component, given, Place(subject.name), subject.given)
    wrong = []
    for parameter in signature_of(subject.component):
        if parameter.name in subject.given or parameter.default is inspect.Parameter.empty:
            continue
        plain = schema["properties"][parameter.name].get("default", parameter.default)
        if _accepts(subject, {**given, parameter.name: plain}) is not None:
            wrong.append(f"{parameter.name} = {plain!r}")
    expect(not wrong, f"a config that writes these defaults out is refused: {', '.join(wrong)}")


@setting("every number has a bound: a huge value is refused, on one side at least")
def bounded_settings(subject: Subject) -> None:
    loose = [name for name, huge in _numbers(subject) if _is_loose(subject, name, huge)]
    expect(
        not loose,
        f"{', '.join(loose)}: {_HUGE:.0e} and its negative are both accepted; bound it: Annotated[float, Ge(0)], or "
        "raise ValueError in __init__",
    )


@setting("a value of a wrong kind is refused by the setting's name, and so are unknown settings")
def refuses_bad_settings(subject: Subject) -> None:
    names = [parameter.name for parameter in signature_of(subject.component) if parameter.name not in subject.given]
    for name, value in [("no_such_setting", 1), *((name, value) for name in names for value in (object(), {"a": [1]}))]:
        refusal = _accepts(subject, {**subject.settings, name: value})
        expect(refusal is not None, f"{name}: {value!r} was accepted; annotate the setting with what it may be")
        expect(name in str(refusal), f"{name}: {value!r} was refused without the setting's name: {refusal}")


@rule(
    "a schedule over epochs that is constant trains as its value does",
    lambda subject: bool(_scheduled(subject)),
)
def follows_schedules(subject: Subject) -> None:
    values = _scheduled(subject)
    outcomes = []
    for given in (values, {name: {"piecewise": [[0, value]]} for name, value in values.items()}):
        other = subject.with_settings({**subject.settings, **given})
        with other.scratch() as scratch:
            outcomes.append(outcome(train(other.engine(scratch), 1)))
    changed = differing(*outcomes)
    expect(
        not changed,
        f"{', '.join(values)}: {', '.join(changed)} differ; in each hook, read such a setting by ctx.value(self.NAME)",
    )


@setting("two instances share nothing and are not equal")
def own_instances(subject: Subject) -> None:
    one, two = subject.plugin().plugin, subject.plugin().plugin
    expect(one is not two, "the same object twice")
    expect(one != two, "two instances are equal; leave out __eq__ (a dataclass: eq=False)")
    others = attributes_of(two)
    shared = [
        name
        for name, value in attributes_of(one).items()
        if isinstance(value, (dict, list, set)) and value is others.get(name) and not _is_default(subject, value)
    ]
    expect(not shared, f"two instances share {', '.join(shared)}; make it in __init__")


def _schema(subject: Subject) -> dict[str, Any]:
    return settings_model(subject.component, frozenset(subject.given)).model_json_schema()


def _accepts(subject: Subject, settings: dict[str, Any]) -> Exception | None:
    """The error that the plugin raises at ``settings``; None where it takes them.

    Raises:
        Broken: something else than an error of buttress: the user would see a traceback.
    """
    try:
        construct(subject.component, settings, Place(subject.name), subject.given)
    except (ConfigError, PluginError) as refusal:
        return refusal
    except Exception as error:
        raise Broken(
            f"settings {settings} raise {describe(error, subject.component)}; annotate what a setting may be, or raise "
            "ValueError in __init__"
        ) from error
    return None


def _is_loose(subject: Subject, name: str, huge: float) -> bool:
    """Whether both ``huge`` and its negative are accepted, the latter by a training step too.

    A training step refuses what depends on the model or the threat model. The positive one is not trained with: a
    number of steps would never end.
    """
    low, high = ({**subject.settings, name: value} for value in (-huge, huge))
    if _accepts(subject, low) is not None or _accepts(subject, high) is not None:
        return False
    with subject.scratch() as scratch:
        try:
            use(subject.with_settings(low), scratch, 1)
        except ButtressError:
            return False
    return True


def _numbers(subject: Subject) -> Iterator[tuple[str, float]]:
    """The settings that are numbers, each with a huge value of its kind."""
    for name, entry in _schema(subject).get("properties", {}).items():
        for kind in (entry, *entry.get("anyOf", ())):
            types = kind.get("type", ())
            if "number" in types:
                yield name, float(_HUGE)
                break
            if "integer" in types:
                yield name, _HUGE
                break


def _scheduled(subject: Subject) -> dict[str, Any]:
    """The settings that may change over the epochs and are given a plain value, by name."""
    given = {
        parameter.name: subject.settings.get(parameter.name, parameter.default)
        for parameter in signature_of(subject.component)
        if curve_in(parameter.annotation)
    }
    return {name: plain(value) for name, value in given.items() if not isinstance(value, (NoneType, Curve, Mapping))}


def _is_default(subject: Subject, value: object) -> bool:
    """Whether it is the default of a setting: read, and written by nobody."""
    return any(parameter.default is value for parameter in signature_of(subject.component))
