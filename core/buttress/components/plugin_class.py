"""Examine the class of a plugin: every hook has to be a plain method with known arguments.

pluggy silently ignores members that are no plain methods, leaves out every argument that has a default, and runs no
generator that is not marked as a wrapper. Each of these is refused here. Loads no torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from buttress import hookspecs
from buttress.components.members import Marked, attributes_of, mark_of, marked
from buttress.components.traits import traits_of
from buttress.errors import PluginError, line_of, nearest
from buttress.hookspecs import CHAIN, HOOKS, SPEC_VERSION

if TYPE_CHECKING:
    from buttress.components.sources import Source


def check_class(component: Any, source: Source | None = None) -> None:
    """Refuse a class, or an object, that cannot be a plugin.

    Raises:
        PluginError: another hook specification, no hook, a misspelled hook, a hook without ``@hookimpl``, a hook that
            asks to be called first or last, a hook that would not be called, or not with all of its arguments; for a
            class also a wrong trait (``traits_of`` refuses it for an object).
    """
    cls = component if inspect.isclass(component) else type(component)
    who = f"plugin {source.name!r} from {source}" if source else f"plugin {cls.__qualname__}"
    # Before all traits are read: those of another hook specification may be others, and mean something else.
    if fault := _version_fault(str(getattr(cls, "hookspec", None) or SPEC_VERSION), source):
        raise PluginError(f"{who} {fault}", place=line_of(cls, "hookspec"))
    hooks = marked(cls)
    names = {hook.name for hook in hooks}
    for name in sorted(HOOKS - names):
        member = inspect.getattr_static(cls, name, None)
        if callable(member) or hasattr(type(member), "__get__"):
            raise PluginError(
                f"{who}: method {name} is named like a hook but not marked; put @hookimpl above it",
                place=line_of(cls, name),
            )
    for hook in hooks:
        _check_hook(who, hook)
    if not hooks:
        close = [name for name in vars(cls) if get_close_matches(name, HOOKS, n=1, cutoff=0.7)]
        hint = f"; {close[0]!r} looks like one{nearest(close[0], HOOKS)}" if close else ""
        raise PluginError(f"{who} implements no hook{hint} (a hook is a method marked @hookimpl)", place=line_of(cls))
    if component is cls:
        traits_of(cls, who)
    else:
        _expect_nothing_hidden(who, component, names)


def shape_fault(member: Any) -> str:
    """The reason why a member of a class is no plain method that runs when it is called, or nothing."""
    if not inspect.isfunction(member):
        return f"it is a {type(member).__name__} and no plain method; write def ...(self, ...)"
    if inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member):
        return "it is 'async', and nobody awaits it; write def in the place of async def"
    return ""


def method_parameters(method: Callable[..., object]) -> list[inspect.Parameter]:
    """The parameters of a plain method of a class, ``self`` first.

    Raises:
        ValueError: its signature cannot be read, or it has none.
    """
    try:
        parameters = list(inspect.signature(method).parameters.values())
    except (TypeError, ValueError):
        raise ValueError("its signature cannot be read; write a method in Python that calls it") from None
    if not parameters:
        raise ValueError("expected self as the first argument, got none")
    return parameters


def _version_fault(version: str, source: Source | None) -> str:
    """The end of a sentence about a plugin written for ``version`` of the hooks, or nothing where it runs here."""
    major, _, minor = version.partition(".")
    own_major, _, own_minor = SPEC_VERSION.partition(".")
    fault = f"is written for hook specification {version}, this is {SPEC_VERSION}; install "
    if major == own_major and minor.isdecimal() and int(minor) > int(own_minor):
        return f"{fault}a newer buttress"
    if major != own_major or not (minor or "0").isdecimal():
        return f"{fault}another version of {source.distribution if source else 'the plugin'}"
    return ""


_ARGUMENTS = {hook: list(inspect.signature(getattr(hookspecs, hook)).parameters) for hook in HOOKS}


def _check_hook(who: str, hook: Marked) -> None:
    if hook.hook not in HOOKS:
        message = f"{who}: {hook.hook!r} is not a hook{nearest(hook.hook, HOOKS)}"
    elif fault := _hook_fault(hook):
        message = f"{who}, hook {hook.hook}: {fault}"
    else:
        return
    raise PluginError(message, place=line_of(hook.member))


def _hook_fault(hook: Marked) -> str:
    if hook.options["tryfirst"] or hook.options["trylast"]:
        return "tryfirst and trylast are refused; order is the config's"
    if hook.options["hookwrapper"]:
        return "old-style wrapper; write @hookimpl(wrapper=True)"
    return (
        shape_fault(hook.member)
        or _yield_fault(hook.hook, hook.options["wrapper"], hook.member)
        or _argument_fault(hook.hook, hook.member)
    )


def _yield_fault(hook: str, wrapper: bool, method: Callable[..., object]) -> str:
    if wrapper and hook in CHAIN:
        return f"{hook} is a chain hook; only exclusive hooks are wrapped"
    if wrapper == inspect.isgeneratorfunction(method):
        return ""
    if wrapper:
        return "it is marked as a wrapper and has no yield; write answer = yield, then return answer"
    fault = "it has a yield and is not marked as a wrapper, so that nothing in it would run"
    if hook in CHAIN:
        return f"{fault}; leave the yield out"
    manager = ", or @contextmanager below @hookimpl" if hook == "perturb_weights" else ", or return the answer"
    return f"{fault}; write @hookimpl(wrapper=True){manager}"


def _argument_fault(hook: str, method: Callable[..., object]) -> str:
    try:
        own, *parameters = method_parameters(method)
    except ValueError as problem:
        return str(problem)
    known = _ARGUMENTS[hook]
    if own.name != "self":
        return f"expected self as the first argument, got {own.name!r}"
    for parameter in parameters:
        name, kind = parameter.name, parameter.kind
        if kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return f"{parameter} would stay empty; name the arguments that it needs, of {', '.join(known)}"
        if name not in known:
            return (
                f"unknown argument {name!r}{nearest(name, known)} (the hook has {', '.join(known)}; leave out what is "
                "not needed)"
            )
        if parameter.default is not parameter.empty:
            return f"argument {name!r} has a default, and would always have it; write {name} without '= ...'"
        if kind is parameter.KEYWORD_ONLY:
            return f"argument {name!r} stands after a '*', and arguments are passed by position; leave the '*' out"
    return ""


def _expect_nothing_hidden(who: str, plugin: Any, names: set[str]) -> None:
    """Refuse an attribute of the object that hides a hook of its class, or that is meant as a hook."""
    for name, value in attributes_of(plugin).items():
        if name in names:
            raise PluginError(
                f"{who}: the attribute {name!r} of the object hides the hook; give it another name",
                place=line_of(plugin, name),
            )
        if mark_of(value) or (name in HOOKS and callable(value)):
            raise PluginError(
                f"{who}: {name!r} is set on the object; a hook is a marked method of the class",
                place=line_of(plugin, name),
            )
